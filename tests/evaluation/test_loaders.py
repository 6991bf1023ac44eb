"""Truth files: what is read, and what is said of bad ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import POSES, name_of, write_aflw2000, write_image, write_pts
from scipy.io import loadmat, savemat

from sadr_cli.errors import InputError, MissingDataError
from sadr_cli.evaluation.benchmarks import reading
from sadr_cli.evaluation.data import aflw2000, lm300w
from sadr_cli.evaluation.data.benchmark import read_image
from sadr_cli.evaluation.settings import Settings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_aflw2000(tmp_path / "data")
    return tmp_path / "data"


def test_landmarks_and_angles_are_read_in_order_of_names(data):
    b = aflw2000.load(data)
    assert b.names == tuple(name_of(i) for i in range(6))
    assert b.landmarks.shape == (6, 68, 3)
    np.testing.assert_allclose(b.angles, POSES, atol=1e-4)
    names = "".join(f"{n}\n" for n in b.names)
    assert b.list_sha256 == hashlib.sha256(names.encode()).hexdigest()
    assert b.reannotated is None
    assert b.yaw_new is None


def test_the_folder_comes_from_the_environment(data, monkeypatch):
    monkeypatch.setenv("SADR_DATA", str(data.parent))
    data.rename(data.parent / "AFLW2000-3D")
    assert len(aflw2000.load()) == 6
    monkeypatch.delenv("SADR_DATA")
    with pytest.raises(MissingDataError, match=r"get AFLW2000-3D.*side by side.*SADR_DATA"):
        aflw2000.load()


def test_the_folder_inside_the_published_archive_is_found(data, tmp_path):
    outer = tmp_path / "archive"
    outer.mkdir()
    data.rename(outer / "AFLW2000")
    assert len(aflw2000.load(outer)) == 6


def test_a_missing_mat_is_an_error_unless_allowed(data):
    (data / f"{name_of(2)}.mat").unlink()
    with pytest.raises(MissingDataError, match=r"image00002.jpg has no image00002.mat.*--allow"):
        aflw2000.load(data)
    b = aflw2000.load(data, allow_missing=True)
    assert len(b) == 5
    assert list(b.excluded) == [name_of(2)]


def test_a_missing_image_matters_only_to_the_network(data):
    (data / f"{name_of(1)}.jpg").unlink()
    with pytest.raises(MissingDataError, match=r"image00001.mat has no image"):
        aflw2000.load(data)
    assert len(aflw2000.load(data, need_images=False)) == 6


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _change(key: str, value: object):
    def change(path: Path) -> None:
        content = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
        if value is None:
            del content[key]
        else:
            content[key] = value
        savemat(path, content)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "damaged or not a MATLAB"),
        (_change("pt3d_68", None), "has no pt3d_68"),
        (_change("pt3d_68", np.zeros((3, 67))), r"pt3d_68 must be \(3, 68\), not \(3, 67\)"),
        (_change("pt3d_68", np.full((3, 68), np.nan)), "not finite"),
        (_change("Pose_Para", np.zeros((1, 6))), "Pose_Para must have 7 values, not 6"),
        (_change("Shape_Para", np.zeros((60, 1))), "Shape_Para must have 199 values"),
    ],
)
def test_a_bad_mat_is_named_with_its_fault(data, damage, message):
    damage(data / f"{name_of(3)}.mat")
    with pytest.raises(MissingDataError, match=f"image00003.mat.*{message}"):
        aflw2000.load(data)


def test_the_second_truth_of_3ddfas_arrays(data):
    first = aflw2000.load(data)
    points = first.landmarks.transpose(0, 2, 1)[:, :2] + 1
    np.save(data / aflw2000.REANNOTATED_NPY, points.astype(np.float32))
    np.save(data / aflw2000.YAW_NEW_NPY, np.arange(6.0))
    b = aflw2000.load(data)
    np.testing.assert_allclose(b.reannotated, first.landmarks[..., :2] + 1, atol=1e-4)
    assert b.yaw_new.tolist() == [0, 1, 2, 3, 4, 5]
    # one image left out must not shift the rows of the others
    (data / f"{name_of(0)}.mat").unlink()
    assert aflw2000.load(data, allow_missing=True).yaw_new.tolist() == [1, 2, 3, 4, 5]


def test_arrays_of_the_wrong_length_are_refused(data):
    np.save(data / aflw2000.YAW_NEW_NPY, np.zeros(2000))
    with pytest.raises(MissingDataError, match=r"must be \(6\).*not \(2000,\)"):
        aflw2000.load(data)


def test_a_second_truth_by_name(data):
    names = [name_of(i) for i in reversed(range(6))]
    np.savez(
        data / "reannotated.npz",
        name=names,
        pts68=np.arange(6)[:, None, None] * np.ones((6, 2, 68)),
        yaw_new=np.arange(6.0),
    )
    b = aflw2000.load(data)
    assert b.yaw_new.tolist() == [5, 4, 3, 2, 1, 0]
    assert b.reannotated[0, 0, 0] == 5
    np.savez(data / "reannotated.npz", name=names[1:], pts68=np.ones((5, 2, 68)), yaw_new=[0] * 5)
    with pytest.raises(MissingDataError, match="no entry for image00005"):
        aflw2000.load(data)
    assert np.isnan(aflw2000.load(data, allow_missing=True).yaw_new[5])


@pytest.mark.parametrize("header", [True, False])
def test_pts_of_both_styles(tmp_path, header):
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    write_pts(tmp_path / "a.pts", points, header)
    np.testing.assert_allclose(lm300w.read_pts(tmp_path / "a.pts"), points, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n" * 67, "has 67 points, not 68"),
        (
            "version: 1\nn_points: 68\n{\n" + "1 2\n" * 60 + "}\n",
            "has 60 points, but its header says 68",
        ),
        ("1 2\n" * 67 + "1 x\n", "line 68: two numbers expected"),
        ("1 2\n" * 67 + "nan 3\n", "not finite"),
        ("", "has 0 points"),
    ],
)
def test_a_bad_pts_is_named_with_its_fault(tmp_path, text, message):
    (tmp_path / "a.pts").write_text(text)
    with pytest.raises(MissingDataError, match=f"a.pts.*{message}"):
        lm300w.read_pts(tmp_path / "a.pts")


def test_300w_folders_become_groups_and_the_origin_can_be_one(tmp_path):
    points = np.random.default_rng(0).uniform(10, 90, (68, 2))
    for name in ("ibug/a", "helen/b"):
        (tmp_path / name).parent.mkdir()
        write_pts(tmp_path / f"{name}.pts", points, header=True)
        write_image(tmp_path / f"{name}.png")
    b = lm300w.load(tmp_path)
    assert b.names == ("helen/b", "ibug/a")
    assert b.groups == ("helen", "ibug")
    shifted = lm300w.load(tmp_path, origin=1)
    np.testing.assert_allclose(b.landmarks - shifted.landmarks, 1)


def test_any_folder_is_read_by_its_format(data, tmp_path):
    settings = Settings(str(data))
    assert reading(data).load(data, settings).dimensions == 3
    other = tmp_path / "other"
    other.mkdir()
    write_pts(other / "x.pts", np.random.default_rng(0).uniform(0, 9, (68, 2)), header=False)
    write_image(other / "x.jpg")
    assert reading(other).load(other, settings).dimensions == 2
    (other / "x.pts").unlink()
    with pytest.raises(MissingDataError, match="no landmarks in"):
        reading(other)


def test_a_truncated_picture_is_not_half_a_picture(tmp_path):
    write_image(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.jpg cannot be read"):
        read_image(tmp_path / "a.jpg")
