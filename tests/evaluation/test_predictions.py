from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import benchmark_of, name_of, true_faces, write_predictions

from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data import predictions

FACES = true_faces()
BENCHMARK = benchmark_of(FACES)


def test_rows_are_found_by_name_with_suffix_and_folder(tmp_path):
    names = [f"AFLW2000/{name_of(i)}.jpg" for i in reversed(range(6))]
    path = write_predictions(tmp_path / "p.npz", FACES[::-1], names, dense=True)
    found = predictions.load(path, BENCHMARK)
    np.testing.assert_allclose(found.landmarks, BENCHMARK.landmarks)
    np.testing.assert_allclose(found.vertices[2], FACES[2].vertices)
    assert found.extra == ()
    assert len(found.details["sha256"]) == 64


def test_partial_coverage_is_an_error_unless_allowed(tmp_path):
    path = write_predictions(tmp_path / "p.npz", FACES[:4])
    with pytest.raises(
        MissingDataError, match=r"no prediction for image00004.*1 more of 6.*--allow"
    ):
        predictions.load(path, BENCHMARK)
    found = predictions.load(path, BENCHMARK, allow_missing=True)
    assert found.missing.tolist() == [False] * 4 + [True] * 2
    assert list(found.reasons) == [name_of(4), name_of(5)]


def test_nan_is_an_error_unless_allowed(tmp_path):
    bad = FACES[1].landmarks.copy()
    bad[3] = np.nan
    path = write_predictions(
        tmp_path / "p.npz", [FACES[0], replace(FACES[1], landmarks=bad), *FACES[2:]]
    )
    with pytest.raises(MissingDataError, match="image00001 contains NaN"):
        predictions.load(path, BENCHMARK)
    assert predictions.load(path, BENCHMARK, allow_missing=True).missing.sum() == 1


def test_predictions_of_other_images_are_reported(tmp_path):
    names = [name_of(i) for i in range(6)] + ["somebody"]
    path = write_predictions(tmp_path / "p.npz", [*FACES, FACES[0]], names)
    assert predictions.load(path, BENCHMARK).extra == ("somebody",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"landmarks": np.zeros((2, 68, 3))}, "no array 'name'"),
        ({"name": ["a", "b"]}, "no array 'landmarks'"),
        ({"name": ["a", "b"], "landmarks": np.zeros((3, 68, 3))}, "rows for 2 names"),
        ({"name": ["a"], "landmarks": np.zeros((1, 70, 3))}, r"\(N, 68, 2 or 3\)"),
        ({"name": ["a"], "landmarks": np.zeros((1, 68, 3))}, "for none of the 6 images"),
        (
            {"name": [name_of(i) for i in range(6)] + [name_of(0)],
             "landmarks": np.zeros((7, 68, 3))},
            "two predictions for image00000",
        ),
        (
            {"name": [name_of(i) for i in range(6)], "landmarks": np.zeros((6, 68, 3)),
             "rotation": np.tile(np.diag([1.0, -1.0, 1.0]), (6, 1, 1))},
            "6 of 6 rotations are not proper rotation",
        ),
    ],
)  # fmt: skip
def test_a_bad_npz_is_named_with_its_fault(tmp_path, arrays, message):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(MissingDataError, match=message):
        predictions.load(tmp_path / "p.npz", BENCHMARK)


def test_a_damaged_npz_and_no_file_at_all(tmp_path):
    path = write_predictions(tmp_path / "p.npz", FACES)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(MissingDataError, match=r"p\.npz"):
        predictions.load(path, BENCHMARK)
    with pytest.raises(MissingDataError, match="no predictions at"):
        predictions.load(tmp_path / "nothing.npz", BENCHMARK)


def _write_json(folder, name, face):
    record = {
        "format": "sadr-face",
        "name": name.rsplit("-", 1)[0],
        "landmarks": {"points": face.landmarks.tolist()},
        "pose": {"rotation_matrix": face.rotation.tolist()},
    }
    (folder / f"{name}.json").write_text(json.dumps(record))


def test_landmark_json_of_our_own(tmp_path):
    for i, face in enumerate(FACES):
        _write_json(tmp_path, name_of(i), face)
    # another face in the same photo, and a file that is none
    aside = replace(FACES[0], landmarks=FACES[0].landmarks + np.array([300, 0, 0]))
    _write_json(tmp_path, f"{name_of(0)}-1", aside)
    (tmp_path / "manifest.json").write_text("{}")
    found = predictions.load(tmp_path, BENCHMARK)
    np.testing.assert_allclose(found.landmarks, BENCHMARK.landmarks)
    np.testing.assert_allclose(found.rotation[3], FACES[3].rotation)


def test_a_folder_without_landmark_json(tmp_path):
    with pytest.raises(MissingDataError, match="no landmark JSON"):
        predictions.load(tmp_path, BENCHMARK)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(MissingDataError, match=r"a\.json is damaged"):
        predictions.load(tmp_path, BENCHMARK)
