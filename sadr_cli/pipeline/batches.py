"""Batches of faces through the network: two passes, one bad crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import extract_crop
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.passes import more_confident, second_crop
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
            self._second_pass(items, faces)
        return faces

    def _second_pass(self, items: Sequence[tuple[Photo, int]], faces: list[Face | str]) -> None:
        """Crop again around the first pass's landmarks; the more confident face stands."""
        chosen: list[int] = []
        images, crops, detections = [], [], []
        resolution = self._reconstructor.crop_resolution
        for k, ((photo, index), face) in enumerate(zip(items, faces, strict=True)):
            if isinstance(face, str) or photo.frame is None:
                continue
            crop = second_crop(face)
            if crop is None:
                continue
            chosen.append(k)
            crops.append(crop)
            images.append(extract_crop(photo.frame.image, crop, resolution))
            detections.append(photo.detections[index])
        for k, face in zip(chosen, self._reconstruct(images, crops, detections), strict=True):
            first = faces[k]
            if not isinstance(face, str) and not isinstance(first, str):
                faces[k] = more_confident(first, face)

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
