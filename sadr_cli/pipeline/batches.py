"""Batches of faces through the network: two passes, one bad crop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sadr_cli.border import with_border
from sadr_cli.crop import extract_crop
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.passes import second_pass
from sadr_cli.pipeline.photo import Photo
from sadr_cli.protocols import FaceReconstructor

Items = Sequence[tuple[Photo, int]]  # photo and number of the face in it


class Done(NamedTuple):
    """A batch and its faces, or the reason why there is none; seconds it took."""

    items: Items
    faces: list[Face | str]
    seconds: float


class BatchRunner:
    """Faces of different photos in batches of at most ``size``, ``at_once`` of them in threads.

    While one batch is aligned the network computes the next. All calls come from one thread.
    """

    def __init__(
        self, reconstructor: FaceReconstructor, size: int, two_pass: bool, at_once: int = 1
    ) -> None:
        self.size = max(size, 1)
        self._at_once = max(at_once, 1)
        self._reconstructor = reconstructor
        self._two_pass = two_pass
        self._flight: deque[Future[Done]] = deque()
        self._pool = ThreadPoolExecutor(self._at_once, "sadr-faces")

    @property
    def room(self) -> bool:
        """Whether one more batch may be begun."""
        return len(self._flight) < self._at_once

    @property
    def oldest(self) -> Future[Done] | None:
        """The batch that :meth:`take` would wait for."""
        return self._flight[0] if self._flight else None

    def begin(self, items: Items) -> None:
        self._flight.append(self._pool.submit(self._run, items))

    def take(self) -> Done:
        """The oldest batch, which must be there; batches come out in the order they went in."""
        return self._flight.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, items: Items) -> Done:
        began = time.perf_counter()
        faces = self._faces(items)
        return Done(items, faces, time.perf_counter() - began)

    def _faces(self, items: Items) -> list[Face | str]:
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

    def _cut(self, items: Items, crops: list[Crop]) -> list[Face | str]:
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
