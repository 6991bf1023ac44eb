"""Long photos, panoramas above all, are searched piece by piece.

A detector scales a photo to what it can look at by the longer side: faces of one twenty times as
wide as high would vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sadr_cli.detection.base import RGBImage, check_image, non_maximum_suppression
from sadr_cli.faces import Detection

_LONG = 3200  # pixels of the longer side up to which a photo is looked at as a whole,
_WIDE = 3.0  # and how many times the shorter side
_PIECE = 2560  # pixels of a piece, where that is 2 to 4 times the shorter side
_THIN = 16  # pixels of the shorter side below which there is no face in any piece
_SURE = 0.5  # score: in so much scenery a doubtful face is mostly a texture
_MAX_OVERLAP = 0.3  # intersection over union of two boxes of one face


def detect_in_pieces(
    detect: Callable[[RGBImage], list[Detection]], image: RGBImage
) -> list[Detection]:
    """What ``detect`` finds in ``image``, which may be of any shape.

    Neighbouring pieces share a square. A face is no larger, so it lies whole in the piece that
    holds its middle farthest from an end, and only there it counts.
    """
    check_image(image)
    upright = int(image.shape[0] > image.shape[1])
    spans = pieces(max(image.shape[:2]), min(image.shape[:2]))
    if len(spans) == 1:
        return detect(image)
    found: list[Detection] = []
    for part, (first, last) in spans:
        piece = image[part] if upright else image[:, part]
        shift = np.array([0, part.start] if upright else [part.start, 0])
        for detection in detect(np.ascontiguousarray(piece)):
            moved = _moved(detection, shift)
            middle = (moved.box[upright] + moved.box[upright + 2]) / 2
            if first <= middle < last and moved.score >= _SURE:
                found.append(moved)
    boxes = np.array([d.box for d in found]).reshape(-1, 4)
    scores = np.array([d.score for d in found])
    return [found[k] for k in non_maximum_suppression(boxes, scores, _MAX_OVERLAP)]


def pieces(length: int, width: int) -> list[tuple[slice, tuple[float, float]]]:
    """(part, span of the middles of its faces) along the longer side; one where it needs none."""
    everything = -np.inf, np.inf
    size = min(max(_PIECE, 2 * width), max(4 * width, 640))
    if length <= max(_LONG, _WIDE * width, size) or width < _THIN:
        return [(slice(0, length), everything)]
    count = -(-(length - width) // (size - width))
    starts = [round(k * (length - size) / (count - 1)) for k in range(count)]
    ends = [-np.inf, *((a + size + b) / 2 for a, b in pairwise(starts)), np.inf]
    return [(slice(start, start + size), (ends[k], ends[k + 1])) for k, start in enumerate(starts)]


def _moved(detection: Detection, shift: np.ndarray) -> Detection:
    points = None if detection.points is None else detection.points + shift
    return replace(detection, box=detection.box + np.tile(shift, 2), points=points)
