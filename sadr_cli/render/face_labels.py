"""Labels with the numbers and angles of faces, placed so that they cover no face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sadr_cli.render.labels import draw_label, label_extent, label_size

_PLATE = (24, 28, 36)
_FOREHEAD = 0.35  # height of the face above the brows, as a share of the landmarks' height
Array = NDArray[np.float64]


def draw_face_labels(
    canvas: NDArray[np.uint8],
    landmarks: Sequence[NDArray[np.floating]],
    numbers: Sequence[str] = (),
    angles: Sequence[tuple[float, float, float]] = (),
) -> None:
    """Draw names and angles of the faces into ``canvas`` (H, W, 3), in place.

    landmarks: (68, 2 or 3) of each face in pixels of the canvas. numbers: names of the faces, or
    empty. angles: yaw, pitch and roll in degrees of the faces, or empty. Names are placed above the
    face and angles below it, or elsewhere beside it where no face or label is; angles wider than
    the face are left out if there is no such place.
    """
    faces = np.array([_face_box(points) for points in landmarks]).reshape(-1, 4)
    kept = np.isfinite(faces).all(1)
    taken = faces[kept]
    for texts, above in ((numbers, True), ([_written(a) for a in angles], False)):
        for k, text in enumerate(texts[: len(faces)]):
            if not kept[k] or not text:
                continue
            x0, y0, x1, y1 = faces[k]
            unit = float(np.sqrt(max(x1 - x0, 1) * max((y1 - y0) / (1 + _FOREHEAD), 1)))
            size = label_size(unit if above else 0.45 * unit)
            spots = _spots(faces[k], label_extent(text, size), size, above, canvas.shape)
            cover = _overlaps(spots, taken)
            best = int(cover.argmin())  # the first minimum
            if cover[best] > 0 and not above and spots[0, 2] - spots[0, 0] > x1 - x0:
                continue
            left, _, _, bottom = spots[best]
            draw_label(canvas, text, (left, bottom), size, _PLATE)
            taken = np.concatenate([taken, spots[best : best + 1]])


def _face_box(landmarks: NDArray[np.floating]) -> Array:
    """(4,) x0, y0, x1, y1 of a face with its forehead; NaN for invalid landmarks."""
    points = np.asarray(landmarks, float)[:, :2]
    if not np.isfinite(points).all():
        return np.full(4, np.nan)
    (x0, y0), (x1, y1) = np.clip(points, -1e4, 1e5).min(0), np.clip(points, -1e4, 1e5).max(0)
    return np.array([x0, y0 - _FOREHEAD * (y1 - y0), x1, y1])


def _written(angles: tuple[float, float, float]) -> str:
    if not np.isfinite(angles).all():
        return ""
    yaw, pitch, roll = map(round, angles)
    return f"yaw {yaw:+d}  pitch {pitch:+d}  roll {roll:+d}"


def _spots(
    face: Array, extent: tuple[int, int], size: int, above: bool, shape: tuple[int, ...]
) -> Array:
    """(N, 4) positions beside a face for a label of ``extent`` (width, height), best first."""
    (x0, y0, x1, y1), (width, height) = face, extent
    gap = size / 2
    # A whole number of pixels away from the face.
    over, under = np.floor(y0) - height, np.ceil(y1 + gap)
    middle, end = (x0 + x1 - width) / 2, x1 - width
    level = y0 if above else y1 - height
    rows = [[(x, y) for x in (x0, middle, end)] for y in (over, under)]
    first, last = rows if above else rows[::-1]
    right, left = np.ceil(x1 + gap), np.floor(x0 - gap) - width
    corners = np.array([*first, (right, level), (left, level), *last])
    # Inside the picture, as draw_label moves them.
    most = max(shape[1] - width, 0), max(shape[0] - height, 0)
    corners = np.clip(np.rint(corners), 0, most)
    return np.concatenate([corners, corners + extent], 1)


def _overlaps(spots: Array, taken: Array) -> Array:
    """(N,) number of pixels of each spot that are already taken."""
    low = np.maximum(spots[:, None, :2], taken[None, :, :2])
    high = np.minimum(spots[:, None, 2:], taken[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(2).sum(1))
