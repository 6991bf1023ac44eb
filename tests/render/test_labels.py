"""Numbers on pictures: where they stand, and that they can be read."""

from __future__ import annotations

import numpy as np
import pytest

from sadr_cli.detection.draw import draw_detections
from sadr_cli.faces import Detection
from sadr_cli.render.face_labels import draw_face_labels
from sadr_cli.render.labels import draw_label, label_size

GREY = 128


def blank(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def drawn(canvas: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row and column that differ from the blank picture."""
    rows, columns = np.nonzero((canvas != GREY).any(2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_the_plate_stands_on_its_corner_and_the_letters_stand_out() -> None:
    canvas = blank()
    draw_label(canvas, "12", (40, 70), 20, (10, 60, 20))
    top, bottom, left, right = drawn(canvas)
    assert (bottom, left) == (69, 40) and 20 < bottom - top < 40 and 20 < right - left < 50
    part = canvas[top:bottom, left:right].astype(int)
    assert part.max() > 250 and part[..., 1].min() < 90  # white on the plate's colour


def test_plates_of_one_size_are_of_one_height() -> None:
    heights = set()
    for text in ("0", "7", "track 12", "3  0.92"):
        canvas = blank()
        draw_label(canvas, text, (10, 80), 16, (0, 0, 0))
        top, bottom, *_ = drawn(canvas)
        heights.add(bottom - top)
    assert max(heights) - min(heights) <= 2


@pytest.mark.parametrize("corner", [(-50, -50), (500, 500), (-1e9, 1e9), (159, 3)])
def test_a_plate_beside_the_picture_is_moved_inside(corner: tuple[float, float]) -> None:
    canvas = blank()
    draw_label(canvas, "5", corner, 20, (0, 0, 0))
    top, bottom, left, right = drawn(canvas)
    assert bottom - top > 15 and right - left > 10


def test_a_picture_smaller_than_the_plate_is_no_fault() -> None:
    draw_label(blank(3, 2), "track 7", (0, 0), 44, (0, 0, 0))


def test_letters_grow_with_the_face_within_bounds() -> None:
    assert label_size(1) == label_size(40) < label_size(150) < label_size(1e5) == label_size(1e9)


def test_each_face_is_numbered_above_its_box() -> None:
    boxes = [(20, 60, 60, 110), (100, 60, 140, 110)]
    faces = [Detection(np.array(box, float), 0.9) for box in boxes]
    plain, picture = blank(), draw_detections(blank(), faces)
    assert (plain == GREY).all()  # the photo itself is left alone
    for x0, y0, _, _ in boxes:
        above = picture[y0 - 16 : y0 - 3, x0 : x0 + 20]
        assert (above > 240).all(2).any()


def crowd(rows: int, columns: int, step: int, side: int) -> list[np.ndarray]:
    """Landmarks of faces ``side`` pixels wide and high, ``step`` apart."""
    square = np.random.default_rng(0).uniform(0, 1, (68, 2))
    square[:2] = (0, 0), (1, 1)
    return [
        square * side + (20 + step * column, 30 + step * row)
        for row in range(rows)
        for column in range(columns)
    ]


def covered(canvas: np.ndarray, points: np.ndarray) -> bool:
    """Whether something is written on a face, its forehead included."""
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    y0 -= 0.35 * (y1 - y0)
    part = canvas[max(round(y0) + 1, 0) : int(y1), max(round(x0) + 1, 0) : int(x1)]
    return bool((part != GREY).any())


@pytest.mark.parametrize("step", [60, 75, 110])
def test_labels_of_a_crowd_cover_no_face(step: int) -> None:
    faces = crowd(4, 6, step, 36)
    canvas = blank(40 + 4 * step, 40 + 6 * step)
    names = [str(k) for k in range(len(faces))]
    draw_face_labels(canvas, faces, names, [(10.0, -5.0, 0.4)] * len(faces))
    assert not any(covered(canvas, points) for points in faces)
    # every face has its number
    for points in faces:
        x0, y0 = (points.min(0) - 30).astype(int)
        x1, y1 = (points.max(0) + 30).astype(int)
        assert (canvas[max(y0, 0) : y1, max(x0, 0) : x1] > 200).any()


def test_a_face_that_fills_the_picture_has_its_labels() -> None:
    (points,) = crowd(1, 1, 0, 300)
    canvas = blank(340, 340)
    draw_face_labels(canvas, [points], ["3"], [(10.0, -5.0, 0.4)])
    top, bottom, *_ = drawn(canvas)
    assert top < 10 and bottom > 330


def test_labels_stand_above_and_below_a_face_that_is_alone() -> None:
    (points,) = crowd(1, 1, 0, 60)
    points += (100.3, 100.6)
    canvas = blank(300, 300)
    draw_face_labels(canvas, [points, np.full((68, 2), np.nan)], ["3", "4"], [(1.0, 2.0, 3.0)])
    top, bottom, left, _ = drawn(canvas)
    assert top < points[:, 1].min() - 0.35 * 60 and bottom > points[:, 1].max() and left == 120
    assert not covered(canvas, points)
