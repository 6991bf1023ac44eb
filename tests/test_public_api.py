"""What ``import sadr_cli`` promises, and how a library user works with it."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import trimesh
from fakes import FakeDetector, FakeReconstructor, photo_with

import sadr_cli
from sadr_cli import InputError, SadrError, UsageError, read_image, save_mesh


def test_every_public_name_is_there_and_documented() -> None:
    for name in sadr_cli.__all__:
        assert getattr(sadr_cli, name).__doc__, name
        assert name in dir(sadr_cli)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sadr_cli.nothing


def test_the_package_is_marked_as_typed() -> None:
    assert (resources.files("sadr_cli") / "py.typed").is_file()


def test_importing_is_cheap() -> None:
    code = "import sys, sadr_cli; print({'torch', 'cv2', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def one_face(tmp_path: Path):
    path = photo_with(tmp_path / "a.png")
    image = read_image(path)
    fake = FakeReconstructor()
    detections = FakeDetector().detect(image)
    crop = fake.crop_for(detections[0])
    blank = np.zeros((64, 64, 3), np.uint8)
    return image, fake.reconstruct_crops([blank], [crop], detections)[0], fake.uv


@pytest.mark.parametrize("name", ["a.obj", "a.ply", "a.glb", "a.stl"])
def test_a_face_is_saved_by_its_suffix(one_face, tmp_path: Path, name: str) -> None:
    image, face, uv = one_face
    files = save_mesh(tmp_path / "new" / name, face, uv, image)
    assert files[0] == tmp_path / "new" / name
    mesh = trimesh.load_mesh(files[0], process=False)
    assert len(mesh.faces) == len(uv.triangles)


def test_frames_and_textures_of_a_saved_face(one_face, tmp_path: Path) -> None:
    image, face, uv = one_face
    files = save_mesh(tmp_path / "a.obj", face, uv, image, "canonical", texture_size=64)
    assert {f.suffix for f in files} >= {".obj", ".mtl"} and all(f.is_file() for f in files)
    mesh = trimesh.load_mesh(files[0], process=False)
    assert np.ptp(mesh.vertices[:, 0]) == pytest.approx(np.ptp(face.shape[:, 0]) * 1000 / 15, 1e-3)


@pytest.mark.parametrize(
    "arguments",
    [{"path": "a.txt"}, {"path": "a"}, {"frame": "world"}, {"texture_size": 1}],
)
def test_what_cannot_be_saved_is_said(one_face, tmp_path: Path, arguments) -> None:
    image, face, uv = one_face
    path = tmp_path / arguments.pop("path", "a.obj")
    with pytest.raises(UsageError):
        save_mesh(path, face, uv, image, **arguments)
    assert not path.exists()


def test_errors_have_one_base() -> None:
    assert issubclass(InputError, SadrError)
    with pytest.raises(SadrError, match="no such file"):
        read_image("nothing.jpg")
