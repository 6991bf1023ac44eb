"""Faces that the border of a photo cuts: what is outside is not seen, and a warning says so."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from synthetic import posed_face
from typer.testing import CliRunner

from sadr_cli import Reconstructor
from sadr_cli.border import CUT, with_border
from sadr_cli.cli import app
from sadr_cli.faces import Face

LEFT = slice(0, 232)  # of the astronaut's face, whose box goes from 184 to 268


@pytest.fixture(scope="module")
def reconstructor() -> Reconstructor:
    return Reconstructor(device="cpu")


def cut(face: Face) -> bool:
    return any(text.startswith("cut by the border") for text in face.warnings)


def test_a_face_within_the_photo_stays_as_it_is(reconstructor, astronaut) -> None:
    (face, *_) = reconstructor.reconstruct(astronaut)
    assert not cut(face)
    assert with_border([face, None, "no face"], astronaut.shape[:2]) == [face, None, "no face"]


@pytest.mark.parametrize("turned", [0, 1])
def test_what_lies_outside_is_not_seen_and_a_warning_says_so(
    reconstructor, astronaut, turned
) -> None:
    photo = np.ascontiguousarray(np.rot90(astronaut[:, LEFT], turned))
    (face, *_) = reconstructor.reconstruct(photo)
    assert cut(face)
    for points, seen in (
        (face.vertices, face.visibility),
        (face.landmarks, face.landmark_visibility),
    ):
        height, width = photo.shape[:2]
        x, y = points[:, 0], points[:, 1]
        outside = (x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)
        assert outside.mean() > CUT
        assert (seen[outside] == 0).all()
        assert (seen[~outside] > 0.5).mean() > 0.3
    assert face.landmark_confidence[face.landmark_visibility == 0].max() <= 0.5


def test_the_edge_of_the_last_pixel_is_still_inside(uv) -> None:
    face = posed_face(uv)
    place = face.landmarks.copy()
    place[:, :2] = 10
    place[:4, :2] = [[-0.5, 5], [-0.51, 5], [5, 19.5], [5, 19.51]]
    full = replace(face, landmarks=place, landmark_visibility=np.ones(68))
    (seen,) = with_border([full], (20, 30))
    assert seen.landmark_visibility[:5].tolist() == [1, 0, 1, 0, 1]
    assert not cut(seen)  # two of 68
    assert seen.landmark_confidence[1] == pytest.approx(full.landmark_confidence[1] / 2)


def test_runs_say_which_faces_the_border_cuts(astronaut, tmp_path) -> None:
    Image.fromarray(np.ascontiguousarray(astronaut[:, LEFT])).save(tmp_path / "cut.png")
    Image.fromarray(astronaut).save(tmp_path / "whole.png")
    out = tmp_path / "out"
    said = CliRunner().invoke(
        app, ["reconstruct", str(tmp_path), "--out", str(out), "--format", "pts"]
    )
    assert said.exit_code == 0, said.output
    with (out / "poses.csv").open() as file:
        warned = {row["name"]: row["warnings"] for row in csv.DictReader(file)}
    assert "cut by the border" in warned["cut"]
    assert "cut by the border" not in warned["whole"]
