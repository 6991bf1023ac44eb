"""Pictures of detections."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import crop_corners
from sadr_cli.detection.base import RGBImage
from sadr_cli.detection.calibration import crop_for_detection
from sadr_cli.faces import Detection
from sadr_cli.render.labels import draw_label, label_size

_BOX = (60, 220, 60)
_PLATE = (24, 110, 40)
_CROP = (255, 190, 40)
_POINTS = ((255, 60, 60), (255, 60, 60), (60, 160, 255), (255, 60, 220), (255, 60, 220))


def draw_detections(image: RGBImage, detections: Sequence[Detection]) -> NDArray[np.uint8]:
    """A copy of ``image`` (H, W, 3) RGB with every face's box, points, number and score (green)
    and the crop the network would see (amber)."""
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(max(image.shape[:2]) / 500))
    for number, detection in enumerate(detections):
        crop = crop_for_detection(detection)
        square = np.array([_pixel(corner) for corner in crop_corners(crop)], np.int32)
        cv2.polylines(canvas, [square], True, _CROP, max(1, width // 2), cv2.LINE_AA)
        _rectangle(canvas, detection.box, _BOX, width)
        if detection.points is not None:
            radius = max(1, round(detection.size / 50))
            for point, color in zip(detection.points, _POINTS, strict=True):
                cv2.circle(canvas, _pixel(point), radius, color, -1, cv2.LINE_AA)
        x0, y0 = detection.box[:2] - width / 2
        label = f"{number}  {detection.score:.2f}"
        draw_label(canvas, label, (x0, y0), label_size(detection.size), _PLATE)
    return canvas


def _pixel(point: Sequence[float] | NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.clip(np.round(np.asarray(point, float)), -32000, 32000)
    return int(x), int(y)


def _rectangle(
    canvas: NDArray[np.uint8],
    box: Sequence[float] | NDArray[np.floating],
    color: tuple[int, int, int],
    width: int,
) -> None:
    cv2.rectangle(canvas, _pixel(box[:2]), _pixel(box[2:]), color, width, cv2.LINE_AA)
