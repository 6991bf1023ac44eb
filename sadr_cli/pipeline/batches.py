"""Batches of faces through the network: two passes, one bad crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sadr_cli.border import with_border
from sadr_cli.crop import extract_crop
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.passes import second_pass
from sadr_cli.pipeline.photo import Photo
from sadr_cli.protocols import FaceReconstructor


class BatchRunner:
    """Faces of different photos in one batch of at most ``size``."""

    def __init__(self, reconstructor: FaceReconstructor, size: int, two_pass: bool) -> None:
        self.size = max(size, 1)
        self._reconstructor = reconstructor
        self._two_pass = two_pass

    def run(self, items: Sequence[tuple[Photo, int]]) -> list[Face | str]:
        """The faces of ``items`` (photo, number of the face), or the reason why there is none."""
        images = [photo.images[index] for photo, index in items]
        crops = [photo.crops[index] for photo, index in items]
        detections = [photo.detections[index] for photo, index in items]
        faces = self._reconstruct(images, crops, detections)
        if self._two_pass:
            faces = second_pass(faces, lambda ks, again: self._cut([items[k] for k in ks], again))
        out: list[Face | str] = []
        for (photo, _), face in zip(items, faces, strict=True):
            assert photo.frame is not None
            out += with_border([face], photo.frame.image.shape[:2])
        return out

    def _cut(self, items: Sequence[tuple[Photo, int]], crops: list[Crop]) -> list[Face | str]:
        """The faces of ``items`` in other ``crops`` than the first."""
        images = []
        for (photo, _), crop in zip(items, crops, strict=True):
            assert photo.frame is not None
            image = photo.frame.image
            images.append(extract_crop(image, crop, self._reconstructor.crop_resolution))
        return self._reconstruct(images, crops, [photo.detections[i] for photo, i in items])

    def _reconstruct(
        self,
        images: list[NDArray[np.uint8]],
        crops: list[Crop],
        detections: list[Detection],
    ) -> list[Face | str]:
        if not images:
            return []
        try:
            return list(self._reconstructor.reconstruct_crops(images, crops, detections))
        except Exception as error:
            if len(images) == 1:
                return [f"{type(error).__name__}: {error}"]
        # Halves, to find the one crop that cannot be done.
        half = len(images) // 2
        first = self._reconstruct(images[:half], crops[:half], detections[:half])
        return first + self._reconstruct(images[half:], crops[half:], detections[half:])
