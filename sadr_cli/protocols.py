"""Interfaces of detectors and reconstructors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.uv import UVLayout


class FaceDetector(Protocol):
    """Finds faces. Instances may be shared between threads."""

    name: str

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces of ``image`` (H, W, 3) uint8 RGB, best score first, in its pixels.

        Boxes of faces cut by the photo's border may extend beyond it.
        """
        ...


class FaceReconstructor(Protocol):
    """Crops in, faces out; implemented by :class:`sadr_cli.reconstructor.Reconstructor`."""

    @property
    def info(self) -> Any:
        """A dataclass with name, sha256, alignment... of the weights."""
        ...

    @property
    def uv(self) -> UVLayout: ...

    @property
    def crop_resolution(self) -> int:
        """Pixels of a crop's side."""
        ...

    def crop_for(self, detection: Detection) -> Crop: ...

    def low_latency(self) -> FaceReconstructor:
        """One with the same results for one photo after the other."""
        ...

    def reconstruct_crops(
        self,
        images: Sequence[NDArray[np.uint8]],
        crops: Sequence[Crop],
        detections: Sequence[Detection | None] | None = None,
    ) -> list[Face]:
        """Faces in the pixels of their photos, one per crop."""
        ...
