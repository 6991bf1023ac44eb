"""Face box -> square crop, and back to the photo.

The network's crop is that of SADRNet: a square of side 1.5 (w + h) / 2 around the centre of the box
of the 68 landmarks, rotated with the face if that is far from upright. Pixel (u, v) of a crop of n
pixels lies at ``center + T ((u, v) + 0.5 - n / 2) size / n`` in the photo, with T the rotation by
``angle``, see :func:`turn`.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError
from sadr_cli.faces import Crop, FloatArray
from sadr_cli.pixels import from_edge, to_edge
from sadr_cli.pose import turn as turn

LANDMARK_BOX_MARGIN = 1.5
UPRIGHT = 30.0  # degrees of in-plane rotation up to which crops stay upright


def crop_from_landmarks(
    landmarks: FloatArray, margin: float = LANDMARK_BOX_MARGIN, angle: float = 0.0
) -> Crop:
    """The network's crop from landmarks ``(L, 2 or 3)`` in pixels, rotated by ``angle`` degrees.

    Raises InputError if the landmarks are not finite or have no extent.
    """
    xy = np.asarray(landmarks, float)[:, :2] @ turn(angle)
    low, high = xy.min(0), xy.max(0)
    size = margin * float((high - low).mean()) if np.isfinite(xy).all() else 0.0
    if not np.isfinite(size) or size <= 0:
        raise InputError("the landmarks have no extent: give the 68 points of one face in pixels")
    center = turn(angle) @ ((low + high) / 2)
    return Crop(float(center[0]), float(center[1]), size, angle)


def crop_to_image(points: FloatArray, crop: Crop, resolution: int) -> NDArray[np.float64]:
    """Points ``(..., 2 or 3)`` in pixels of a crop of ``resolution`` -> pixels of the photo."""
    p = np.asarray(points, float).copy()
    step = crop.size / resolution
    (c, _), (s, _) = turn(crop.angle)
    x, y, half = to_edge(p[..., 0]) * step, to_edge(p[..., 1]) * step, crop.size / 2
    p[..., 0] = crop.center_x - (c * half - s * half) + (c * x - s * y)
    p[..., 1] = crop.center_y - (s * half + c * half) + (s * x + c * y)
    p[..., 2:] *= step
    return p


def image_to_crop(points: FloatArray, crop: Crop, resolution: int) -> NDArray[np.float64]:
    """Points ``(..., 2 or 3)`` in pixels of the photo -> pixels of a crop of ``resolution``."""
    return crop.place(points, resolution)


def crop_matrix(crop: Crop, resolution: int) -> NDArray[np.float64]:
    """(2, 3) affine matrix: pixels of a crop of ``resolution`` -> pixels of the photo."""
    corner = crop_to_image(np.zeros(2), crop, resolution)
    return np.column_stack([turn(crop.angle) * (crop.size / resolution), corner])


def extract_crop(image: NDArray[Any], crop: Crop, resolution: int) -> NDArray[Any]:
    """Cut the square out of ``image`` (H, W, 3) and resize it to ``resolution``; black outside.

    Photos much larger than the crop are averaged first, to avoid aliasing.
    """
    matrix = crop_matrix(crop, resolution)
    step = crop.size / resolution
    if step > 1.5:  # bilinear sampling alone would alias
        # Cut a larger window and shrink it by area averaging to about the target scale.
        reach = crop.size * float(np.abs(turn(crop.angle)[0]).sum())
        low = [c - reach / 2 + to_edge(0.0) * step for c in (crop.center_x, crop.center_y)]
        left, top = (int(v) for v in np.floor(np.array(low) - 2 * step))
        side = int(np.ceil(reach + 4 * step))
        side += -side % 8 if step > 8 else 0  # so that it can be halved
        window = cut_window(image, left, top, side)
        small = max(round(side / step), 1)
        image = shrink(window, (small, small))
        ratio = side / small
        matrix[:, 2] = from_edge(to_edge(matrix[:, 2] - (left, top)) / ratio)
        matrix[:, :2] /= ratio
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (resolution, resolution), flags=flags)


def shrink(image: NDArray[Any], size: tuple[int, int], halved: float = 8.0) -> NDArray[Any]:
    """``image`` (H, W, 3) averaged down to ``size`` (width, height).

    Photos with even sides that are at least ``halved`` times as large are halved first, which
    OpenCV does much faster than other factors: in half of the time or less, with a difference of
    about 1 of 256 levels from 8 times on, and of up to 20 at edges from 3 times on.
    """
    while (
        min(image.shape[1] / size[0], image.shape[0] / size[1]) >= halved
        and image.shape[0] % 2 == image.shape[1] % 2 == 0
    ):
        half = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def crop_box(crop: Crop) -> FloatArray:
    """(4,) x0, y0, x1, y1 of the square without its rotation, in pixels of the photo."""
    half = crop.size / 2
    x, y = crop.center_x, crop.center_y
    return np.array([x - half, y - half, x + half, y + half])


def crop_corners(crop: Crop) -> FloatArray:
    """(4, 2) corners of the square in pixels of the photo, clockwise from the face's top left."""
    unit = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (crop.size / 2)
    return np.array([crop.center_x, crop.center_y]) + unit @ turn(crop.angle).T


def points_box(points: FloatArray) -> FloatArray:
    """(4,) x0, y0, x1, y1 of points (P, 2 or 3)."""
    xy = np.asarray(points, float)[:, :2]
    return np.concatenate([xy.min(0), xy.max(0)])


def box_iou(a: FloatArray, b: FloatArray) -> float:
    """Intersection over union of two boxes (4,) x0, y0, x1, y1; 0 if one has no extent."""
    return float(box_ious(np.asarray(a, float)[None], np.asarray(b, float))[0])


def box_ious(boxes: FloatArray, box: FloatArray) -> NDArray[np.float64]:
    """(N,) :func:`box_iou` of each of ``boxes`` (N, 4) with ``box`` (4,)."""
    x0, y0, x1, y1 = boxes.T
    a0, b0, a1, b1 = (float(v) for v in box)
    across = np.maximum(np.minimum(x1, a1) - np.maximum(x0, a0), 0)
    inside = across * np.maximum(np.minimum(y1, b1) - np.maximum(y0, b0), 0)
    union = (x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - inside
    return np.asarray(np.divide(inside, union, out=np.zeros(len(boxes)), where=union > 0))


def cut_window(image: NDArray[Any], left: int, top: int, side: int) -> NDArray[Any]:
    """The square ``side`` x ``side`` at (left, top) of ``image``, black outside it."""
    out = np.zeros((side, side, *image.shape[2:]), image.dtype)
    height, width = image.shape[:2]
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    if x0 < x1 and y0 < y1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out
