"""What detectors share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Detection

RGBImage = NDArray[np.uint8]
FloatArray = NDArray[np.floating[Any]]


def check_image(image: RGBImage) -> None:
    """Raise ValueError unless ``image`` is (H, W, 3) uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}")


def non_maximum_suppression(
    boxes: FloatArray, scores: FloatArray, max_overlap: float
) -> NDArray[np.intp]:
    """Indices of the ``boxes`` (N, 4) to keep, best score first.

    A box goes when its intersection over union with a better kept one exceeds ``max_overlap``.
    """
    corners = np.asarray(boxes, float).reshape(-1, 4)
    rectangles: Any = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    keep = cv2.dnn.NMSBoxes(rectangles, np.asarray(scores, np.float32).tolist(), 0.0, max_overlap)
    return np.asarray(keep, np.intp).reshape(-1)


def select_faces(detections: list[Detection], which: str | int) -> list[Detection]:
    """The faces a user asked for: ``largest``, ``all`` or the N largest.

    Size is the box's; the order of the result is by size for ``largest`` and N, and as given
    for ``all``.
    """
    if which == "all":
        return list(detections)
    count = 1 if which == "largest" else which
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"faces must be 'largest', 'all' or a number of at least 1, not {which!r}")
    return sorted(detections, key=lambda d: (-d.size, -d.score))[:count]
