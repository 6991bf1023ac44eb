"""The second pass: which faces are cropped again, and which face stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import posed_face

from sadr_cli.crop import crop_from_landmarks, turn
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.landmarks import five_points
from sadr_cli.passes import far_off, second_crop, second_pass


@pytest.fixture(scope="module")
def face(uv) -> Face:
    return replace(posed_face(uv, yaw=20), detection=None)


def cropped_by(face: Face, factor: float) -> Face:
    """``face`` as the first pass gives it from a crop ``factor`` times as large as its own."""
    own = crop_from_landmarks(face.landmarks)
    return replace(face, crop=Crop(own.center_x + 5, own.center_y, own.size * factor))


def without_landmarks(face: Face, value: float) -> Face:
    return replace(face, landmarks=np.full((68, 3), value))


def test_the_second_crop_is_the_one_around_the_landmarks(face):
    assert second_crop(cropped_by(face, 1.3)) == crop_from_landmarks(face.landmarks)


@pytest.mark.parametrize("factor", (1 / 2.49, 1 / 0.41))
def test_a_crop_within_the_bounds_is_taken(face, factor):
    assert second_crop(cropped_by(face, factor)) is not None


@pytest.mark.parametrize("factor", (1 / 2.51, 1 / 0.39))
def test_a_crop_far_from_the_first_ones_size_is_not(face, factor):
    assert second_crop(cropped_by(face, factor)) is None


@pytest.mark.parametrize("value", (np.nan, np.inf, 7.0))
def test_landmarks_without_extent_give_no_crop(face, value):
    assert second_crop(without_landmarks(face, value)) is None


def test_a_face_is_approached_in_steps_while_its_crop_moves(face):
    """As one that the border cuts, of which each look shows a little more."""
    own = crop_from_landmarks(face.landmarks)
    shifts = [0.4, 0.2, 0.08, 0.01, 0.005]  # of the landmarks each look finds, in its crop's sides
    asked = []

    def look(crop):
        step = shifts[len(asked)] * crop.size
        there = np.array([crop.center_x - own.center_x + step, crop.center_y - own.center_y, 0])
        found = face.landmarks + there
        return replace(face, landmarks=found, crop=crop, confidence=0.5 + 0.1 * len(asked))

    def reconstruct(ks, crops):
        asked.extend(zip(ks, crops, strict=True))
        return [look(crop) for crop in crops]

    first = look(own)
    (result,) = second_pass([first], reconstruct, unknown=())
    # Begun at 0.4, gone on with at 0.08, and it stands at 0.01.
    assert [k for k, _ in asked] == [0, 0, 0]
    places = [0.4, 0.6, 0.68]
    assert np.allclose([(c.center_x - own.center_x) / own.size for _, c in asked], places)
    assert result.crop is asked[-1][1] and result.confidence == 0.8
    near = replace(first, landmarks=face.landmarks + [0.08 * own.size, 0, 0])
    assert second_pass([near], reconstruct, unknown=()) == [near]  # which is near enough


def test_the_more_confident_face_stands(face):
    off = cropped_by(face, 1.3)
    firsts = [replace(off, confidence=c) for c in (0.8, 0.8, 0.8, 0.8)]
    seconds = [replace(face, confidence=c) for c in (0.9, 0.7, 0.8, np.nan)]
    result = second_pass(firsts, lambda ks, crops: seconds)
    assert result[0] is seconds[0]
    assert result[1] is firsts[1]
    assert result[2] is seconds[2]  # as sure: the better crop decides
    assert result[3] is firsts[3]


def test_doubtful_faces_are_tried_in_other_turns(face):
    near = cropped_by(face, 1.0)
    detection = Detection(np.array([0.0, 0, 10, 10]), points=five_points(near.landmarks))
    center = near.crop.center_x, near.crop.center_y
    sure, doubtful = (replace(near, confidence=c, detection=detection) for c in (0.8, 0.7))
    unknown = replace(sure, detection=Detection(detection.box))
    given = replace(unknown, detection=Detection(detection.box, angle=0.0))
    swapped = replace(detection, points=detection.points[[3, 4, 2, 0, 1]])  # mouth for eyes
    misread = replace(sure, detection=swapped)
    certain = replace(misread, confidence=0.86)
    asked = []

    def reconstruct(ks, crops):
        asked.extend((k, crop.angle) for k, crop in zip(ks, crops, strict=True))
        for crop in crops:  # turned about the middle of the detector's box
            apart = turn(crop.angle) @ (np.array(center) - 5)
            assert np.allclose((crop.center_x - 5, crop.center_y - 5), apart)
            assert crop.size == near.crop.size
        sures = {180.0: 0.9, 90.0: 0.8, -90.0: 0.1}
        there = without_landmarks(near, np.nan)  # which ask for no other crop
        return [replace(there, crop=c, confidence=sures[c.angle]) for c in crops]

    result = second_pass(
        [sure, doubtful, unknown, given, replace(sure, detection=None), misread, certain],
        reconstruct,
    )
    assert asked == [(1, 90.0), (1, 180.0), (1, -90.0), (2, 180.0), (5, 180.0)]
    assert [f.crop.angle for f in result] == [0, 180, 180, 0, 0, 180, 0]


@pytest.mark.parametrize("other", [0.75, 0.85])
def test_a_rotation_that_two_confidences_leave_open_is_warned_of(face, other):
    unknown = replace(face, confidence=0.8, detection=Detection(face.box))
    open_, told = ([replace(face, crop=face.crop, confidence=c)] for c in (other, 0.6))
    (result,) = second_pass([unknown], lambda ks, crops: open_[: len(ks)])
    assert result.confidence == max(other, 0.8)
    assert [text.partition(":")[0] for text in result.warnings] == ["doubtful rotation"]
    assert second_pass([unknown], lambda ks, crops: told[: len(ks)])[0].warnings == ()


def test_another_turn_must_be_believable(face):
    """Where no turn is, the face stays as it was seen first."""
    first = replace(face, confidence=0.3)
    others = lambda ks, crops: [replace(face, crop=c, confidence=0.7) for c in crops]  # noqa: E731
    assert second_pass([first], others)[0] is first


@pytest.mark.parametrize(
    ("angle", "roll", "expected"),
    [(0, 25, 0), (0, -50, -50), (40, 20, 40), (40, 5, 0), (90, 135, 135), (170, -170, 170)],
)
def test_second_crops_turn_with_faces_that_are_far_from_upright(uv, angle, roll, expected):
    face = posed_face(uv, roll=roll)
    crop = second_crop(replace(face, crop=replace(face.crop, angle=float(angle))))
    assert crop.angle == pytest.approx(expected, abs=0.1)
    own = crop_from_landmarks(face.landmarks, angle=crop.angle)
    assert (crop.center_x, crop.center_y, crop.size) == (own.center_x, own.center_y, own.size)
    assert far_off(face, replace(face.crop, angle=60.0)) and far_off(
        face, replace(crop, angle=-60.0)
    )


def test_only_what_has_a_second_crop_runs_again(face):
    astray, flat = cropped_by(face, 5.0), without_landmarks(face, np.nan)
    near = cropped_by(face, 1.1)
    faces = ["no memory", astray, cropped_by(face, 1.3), flat, cropped_by(face, 1.5), near]
    asked = []

    def reconstruct(ks, crops):
        asked.append((ks, crops))
        return ["it failed", replace(face, confidence=1.0)]

    result = second_pass(faces, reconstruct)
    own = crop_from_landmarks(face.landmarks)
    assert asked == [([2, 4], [own, own])]
    same = [a is b for a, b in zip(result, faces, strict=True)]
    assert same == [True, True, True, True, False, True]
    assert result[4].confidence == 1.0


@pytest.mark.parametrize(
    ("factor", "shift", "far"),
    [
        *((1.0, 0.0, False), (1.15, 0.05, False), (1.25, 0, True), (0.8, 0, True), (1, 0.12, True)),
        *((1.15, 0, False), (1, 0.08, False), (1.15, 0.08, True)),  # a little of each is much
    ],
)
def test_a_second_look_is_for_crops_that_were_far_off(face, factor, shift, far):
    own = crop_from_landmarks(face.landmarks)
    size = own.size * factor
    for dx, dy in ((shift, 0), (0, -shift)):
        first = replace(face, crop=Crop(own.center_x + dx * size, own.center_y + dy * size, size))
        assert far_off(first, own) is far


def test_nothing_runs_when_nothing_has_a_second_crop(face):
    def never(ks, crops):
        raise AssertionError("called")

    assert second_pass(["failed", without_landmarks(face, np.nan)], never)[0] == "failed"
    assert second_pass([], never) == []
