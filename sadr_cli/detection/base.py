"""What detectors share."""

from __future__ import annotations

from typing import Any

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
    x0, y0, x1, y1 = np.asarray(boxes, float).reshape(-1, 4).T
    area = (x1 - x0) * (y1 - y0)
    order = np.argsort(-np.asarray(scores), kind="stable")
    keep: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(int(best))
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])
        shared = width.clip(0) * height.clip(0)
        union = np.maximum(area[best] + area[rest] - shared, 1e-9)
        order = rest[shared / union <= max_overlap]
    return np.array(keep, np.intp)


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
