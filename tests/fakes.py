"""A detector and a reconstructor that are fast and exact, for tests of what lies around them.

A face in a test photo is a white square on a dark ground; see :func:`photo_with`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from synthetic import layout

from sadr_cli.crop import Crop, crop_from_landmarks
from sadr_cli.faces import Detection, Face


def photo_with(
    path: Path, faces: Sequence[tuple[int, int, int]] = ((60, 50, 40),), size=(160, 200)
) -> Path:
    """Write a photo of ``size`` (height, width) with white squares (x, y, side) for faces."""
    image = np.full((*size, 3), 40, np.uint8)
    for x, y, side in faces:
        image[y : y + side, x : x + side] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


class FakeDetector:
    """White squares, best score for the largest."""

    name = "fake"

    def detect(self, image):
        white = (image.min(-1) > 200).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(white)
        found = []
        for x, y, w, h, area in stats[1:count]:
            box = np.array([x, y, x + w, y + h], float) - 0.5
            found.append(Detection(box, min(0.5 + area / 10_000, 1.0), detector="landmarks"))
        return sorted(found, key=lambda d: -d.score)


@dataclass(frozen=True)
class FakeInfo:
    name: str = "fake"
    sha256: str = ""
    alignment: str = "paper"


class FakeReconstructor:
    """Puts the mean face into the crop. ``log`` has the size of every batch.

    seconds: how long a batch takes. fail: crops whose centre x rounds to one of these raise.
    """

    crop_resolution = 64
    batch_size = 4
    two_pass = True
    batches_at_once = 2
    device = "cpu"

    def __init__(self, seconds: float = 0.0, fail: Sequence[int] = (), sha256: str = "0" * 64):
        self.uv = layout(0.25)
        self.info = FakeInfo(sha256=sha256)
        self.seconds, self.fail = seconds, set(fail)
        self.log: list[int] = []

    def crop_for(self, detection: Detection) -> Crop:
        x0, y0, x1, y1 = detection.box
        return Crop((x0 + x1) / 2, (y0 + y1) / 2, 1.5 * (x1 - x0))

    def low_latency(self):
        return self

    def reconstruct_crops(self, images, crops, detections=None):
        self.log.append(len(images))
        time.sleep(self.seconds)
        assert all(i.shape == (64, 64, 3) for i in images)
        for crop in crops:
            if round(crop.center_x) in self.fail:
                raise RuntimeError("this crop cannot be done")
        return [self._face(c, d) for c, d in zip(crops, detections, strict=True)]

    def _face(self, crop: Crop, detection: Detection) -> Face:
        uv = self.uv
        shape = np.asarray(uv.mean_shape, float)
        landmarks = shape[uv.landmark_indices]
        extent = np.ptp(landmarks[:, :2], axis=0).mean()
        scale = crop.size / 1.5 / extent
        middle = (landmarks.max(0) + landmarks.min(0)) / 2
        t = np.array([crop.center_x, -crop.center_y, 0]) - scale * middle
        vertices = (scale * shape + t) * (1, -1, 1)
        points = vertices[uv.landmark_indices]
        seen = np.ones(len(vertices))
        return Face(
            vertices=vertices,
            landmarks=points,
            shape=shape,
            visibility=seen,
            landmark_visibility=np.ones(68),
            landmark_confidence=np.ones(68),
            attention=np.ones((8, 8)),
            scale=float(scale),
            rotation=np.eye(3),
            translation=t,
            pose_face=vertices,
            crop=crop_from_landmarks(points),
            detection=detection,
            confidence=0.9,
        )
