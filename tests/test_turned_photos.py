"""Photos that lie on their side or head: the same face comes out, turned with its photo."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import photo
from PIL import Image
from typer.testing import CliRunner

from sadr_cli import Reconstructor
from sadr_cli.cli import app
from sadr_cli.crop import turn
from sadr_cli.pose import geodesic_distance, wrapped


@pytest.fixture(scope="module")
def reconstructor() -> Reconstructor:
    return Reconstructor(device="cpu")


def run(*arguments: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def turned(image: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The whole photo turned clockwise, and the (2, 3) way of its pixels."""
    height, width = image.shape[:2]
    size = np.ceil(np.abs(turn(angle)) @ (width, height) - 1e-6).astype(int)
    shift = (size - 1) / 2 - turn(angle) @ ((width - 1) / 2, (height - 1) / 2)
    way = np.column_stack([turn(angle), shift])
    return np.asarray(cv2.warpAffine(image, way, (int(size[0]), int(size[1]))), np.uint8), way


@pytest.mark.parametrize("angle", [90.0, 180.0, -90.0, 135.0, -110.0])
@pytest.mark.parametrize("name", ["hopper", "astronaut"])
def test_the_face_turns_with_its_photo(name: str, angle: float, reconstructor) -> None:
    (upright,) = reconstructor.reconstruct(photo(name))
    image, way = turned(photo(name), angle)
    (face,) = reconstructor.reconstruct(image)
    assert face.warnings == () and face.confidence > 0.8
    assert abs(wrapped(face.turn - upright.turn - angle)) < 5
    spin = np.eye(3)
    spin[:2, :2] = turn(angle).T
    assert geodesic_distance(face.rotation, spin @ upright.rotation) < 8
    expected = upright.landmarks[:, :2] @ way[:, :2].T + way[:, 2]
    apart = np.linalg.norm(face.landmarks[:, :2] - expected, axis=1)
    assert apart.mean() < 0.03 * upright.crop.size
    up = face.scale * face.shape @ face.rotation.T + face.translation
    assert np.allclose(up * (1, -1, 1), face.vertices, atol=1e-3 * face.crop.size)


def test_the_same_pixels_give_the_same_face_in_any_direction(reconstructor) -> None:
    """A quarter turn of photo, box and points: the network sees the same, the way back is exact."""
    image = photo("hopper")
    (face,) = reconstructor.reconstruct(image)
    side, way = turned(image, 90.0)
    box = face.detection.box.reshape(2, 2) @ way[:, :2].T + way[:, 2]
    moved = type(face.detection)(
        np.concatenate([box.min(0), box.max(0)]),
        points=face.detection.points @ way[:, :2].T + way[:, 2],
        detector="centerface",
        angle=90.0,
    )
    (same,) = reconstructor.reconstruct(side, [moved])
    expected = face.landmarks[:, :2] @ way[:, :2].T + way[:, 2]
    assert np.abs(same.landmarks[:, :2] - expected).max() < 0.004 * face.crop.size
    spin = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    assert geodesic_distance(same.rotation, spin @ face.rotation) < 0.5


def test_runs_record_the_angle_and_exports_keep_it(tmp_path: Path) -> None:
    image, _ = turned(photo("hopper"), 180.0)
    Image.fromarray(image).save(tmp_path / "fallen.png")
    out = tmp_path / "out"
    arguments = ["reconstruct", str(tmp_path / "fallen.png"), "--out", str(out), "--no-index"]
    run(*arguments, "--format", "npz")
    record = json.loads((out / "fallen.json").read_text())
    assert abs(record["crop"]["angle"]) > 150 and record["warnings"] == []
    header, row = (out / "poses.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(cells["crop_angle_deg"]) == pytest.approx(record["crop"]["angle"])
    run("export", str(out), "--out", str(tmp_path / "more"), "--format", "attention")
    mask = np.asarray(Image.open(tmp_path / "more" / "fallen.attention.png")).astype(float)
    rows, columns = np.indices(mask.shape)
    center = np.array([(columns * mask).sum(), (rows * mask).sum()]) / mask.sum()
    middle = np.array(record["landmarks"]["points"])[:, :2].mean(0)
    assert np.linalg.norm(center - middle) < 0.15 * record["crop"]["size"]
