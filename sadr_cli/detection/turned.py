"""Faces that are turned in the picture: detectors know upright ones, and miss or misread others.

CenterFace finds nine of ten faces of AFLW2000-3D that are turned by more than 120 degrees, but
takes the mouth of every second one for the eyes. Of the photo's copies in quarter turns one shows
the face within 45 degrees of upright, where score and points are as good as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sadr_cli.crop import box_iou, shrink, turn
from sadr_cli.detection.base import RGBImage, non_maximum_suppression
from sadr_cli.detection.calibration import face_angle, turned_detection, uprightness
from sadr_cli.faces import Detection
from sadr_cli.pixels import from_edge, resized
from sadr_cli.protocols import FaceDetector

# See _quality. Frontal faces have 0.43, profiles 0.25; nearly all those beyond 60 degrees that are
# misread stay below 0.22.
_SURE = 0.222
_SCORE = 0.5  # of a face that only a turned copy shows
_LENGTH = 0.4  # taken for the length of a face's points where there are none
_SIDE = 640  # pixels of the copies that are searched for a first sign of a face
_MAX_OVERLAP = 0.3
QUICK_SIDE, _LARGE = 320, 45.0  # pixels of a photo's longer side, of a face in it


class _Candidate(NamedTuple):
    quality: float
    detection: Detection


class TurningDetector:
    """``detector``, and in quarter turns too where it finds nothing, or nothing sure.

    What it is sure of is passed on as it is, at no cost.
    """

    def __init__(self, detector: FaceDetector, quick: FaceDetector | None = None) -> None:
        """quick: knows large faces at less cost, see :data:`QUICK_SIDE`."""
        self.name = detector.name
        self._detector = detector
        self._quick = quick

    def detect(self, image: RGBImage) -> list[Detection]:
        upright = self._detector.detect(image)
        found = [_Candidate(_quality(d), d) for d in upright]
        if found and all(c.quality >= _SURE for c in found):
            return upright
        small, first = _reduced(image), self._detector
        if self._quick is not None and found and _are_large(upright, image):
            first = self._quick  # the question is only how these faces are turned
        for quarter in (180.0, 90.0, -90.0):
            turned = self._turned(first, small, quarter, image)
            better = [c for c in turned if _is_better(c, found)]
            if better and (small is not image or first is not self._detector):
                better = list(self._turned(self._detector, image, quarter, image))
            found += better
        boxes = np.array([c.detection.box for c in found]).reshape(-1, 4)
        order = np.array([max(c.quality, 1e-6) for c in found])
        keep = non_maximum_suppression(boxes, order, _MAX_OVERLAP)
        return sorted((found[k].detection for k in keep), key=lambda d: -d.score)

    @staticmethod
    def _turned(
        detector: FaceDetector, picture: RGBImage, quarter: float, photo: RGBImage
    ) -> Iterator[_Candidate]:
        """Faces turned by about ``quarter`` degrees in ``picture``, the ``photo`` or a smaller copy
        of it; in the photo's pixels."""
        copy = np.ascontiguousarray(np.rot90(picture, round(quarter / 90)))
        there, here = (from_edge(np.array(a.shape[1::-1]) / 2) for a in (picture, copy))
        shift = there - turn(quarter) @ here
        ratio = np.divide(photo.shape[1::-1], picture.shape[1::-1])
        for seen in detector.detect(copy):
            if seen.points is None:
                seen = replace(seen, angle=0.0)
            quality = _quality(seen)
            if seen.score < _SCORE or quality <= 0 or face_angle(seen) is None:
                continue
            back = turned_detection(seen, quarter)
            points = None if back.points is None else resized(back.points + shift, ratio)
            box = resized(back.box.reshape(2, 2) + shift, ratio).ravel()
            yield _Candidate(quality, replace(back, box=box, points=points))


def _are_large(faces: list[Detection], image: RGBImage) -> bool:
    """Whether a detector that sees :data:`QUICK_SIDE` pixels of a photo sees each of them well."""
    scale = QUICK_SIDE / max(image.shape[:2])
    return all(face.size * scale >= _LARGE for face in faces)


def _quality(detection: Detection) -> float:
    """How sure it is that an upright face is there: score times length of the points upwards."""
    length = _LENGTH if detection.points is None else uprightness(detection)
    return detection.score * length


def _is_better(candidate: _Candidate, others: list[_Candidate]) -> bool:
    """Whether no other one at the same place is of a higher quality."""
    box = candidate.detection.box
    return not any(
        other.quality >= candidate.quality and box_iou(other.detection.box, box) > _MAX_OVERLAP
        for other in others
    )


def _reduced(image: RGBImage) -> RGBImage:
    scale = _SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(round(n * scale), 1) for n in image.shape[:2])
    return np.asarray(shrink(image, (width, height)), np.uint8)
