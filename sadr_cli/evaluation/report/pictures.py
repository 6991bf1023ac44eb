"""Faces of the report page: the image around the face with truth and prediction drawn on it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import crop_from_landmarks, extract_crop, image_to_crop
from sadr_cli.evaluation.data.benchmark import Array
from sadr_cli.landmarks import CONTOURS

SIDE, QUALITY = 288, 82
MARGIN = 1.6
TRUTH, PREDICTION = (255, 176, 32), (64, 169, 255)  # RGB: amber, blue
_OUTLINE = (16, 20, 26)
_SHIFT = 4


def face_jpeg(image: NDArray[np.uint8], truth: Array, prediction: Array) -> bytes:
    """JPEG of ``SIDE`` pixels; landmarks (68, 2 or 3) in pixels of ``image`` (H, W, 3) RGB."""
    if not np.isfinite(truth).all():  # a scan without ordered landmarks
        truth = prediction
    both = np.concatenate([truth[:, :2], prediction[:, :2]])
    crop = crop_from_landmarks(truth, MARGIN)
    reach = 2 * float(np.abs(both - [crop.center_x, crop.center_y]).max()) * 1.08
    if np.isfinite(reach) and reach > crop.size:  # zoom out to show a distant prediction
        crop = crop_from_landmarks(truth, MARGIN * min(reach / crop.size, 3.0))
    canvas = np.ascontiguousarray(extract_crop(image, crop, SIDE))
    for points, color in ((truth, TRUTH), (prediction, PREDICTION)):
        _draw(canvas, image_to_crop(points[:, :2], crop, SIDE), color)
    done, data = cv2.imencode(".jpg", canvas[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()


def _draw(canvas: NDArray[np.uint8], points: NDArray[Any], color: tuple[int, int, int]) -> None:
    fixed = np.round(np.clip(points, -4 * SIDE, 5 * SIDE) * 2**_SHIFT).astype(np.int32)
    groups = [(fixed[part][:, None], closed) for part, closed in CONTOURS]
    for width, tint in ((3, _OUTLINE), (1, color)):
        for line, closed in groups:
            cv2.polylines(canvas, [line], closed, tint, width, cv2.LINE_AA, _SHIFT)
    for x, y in fixed:
        cv2.circle(canvas, (int(x), int(y)), 2 << _SHIFT, color, -1, cv2.LINE_AA, _SHIFT)
