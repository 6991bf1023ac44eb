"""Programs, pipes and holes in the place of files."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from memory import peak_growth
from PIL import Image

from sadr_cli import InputError, SadrError, read_image
from sadr_cli.sources import Source, iter_frames

# Programs ----------------------------------------------------------------------------------------

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    b"(owned) (w) file closefile showpage\n%%EOF\n"
)


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program ``gs`` that Pillow would start for an EPS; it leaves the file ``owned``."""
    work, program = tmp_path / "work", tmp_path / "bin" / "gs"
    work.mkdir()
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {work}/owned\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    with pytest.raises(OSError):
        Image.open(io.BytesIO(EPS)).load()
    (work / "owned").unlink()  # this is what must not happen
    return work


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize("kind", ["photo", "obj", "glb", "scan", "benchmark"])
def test_an_eps_in_the_place_of_a_picture_starts_nothing(ghostscript: Path, kind: str) -> None:
    from sadr_cli.evaluation.data import benchmark
    from sadr_cli.evaluation.data.scans import read_scan
    from sadr_cli.export.read import read_mesh

    for name in ("a.jpg", "a.png"):
        (ghostscript / name).write_bytes(EPS)
    mesh = "mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\n"
    (ghostscript / "a.obj").write_text(mesh + "f 1/1 2/2 3/3\n")
    (ghostscript / "a.mtl").write_text("newmtl m\nmap_Kd a.png\n")
    if kind == "glb":
        _glb_with_picture(ghostscript / "a.glb", EPS)
    calls = {
        "photo": lambda: read_image(ghostscript / "a.jpg"),
        "obj": lambda: read_mesh(ghostscript / "a.obj"),
        "glb": lambda: read_mesh(ghostscript / "a.glb"),
        "scan": lambda: read_scan(ghostscript / "a.obj", "a"),
        "benchmark": lambda: benchmark.read_image(ghostscript / "a.jpg"),
    }
    with pytest.raises(SadrError):
        calls[kind]()
    assert not (ghostscript / "owned").exists()


def _glb_with_picture(path: Path, picture: bytes) -> None:
    import trimesh

    png = io.BytesIO()
    Image.new("RGB", (9, 9)).save(png, "PNG")
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.open(png))
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False)
    uv = np.array([[0, 0], [1, 0], [0, 1]], float)
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    data = mesh.export(file_type="glb")
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    body = data[28 + length :]
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    view["byteOffset"], view["byteLength"] = len(body), len(picture)
    body += picture + bytes(-len(picture) % 4)
    document["buffers"][0]["byteLength"] = len(body)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(body))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    path.write_bytes(head + chunks + struct.pack("<I4s", len(body), b"BIN\0") + body)


# Pipes and holes in the place of files ----------------------------------------------------------


def _readers(path: Path) -> dict[str, object]:
    from sadr_cli.arrays import read_mat
    from sadr_cli.evaluation.data import lm300w, predictions, scans
    from sadr_cli.export.read import read_mesh
    from sadr_cli.model.checkpoint import open_checkpoint
    from sadr_cli.results.face_record import read_face_json

    folder = path.parent / "folder"
    folder.mkdir()
    (folder / "x.json").hardlink_to(path)
    return {
        "checkpoint": lambda: open_checkpoint(path),
        "mesh": lambda: read_mesh(path.rename(path.with_suffix(".obj"))),
        "record": lambda: read_face_json(path, path.parent),
        "pts": lambda: lm300w.read_pts(path),
        "mat": lambda: read_mat(path, ["a"]),
        "scan": lambda: scans.read_scan(path.rename(path.with_suffix(".wrl")), "a"),
        "ljson": lambda: scans._read_ljson(path),
        "predictions": lambda: predictions._read_json_folder(folder, _no_benchmark()),
    }


def _no_benchmark():
    from sadr_cli.evaluation.data.benchmark import Benchmark

    return Benchmark(name="b", folder=Path(), names=(), images=(), landmarks=np.zeros((0, 68, 2)))


READERS = ["checkpoint", "mesh", "record", "pts", "mat", "scan", "ljson", "predictions"]


def _read_holes(folder: Path) -> None:
    for reader in READERS:
        path = folder / reader / "x"
        path.parent.mkdir()
        with path.open("wb") as file:
            file.truncate(3 << 30)
        with pytest.raises(SadrError) as caught:
            _readers(path)[reader]()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_hole_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    if not hasattr(os, "SEEK_DATA"):
        pytest.skip("this system does not tell what is a hole")
    assert peak_growth(_read_holes, tmp_path) < 700 << 20  # imports of PyTorch


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe in the file system")
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_not_waited_for(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(SadrError):
        _readers(tmp_path / "x")[reader]()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and rights of POSIX")
def test_a_video_that_cannot_be_opened_says_why(tmp_path: Path, monkeypatch) -> None:
    """Also one in a folder that may be listed and not searched."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "closed.mp4").write_bytes(b"x" * 99)
    real = Path.stat

    def closed(self: Path, **options: bool) -> os.stat_result:
        if self.name == "closed.mp4":
            raise PermissionError(13, "Permission denied")
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", closed)
    reasons = {
        "pipe": "is not a regular file",
        "folder": "is not a regular file",
        "loop": "its symbolic links form a loop",
        "closed": "permission denied",
        "gone": "no such video file",
        "a\0b": "is not a possible file name",
    }
    for name, reason in reasons.items():
        source = Source(name, "a", tmp_path / f"{name}.mp4", kind="video")
        with pytest.raises(InputError) as caught:
            next(iter_frames(source))
        assert str(caught.value) == f"{name}: {reason}"
