"""Predictions in another frame than asked for are scored as they are, and doubted aloud."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import true_faces, write_aflw2000, write_predictions
from typer.testing import CliRunner

from sadr_cli.cli import app

FACES = true_faces()


@pytest.fixture
def data(tmp_path):
    write_aflw2000(tmp_path / "data")
    return tmp_path / "data"


def sadr(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.mark.parametrize(
    ("change", "message", "figure"),
    [
        (lambda p: p * [1, -1, 1] + [0, 119, 0], "upside down", 0.0),
        (lambda p: p * [-1, 1, 1] + [139, 0, 0], "mirrored", 0.0),
        (lambda p: p[:, [1, 0, 2]], "given as y, x", 0.0),
        (lambda p: p * 2.5 - [40, 60, 0], "in pixels of a crop", 0.0),
    ],
)
def test_predictions_in_another_frame_are_doubted(data, tmp_path, change, message, figure):
    faces = [replace(f, landmarks=change(f.landmarks)) for f in FACES]
    path = write_predictions(tmp_path / "p.npz", faces)
    result = sadr("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    doubt = f"the landmarks seem to be {message}"
    assert f"warning: p: {doubt}" in result.stderr
    assert f"mean NME {figure:.2f} % if converted" in result.stderr
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert doubt in report["methods"][0]["doubts"][0]
    assert f"Doubtful: {doubt}" in report["to cite"][0]
    assert message in (tmp_path / "o" / "report.html").read_text()


def test_rotations_of_another_frame_are_doubted(data, tmp_path):
    turned = [replace(f, rotation=f.rotation.T) for f in FACES]
    path = write_predictions(tmp_path / "p.npz", turned)
    result = sadr("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    assert "the rotations seem to be transposed (median geodesic error 0.0" in result.stderr


@pytest.mark.parametrize("pixels", [0.0, 3.0, 30.0])
def test_predictions_that_are_merely_bad_are_not_doubted(data, tmp_path, pixels):
    rng = np.random.default_rng(1)
    faces = [
        replace(f, landmarks=f.landmarks + rng.normal(0, pixels, f.landmarks.shape)) for f in FACES
    ]
    path = write_predictions(tmp_path / "p.npz", faces)
    result = sadr("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    assert "warning" not in result.stderr
    assert "doubts" not in (tmp_path / "o" / "report.json").read_text()
