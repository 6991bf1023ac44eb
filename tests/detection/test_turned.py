"""Turned faces: how far is said by their points, and quarter-turned copies are searched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeDetector
from scipy.spatial.transform import Rotation

from sadr_cli.crop import crop_from_landmarks, turn
from sadr_cli.detection import (
    SelectiveDetector,
    TurningDetector,
    create_detector,
    crop_for_detection,
    face_angle,
)
from sadr_cli.detection.calibration import turned_detection, uprightness
from sadr_cli.detection.centerface import CenterFace
from sadr_cli.faces import Detection

BOX = np.array([100.0, 50.0, 180.0, 160.0])
POINTS = np.array([[120, 95], [160, 95], [140, 118], [124, 135], [156, 135]], float)
UPRIGHT = Detection(BOX, 0.9, POINTS, "centerface")


def turned_by(angle: float) -> Detection:
    """The same face turned about the middle of its box, as a detector would see it."""
    middle = BOX.reshape(2, 2).mean(0)
    return replace(UPRIGHT, points=middle + (POINTS - middle) @ turn(angle).T)


def test_turns_are_clockwise_in_the_picture() -> None:
    assert np.allclose(turn(90) @ (1, 0), (0, 1))  # right becomes down
    up = Rotation.from_euler("z", -33, degrees=True).as_matrix()[:2, :2]  # y up: the other way
    assert np.allclose(turn(33), up * [[1, -1], [-1, 1]])


@pytest.mark.parametrize("angle", [0.0, 29.0, -45.0, 90.0, 180.0, -170.0, 135.0])
def test_points_say_how_far_a_face_is_turned(angle: float) -> None:
    found = turned_by(angle)
    assert face_angle(found) == pytest.approx(angle, abs=0.01)
    assert uprightness(found) == pytest.approx(np.cos(np.deg2rad(angle)) * uprightness(UPRIGHT))
    crop = crop_for_detection(found)
    assert crop.angle == pytest.approx(angle if abs(angle) > 30 else 0.0, abs=0.01)


def test_what_a_detection_says_of_itself_comes_before_its_points() -> None:
    assert face_angle(replace(UPRIGHT, angle=90.0)) == 90
    assert crop_for_detection(Detection(BOX, angle=-120.0)).angle == -120
    assert face_angle(Detection(BOX)) is None
    assert face_angle(replace(UPRIGHT, points=np.repeat(POINTS[:1], 5, 0))) is None
    mixed = POINTS[[3, 4, 2, 0, 1]]  # eyes below, left before right: no face is so
    assert face_angle(replace(UPRIGHT, points=mixed)) is None


@pytest.mark.parametrize("quarter", [90.0, 180.0, -90.0])
@pytest.mark.parametrize("detection", [UPRIGHT, replace(UPRIGHT, points=None, angle=0.0)])
def test_the_crop_of_a_quarter_turned_face_is_the_turned_crop(quarter, detection) -> None:
    crop, turned = (
        crop_for_detection(d) for d in (detection, turned_detection(detection, quarter))
    )
    x, y = turn(quarter) @ (crop.center_x, crop.center_y)
    assert (turned.center_x, turned.center_y, turned.size) == pytest.approx((x, y, crop.size))
    assert turned.angle % 360 == pytest.approx(quarter % 360, abs=1)


class Upright(FakeDetector):
    """Sees a white square as a face only while the black dot in it lies above its middle."""

    points = True

    def __init__(self) -> None:
        self.looks: list[tuple[int, int]] = []

    def detect(self, image):
        self.looks.append(image.shape[:2])
        out = []
        for found in super().detect(image):
            x0, y0, x1, y1 = (round(v + 0.5) for v in found.box)
            dark = np.argwhere(image[y0:y1, x0:x1].min(-1) < 100)
            if dark.size and dark[:, 0].mean() < 0.4 * (y1 - y0):
                size, corner = x1 - x0, found.box[:2]
                points = corner + size * np.array([[3, 4], [7, 4], [5, 6], [3, 8], [7, 8]]) / 10
                out.append(replace(found, score=0.9, points=points if self.points else None))
        return out


def photo(*places: tuple[int, int, int], size=(300, 400), side=50) -> np.ndarray:
    """White squares (x, y, turn) with a dot that says where their tops are."""
    image = np.full((*size, 3), 40, np.uint8)
    for x, y, angle in places:
        face = np.full((side, side, 3), 255, np.uint8)
        face[side // 8 : side // 4, side // 2 - 4 : side // 2 + 4] = 0
        image[y : y + side, x : x + side] = np.rot90(face, -angle // 90)
    return image


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("larger", [1, 5])
def test_a_face_that_only_a_turned_copy_shows(angle: int, points: bool, larger: int) -> None:
    inner = Upright()
    inner.points = points
    size = (300 * larger, 400 * larger)
    image = photo((40 * larger, 170 * larger, angle), size=size, side=50 * larger)
    assert inner.detect(image) == []
    (found,) = TurningDetector(inner).detect(image)
    side = 50 * larger
    x, y = 40 * larger - 0.5, 170 * larger - 0.5
    assert np.allclose(found.box, [x, y, x + side, y + side])
    assert face_angle(found) % 360 == pytest.approx(angle)
    middle = found.box.reshape(2, 2).mean(0)
    if points:
        eyes = (found.points[:2].mean(0) - middle) @ turn(angle)
        assert eyes == pytest.approx((0, -0.1 * side), abs=0.01)
        assert found.points[0] @ turn(angle)[:, 0] < found.points[1] @ turn(angle)[:, 0]
    # The crop stays within the face's place, turned with it.
    crop = crop_for_detection(replace(found, detector="landmarks"))
    assert (crop.center_x, crop.center_y) == pytest.approx(tuple(middle))
    assert crop.angle % 360 == pytest.approx(angle)


def test_sure_faces_cost_no_second_look() -> None:
    inner = Upright()
    found = TurningDetector(inner).detect(photo((40, 60, 0), (200, 60, 0)))
    assert len(found) == 2 and len(inner.looks) == 1


def test_where_nothing_is_copies_are_searched_at_few_pixels() -> None:
    inner = Upright()
    assert TurningDetector(inner).detect(photo(size=(1500, 2000))) == []
    assert inner.looks == [(1500, 2000), (480, 640), (640, 480), (640, 480)]


def test_a_better_reading_replaces_a_worse_one_at_the_same_place() -> None:
    class Doubtful(Upright):
        def detect(self, image):
            found = super().detect(image)
            if found or len(self.looks) > 1:
                return found
            return [replace(UPRIGHT, box=np.array([39.5, 169.5, 89.5, 219.5]), score=0.15)]

    (found,) = TurningDetector(Doubtful()).detect(photo((40, 170, 180)))
    assert found.score == 0.9 and abs(face_angle(found)) == pytest.approx(180)
    (found,) = TurningDetector(Doubtful()).detect(photo())  # nothing better: it stays
    assert found.score == 0.15


def test_every_detector_is_asked_in_turns_but_none() -> None:
    assert isinstance(create_detector("centerface"), TurningDetector)
    assert isinstance(create_detector("centerface", min_score=0.6), SelectiveDetector)
    assert not isinstance(create_detector("none"), TurningDetector)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turned_photo_has_the_same_faces(turns: int, astronaut) -> None:
    detector = create_detector("centerface")
    (before,) = detector.detect(astronaut)
    (after,) = detector.detect(np.ascontiguousarray(np.rot90(astronaut, -turns)))
    assert face_angle(after) % 360 == pytest.approx((90 * turns + face_angle(before)) % 360, abs=20)
    here, there = crop_for_detection(before), crop_for_detection(after)
    assert there.size == pytest.approx(here.size, rel=0.15)
    height, width = astronaut.shape[:2]
    back = {
        1: (there.center_y, height - 1 - there.center_x),
        2: (width - 1 - there.center_x, height - 1 - there.center_y),
        3: (width - 1 - there.center_y, there.center_x),
    }[turns]
    assert np.hypot(back[0] - here.center_x, back[1] - here.center_y) < 0.1 * here.size
    assert crop_from_landmarks(after.points, angle=there.angle).size < there.size


@pytest.mark.parametrize("angle", [None, 180])
def test_a_quick_look_tells_how_a_large_doubtful_face_is_turned(angle: int | None) -> None:
    place = np.array([39.5, 169.5, 139.5, 269.5])

    class Doubtful(Upright):
        def detect(self, image):
            found = super().detect(image)
            return found or [replace(UPRIGHT, box=place, score=0.15)]

    image = photo() if angle is None else photo((40, 170, angle), side=100)
    inner, quick = Doubtful(), Upright()
    (found,) = TurningDetector(inner, quick).detect(image)
    # The detector itself looks at the copy in which the quick one sees a better face.
    assert len(quick.looks) == 3 and len(inner.looks) == (1 if angle is None else 2)
    assert found.score == (0.15 if angle is None else 0.9)
    place = place[[0, 1, 0, 1]] + (0, 0, 10, 10)  # too small for it
    TurningDetector(Doubtful(), quick := Upright()).detect(photo())
    assert not quick.looks


def test_centerface_as_the_quick_one_looks_from_no_nearer(group) -> None:
    whole, quick = create_detector("centerface"), CenterFace(closest=320)
    assert 0 < len(quick.detect(group)) < len(whole.detect(group))
