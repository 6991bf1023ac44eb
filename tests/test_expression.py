"""Measures of expression: what moves them and what does not, and where they are written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from hypothesis import given
from hypothesis import strategies as st
from pictures import photo
from synthetic import layout, posed_face

from sadr_cli import Detection, Reconstructor
from sadr_cli.expression import (
    CALIBRATION,
    MEASURES,
    SEEN_EYES,
    measure_expression,
    measure_lengths,
)
from sadr_cli.landmarks import MIRROR_68
from sadr_cli.model.checkpoint import find_weights, load_layout
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.results.face_record import read_face_json
from sadr_cli.results.poses_csv import COLUMNS, pose_row
from sadr_cli.sources import iter_sources

UPPER, LOWER = [61, 62, 63], [65, 66, 67]


@pytest.fixture(scope="module")
def mean() -> np.ndarray:
    """(68, 3) landmarks of the mean head that comes with the weights."""
    uv = load_layout(find_weights(None))
    return uv.mean_shape[uv.landmark_indices].astype(float)


def moved(points: np.ndarray, which, by) -> np.ndarray:
    out = points.copy()
    out[which] += by
    return out


def test_the_mean_head_is_at_rest_with_open_eyes(mean):
    measures = measure_expression(mean)
    assert tuple(measures) == MEASURES
    for name in ("mouthWide", "mouthSmile", "browRaiseLeft", "browRaiseRight"):
        assert measures[name] < 0.4, name
    assert measures["eyeOpenLeft"] > 0.6 and measures["eyeOpenRight"] > 0.6


@pytest.mark.parametrize(
    ("name", "which", "by", "end"),
    [
        ("jawOpen", LOWER, (0, -0.3, 0), 1.0),
        ("eyeOpenLeft", [43, 44], (0, -0.06, 0), 0.0),
        ("eyeOpenRight", [37, 38], (0, -0.06, 0), 0.0),
        ("browRaiseLeft", [22, 23, 24, 25, 26], (0, 0.2, 0), 1.0),
        ("browRaiseRight", [17, 18, 19, 20, 21], (0, 0.2, 0), 1.0),
    ],
)
def test_each_part_moves_its_own_measure_and_no_other(mean, name, which, by, end):
    before, after = measure_expression(mean), measure_expression(moved(mean, which, by))
    assert after[name] == end and before[name] != end
    for other in set(MEASURES) - {name}:
        assert after[other] == pytest.approx(before[other]), other


def test_a_smile_raises_and_spreads_the_corners_of_the_mouth(mean):
    smile = moved(moved(mean, 48, (-0.15, 0.12, 0)), 54, (0.15, 0.12, 0))
    frown = moved(mean, [48, 54], (0, -0.12, 0))
    assert measure_expression(smile)["mouthSmile"] == 1.0
    assert measure_expression(smile)["mouthWide"] == 1.0
    assert measure_expression(frown)["mouthSmile"] == 0.0
    assert measure_expression(smile)["jawOpen"] <= measure_expression(mean)["jawOpen"]


def test_closed_eyes_are_zero(mean):
    closed = mean.copy()
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        closed[upper] = closed[lower]
    measures = measure_expression(closed)
    assert measures["eyeOpenLeft"] == measures["eyeOpenRight"] == 0.0


def test_the_mirror_exchanges_left_and_right(mean):
    face = moved(moved(mean, [22, 23, 24, 25, 26], (0, 0.05, 0)), [37, 38], (0, -0.02, 0))
    mirrored = face[MIRROR_68] * (-1, 1, 1)
    there, back = measure_lengths(face), measure_lengths(mirrored)
    for name, value in there.items():
        twin = name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
        assert back[twin] == pytest.approx(value), name


@given(st.floats(-100, 100), st.floats(-40, 40), st.floats(-180, 180), st.floats(5, 500))
def test_neither_the_heads_pose_nor_its_size_counts(yaw, pitch, roll, scale):
    uv = layout(0.25)
    frontal = posed_face(uv).expression
    assert posed_face(uv, yaw, pitch, roll, scale).expression == pytest.approx(frontal, abs=1e-6)


def test_landmarks_in_one_point_are_no_measure():
    assert all(np.isnan(v) for v in measure_expression(np.zeros((68, 3))).values())


def test_columns_and_json_say_the_same(tmp_path):
    photo_with(tmp_path / "photos" / "a.png")
    works = (Work(s) for s in iter_sources([str(tmp_path / "photos")]))
    out = tmp_path / "run"
    run(works, FakeReconstructor(), FakeDetector, RunSettings(out, ("stl",)))
    record = json.loads((out / "a.json").read_text())
    with (out / "poses.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert {name: float(row[name]) for name in MEASURES} == record["expression"]
    # a record of an earlier version has none
    del record["expression"]
    (out / "a.json").write_text(json.dumps(record))
    again = dict(zip(COLUMNS, pose_row(read_face_json(out / "a.json")), strict=True))
    assert {again[name] for name in MEASURES} == {""} and again["yaw_deg"] == row["yaw_deg"]


def test_smiling_and_serious_people_are_told_apart():
    network = Reconstructor(two_pass=False)
    boxes = {"astronaut": (184, 62, 268, 174), "hopper": (183, 119, 362, 337)}
    smiling, serious = (
        network.reconstruct(photo(name), [Detection(np.array(box, float), detector="centerface")])[
            0
        ].expression
        for name, box in boxes.items()
    )
    for name in ("mouthSmile", "mouthWide"):
        assert smiling[name] > 0.7 and serious[name] < 0.35, name
    assert smiling["jawOpen"] > serious["jawOpen"]


def with_a_lid(image: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """The photo with skin drawn over an eye (6, 2), and lashes along it."""
    out, (x, y), wide = image.copy(), eye.mean(0), np.linalg.norm(eye[3] - eye[0])
    cheek = image[int(y + 0.55 * wide) : int(y + 0.8 * wide), int(x - wide / 3) : int(x + wide / 3)]
    skin = np.median(cheek.reshape(-1, 3), axis=0)
    tilt = float(np.degrees(np.arctan2(*(eye[3] - eye[0])[::-1])))
    size = (int(0.62 * wide), int(0.36 * wide))
    cv2.ellipse(out, (int(x), int(y)), size, tilt, 0, 360, skin.tolist(), -1, cv2.LINE_AA)
    ends = [tuple(int(v) for v in eye[k] + (0, 0.08 * wide)) for k in (0, 3)]
    cv2.line(out, *ends, (0.4 * skin).tolist(), max(1, int(0.05 * wide)), cv2.LINE_AA)
    return out


@pytest.mark.parametrize(
    ("eye", "closed", "open_"),
    [
        (slice(42, 48), "eyeOpenLeft", "eyeOpenRight"),
        (slice(36, 42), "eyeOpenRight", "eyeOpenLeft"),
    ],
)
@pytest.mark.parametrize("angle", [0, 90])
def test_one_closed_eye_is_told_from_an_open_one(eye, closed, open_, angle):
    """Also in a photo that lies on its side."""
    network = Reconstructor(two_pass=False)
    image = photo("astronaut")
    box = Detection(np.array((184, 62, 268, 174), float), detector="centerface")
    face = network.reconstruct(image, [box])[0]
    assert face.expression[closed] > 0.8 and face.expression[open_] > 0.8
    lidded = with_a_lid(image, face.landmarks[eye, :2])
    if angle:
        lidded = np.ascontiguousarray(np.rot90(lidded, -1))
        x0, y0, x1, y1 = box.box
        last = image.shape[0] - 1
        turned = np.array((last - y1, x0, last - y0, x1))
        box = Detection(turned, detector="centerface", angle=90.0)
    winking = network.reconstruct(lidded, [box])[0].expression
    assert winking[closed] < 0.35 and winking[open_] > 0.8


def test_eyes_that_the_picture_does_not_show_are_the_meshes(uv):
    face = posed_face(uv)
    mesh = face.expression
    dark = np.full((128, 128, 3), 30, np.uint8)
    assert replace(face, picture=dark).expression == mesh  # nothing to be told apart
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    hidden = np.zeros(68)
    assert replace(face, picture=noise, landmark_visibility=hidden).expression == mesh


def test_calibration_has_two_figures_in_order():
    assert all(zero < one for zero, one in (*CALIBRATION.values(), SEEN_EYES))
