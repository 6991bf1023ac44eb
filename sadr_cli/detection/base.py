"""What detectors share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Detection
from sadr_cli.protocols import FaceDetector

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


class SelectiveDetector:
    """``detector`` without faces of a lower score or a smaller box (``Detection.size``, pixels)."""

    def __init__(
        self, detector: FaceDetector, min_score: float = 0.0, min_size: float = 0.0
    ) -> None:
        self.name = detector.name
        self._detector, self._least = detector, (min_score, min_size)

    def detect(self, image: RGBImage) -> list[Detection]:
        score, size = self._least
        return [d for d in self._detector.detect(image) if d.score >= score and d.size >= size]


def prominence(detection: Detection, photo: tuple[int, int]) -> float:
    """How much a photo of ``photo`` (height, width) pixels is one of this face.

    Its size in pixels, which a face in a corner counts by half of and one in the middle in full.
    """
    return float(prominences(np.asarray(detection.box, float)[None], photo)[0])


def prominences(boxes: NDArray[np.float64], photo: tuple[int, int]) -> NDArray[np.float64]:
    """(N,) :func:`prominence` of faces with the boxes (N, 4)."""
    height, width = photo
    x0, y0, x1, y1 = boxes.T
    size = np.sqrt(np.maximum(x1 - x0, 0) * np.maximum(y1 - y0, 0))
    away = np.hypot((x0 + x1 + 1 - width) / width, (y0 + y1 + 1 - height) / height) / np.sqrt(2)
    return np.asarray(size * (1 - 0.5 * np.minimum(away, 1)))


def select_faces(
    detections: Sequence[Detection],
    which: str | int,
    photo: tuple[int, int],
) -> list[Detection]:
    """The faces a user asked for, the main person first: in the order of :func:`prominence`.

    which: ``all``, ``largest`` (the main person) or how many. photo: (height, width) in pixels.
    """
    count = {"all": len(detections), "largest": 1}.get(str(which), which)
    if not isinstance(count, int) or (count < 1 and which != "all"):
        raise ValueError(f"faces must be 'largest', 'all' or a number of at least 1, not {which!r}")
    return sorted(detections, key=lambda d: (-prominence(d, photo), -d.score))[:count]
