"""``sadr reconstruct --jaw contour``: files and pictures have the outline that the photo shows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from shell import ROOT
from typer.testing import CliRunner

from sadr_cli import contour_landmarks
from sadr_cli.cli import app
from sadr_cli.errors import InputError
from sadr_cli.landmarks import INNER, JAW
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.overlay import visible_landmarks
from sadr_cli.results.face_record import read_face_json
from sadr_cli.sources import SourceList

PHOTO = ROOT / "examples" / "photos" / "hopper_turned.jpg"


class Turned(FakeReconstructor):
    """Faces turned so far that a part of the jaw is out of sight."""

    def _face(self, crop, detection):
        face = super()._face(crop, detection)
        middle = face.vertices.mean(0)
        turn = euler_to_matrix(-75, 0, 0) * np.outer([1, -1, 1], [1, -1, 1])
        vertices = (face.vertices - middle) @ turn.T + middle
        return replace(face, vertices=vertices, landmarks=vertices[self.uv.landmark_indices])


def go(out: Path, photo: Path, **settings):
    network = Turned()
    works = (Work(s) for s in SourceList().expand(str(photo)))
    entries = []
    settings = RunSettings(out, formats=("obj", "pts", "csv"), batch_size=4, **settings)
    run(works, network, FakeDetector, settings, on_entry=entries.append)
    return network, entries[0]


def read_pts(path: Path) -> np.ndarray:
    return np.array([line.split() for line in path.read_text().splitlines()[3:71]], float) - 1


def test_files_of_a_photo_have_both_jaws(tmp_path):
    photo = photo_with(tmp_path / "a.png")
    network, _ = go(tmp_path / "out", photo, jaw="contour", overlay=True)
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    points = np.array(record["landmarks"]["points"])
    jaw = np.array(record["landmarks"]["contour_jaw"])
    assert jaw.shape == (17, 3)
    assert (np.abs(jaw - points[JAW]).max(1) > 1).any()  # the jaw of this face is out of sight
    assert record["landmarks"]["vertices"] == network.uv.landmark_indices.tolist()
    shown = read_pts(tmp_path / "out" / "a.pts")
    np.testing.assert_allclose(shown[JAW], jaw[:, :2], atol=1e-3)
    np.testing.assert_allclose(shown[INNER], points[INNER, :2], atol=1e-3)
    rows = list(csv.DictReader((tmp_path / "out" / "a.csv").read_text().splitlines()))
    column = np.array([[r["contour_x_px"], r["contour_y_px"], r["contour_z_px"]] for r in rows])
    np.testing.assert_allclose(column.astype(float)[JAW], jaw, atol=1e-3)
    surface = np.array([[r["photo_x_px"], r["photo_y_px"]] for r in rows], float)
    np.testing.assert_allclose(surface, points[:, :2], atol=1e-3)


def test_without_it_nothing_changes_and_with_it_the_photo_is_done_again(tmp_path):
    photo, out = photo_with(tmp_path / "a.png"), tmp_path / "out"
    go(out, photo)
    record = json.loads((out / "a.json").read_text())
    assert "contour_jaw" not in record["landmarks"]
    assert "contour_x_px" not in (out / "a.csv").read_text()
    points = np.array(record["landmarks"]["points"])
    np.testing.assert_allclose(read_pts(out / "a.pts"), points[:, :2], atol=1e-3)
    assert go(out, photo)[1].skipped
    assert not go(out, photo, jaw="contour")[1].skipped
    assert "contour_jaw" in (out / "a.json").read_text()


def test_points_on_the_outline_are_drawn_as_seen():
    network = Turned()
    detection = FakeDetector().detect(np.pad(np.full((40, 40, 3), 255, np.uint8), 40)[..., 40:43])
    face = network._face(network.crop_for(detection[0]), detection[0])
    hidden = replace(face, landmark_visibility=np.where(np.arange(68) < 17, 0.0, 1.0))
    assert not visible_landmarks(hidden)[JAW].any()
    contour = replace(hidden, contour=contour_landmarks(face.vertices, network.uv))
    moved = (contour.contour != contour.landmarks).any(1)
    assert moved.any()
    assert (visible_landmarks(contour)[JAW] == moved[JAW]).all()


def test_another_word_is_refused():
    result = CliRunner().invoke(app, ["reconstruct", "a.png", "--out", "o", "--jaw", "chin"])
    assert result.exit_code == 2
    assert "--jaw takes surface or contour, not 'chin'" in result.stderr


@pytest.mark.slow
def test_the_command_and_an_export_of_its_run(tmp_path):
    """On a real photo: the far cheek's outline, in every file and read back from the run."""

    def sadr(*arguments: object):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    out = tmp_path / "out"
    arguments = ("reconstruct", PHOTO, "--out", out, "--format", "ply,pts", "--jaw", "contour")
    done = sadr(*arguments)
    assert done.exit_code == 0, done.output
    shown = read_pts(out / "hopper_turned.pts")
    record = json.loads((out / "hopper_turned.json").read_text())
    jaw = np.array(record["landmarks"]["contour_jaw"])
    np.testing.assert_allclose(shown[JAW], jaw[:, :2], atol=1e-3)
    again = sadr("export", out, "--out", tmp_path / "again", "--format", "pts")
    assert again.exit_code == 0, again.output
    np.testing.assert_allclose(read_pts(tmp_path / "again" / "hopper_turned.pts"), shown, atol=2e-3)


@pytest.mark.parametrize("bad", [[[1, 2, 3]] * 16, "x", [[None] * 3] * 17])
def test_a_damaged_jaw_is_named(tmp_path, bad):
    photo = photo_with(tmp_path / "a.png")
    go(tmp_path / "out", photo, jaw="contour")
    path = tmp_path / "out" / "a.json"
    record = json.loads(path.read_text())
    record["landmarks"]["contour_jaw"] = bad
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"a\.json: damaged: its landmarks.*contour_jaw"):
        read_face_json(path)
