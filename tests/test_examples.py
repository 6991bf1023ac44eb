"""Everything in ``examples/`` runs as it stands, with the shipped weights."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image
from shell import ROOT, environment, run

EXAMPLES = ROOT / "examples"


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    output = run(tmp_path, sys.executable, EXAMPLES / "quickstart.py")
    assert "face 0: yaw" in output and "confidence 0." in output
    mesh = trimesh.load_mesh(tmp_path / "hopper_0.glb", process=False)
    assert mesh.vertices.shape == (43867, 3)


@pytest.mark.slow
def test_the_python_of_the_readme(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    shutil.copy(EXAMPLES / "photos" / "hopper.jpg", tmp_path / "photo.jpg")
    for block in blocks:
        assert "(68, 3)" in run(tmp_path, sys.executable, "-c", block)
    assert (tmp_path / "face0.glb").is_file()


@pytest.mark.slow
def test_the_page_about_python(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.S)
    shutil.copy(EXAMPLES / "photos" / "hopper.jpg", tmp_path / "photo.jpg")
    run(tmp_path, "sadr", "reconstruct", "photo.jpg", "--out", "meshes")
    if find_spec("pandas") is None:
        blocks = [block for block in blocks if "to_pandas" not in block]
    output = "".join(run(tmp_path, sys.executable, "-c", block) for block in blocks)
    assert output.startswith("photo 0 ") and "(68, 3)" in output


@pytest.mark.slow
def test_pipeline(tmp_path: Path) -> None:
    if shutil.which("jq") is None or shutil.which("bash") is None:
        pytest.skip("needs bash and jq")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("hopper", "hopper_turned"):
        shutil.copy(EXAMPLES / "photos" / f"{name}.jpg", photos)
    output = run(tmp_path, "bash", EXAMPLES / "pipeline.sh", "photos", "out")
    rows = [line.split("\t") for line in output.splitlines()]
    assert {row[0] for row in rows} == {"hopper", "hopper_turned"}
    yaws = [float(row[2]) for row in rows]
    assert yaws == sorted(yaws)
    assert (tmp_path / "out" / "hopper.glb").is_file()


@pytest.mark.slow
def test_batch_to_blender(tmp_path: Path) -> None:
    text = (EXAMPLES / "batch_to_blender.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", text, re.S)
    if shutil.which("jq") is None:
        commands = [c for c in commands if "jq" not in c]
    (tmp_path / "photos").mkdir()
    shutil.copy(EXAMPLES / "photos" / "hopper.jpg", tmp_path / "photos")
    for command in commands:
        run(tmp_path, "sh", "-e", "-c", command)
    full, light = (
        trimesh.load_mesh(tmp_path / folder / "hopper.glb", process=False)
        for folder in ("meshes", "light")
    )
    assert 0.12 < np.ptp(full.vertices[:, 1]) < 0.25  # metres
    assert len(light.faces) <= 10_000 < len(full.faces)
    assert (tmp_path / "frontal" / "hopper.glb").is_file()


@pytest.mark.slow
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SADR_WEIGHTS", raising=False)
    book = nbformat.read(EXAMPLES / "notebook.ipynb", 4)
    assert all(not cell.get("outputs") for cell in book.cells), "commit it without outputs"
    settings = {
        "timeout": 900,
        "startup_timeout": 300,
        "resources": {"metadata": {"path": str(EXAMPLES)}},
    }
    client.NotebookClient(book, kernel_name="python3", **settings).execute()
    pictures = [
        o for c in book.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 2
    views = [
        o["data"]["text/html"]
        for c in book.cells
        for o in c.get("outputs", [])
        if "text/html" in o.get("data", {})
    ]
    assert len(views) == 1 and views[0].startswith('<iframe sandbox="allow-scripts"')


def test_the_video_can_be_made_again(tmp_path: Path) -> None:
    run(tmp_path, sys.executable, EXAMPLES / "make_video.py", tmp_path / "new.mp4")
    frames = [_frames(path) for path in (tmp_path / "new.mp4", EXAMPLES / "faces.mp4")]
    assert [f.shape for f in frames] == [(60, 270, 480, 3)] * 2
    # Encoders differ between builds of FFmpeg: the same picture, not the same bytes.
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 3


def _frames(path: Path) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return np.stack(frames)


def test_the_photos_can_be_made_again(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    made = ("astronaut_occluded", "hopper_turned", "group")
    for name in made:
        (tmp_path / "examples" / "photos" / f"{name}.jpg").unlink()
    run(tmp_path, sys.executable, tmp_path / "examples" / "make_photos.py")
    for name in made:
        new, old = (
            np.asarray(Image.open(folder / "photos" / f"{name}.jpg"), int)
            for folder in (tmp_path / "examples", EXAMPLES)
        )
        assert np.abs(new - old).mean() < 1, name


@pytest.mark.slow  # half a minute
def test_the_exported_network_runs_without_pytorch(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    lines = (EXAMPLES / "run_onnx.py").read_text().splitlines()
    export = next(line.strip() for line in lines if line.startswith("sadr export"))
    run(tmp_path, "sh", "-c", export)
    command = next(line.split() for line in lines if line.startswith("python examples/run_onnx"))
    output = run(
        tmp_path, sys.executable, command[1], tmp_path / command[2], *command[3:], cwd=ROOT
    )
    assert output.strip()
