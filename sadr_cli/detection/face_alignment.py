"""Detectors of the package ``face-alignment``, with weights that are already on this machine.

By itself face-alignment downloads missing weights; here every file is found first (see
:mod:`sadr_cli.detection.files`) and passed to it, so nothing is ever downloaded. YuNet is
run by OpenCV directly, which keeps its five points.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.detection.base import RGBImage, non_maximum_suppression
from sadr_cli.detection.files import find_file, where_to_put
from sadr_cli.detection.pieces import detect_in_pieces
from sadr_cli.errors import MissingDataError
from sadr_cli.faces import Detection
from sadr_cli.native import Native
from sadr_cli.pixels import from_edge

Rows = NDArray[np.float64]  # (N, 5) x0, y0, x1, y1, score, or (N, 15) with five points between


@dataclass(frozen=True)
class _Kind:
    files: tuple[str, ...]
    load: Callable[..., Callable[[RGBImage], Any]]
    max_side: int  # larger photos are scaled down first: time, and faces larger than trained on
    packages: tuple[str, ...] = ("face_alignment",)
    origin: str = "face-alignment's documentation says where it is from"


def _load_sfd(weights: Path, device: str) -> Callable[[RGBImage], Any]:
    module = importlib.import_module("face_alignment.detection.sfd")
    return module.FaceDetector(device, path_to_detector=str(weights)).detect_from_image


def _load_blazeface(weights: Path, anchors: Path, device: str) -> Callable[[RGBImage], Any]:
    module = importlib.import_module("face_alignment.detection.blazeface")
    detector = module.FaceDetector(
        device, path_to_detector=str(weights), path_to_anchor=str(anchors)
    )
    return detector.detect_from_image


def _load_retinaface(weights: Path, device: str) -> Callable[[RGBImage], Any]:
    module = importlib.import_module("face_alignment.detection.retinaface")
    return module.FaceDetector(device, path_to_detector=str(weights)).detect_from_image


def _load_yunet(weights: Path, device: str) -> Callable[[RGBImage], Any]:
    net = cv2.FaceDetectorYN.create(str(weights), "", (0, 0), 0.5, 0.3)

    def look(image: RGBImage) -> Any:
        net.setInputSize((image.shape[1], image.shape[0]))
        found = net.detect(np.ascontiguousarray(image[..., ::-1]))[1]
        if found is None:
            return np.empty((0, 15))
        rows = np.asarray(found, float)
        rows[:, 2:4] += rows[:, :2]
        return rows[:, [0, 1, 2, 3, *range(4, 14), 14]]

    return look


_KINDS = {
    "sfd": _Kind(("s3fd-619a316812.pth",), _load_sfd, 1280),
    "blazeface": _Kind(("blazeface.pth", "anchors.npy"), _load_blazeface, 1280),
    "yunet": _Kind(
        ("face_detection_yunet_2023mar.onnx",), _load_yunet, 640, (), "it is in OpenCV's model zoo"
    ),
    "retinaface": _Kind(
        ("retinaface_mobilenet0.25.pth",), _load_retinaface, 1280, ("face_alignment", "torchvision")
    ),
}
NAMES = tuple(_KINDS)


def why_unavailable(name: str) -> str | None:
    """None when detector ``name`` can run, else one sentence."""
    kind = _KINDS[name]
    for package in kind.packages:
        if importlib.util.find_spec(package) is None:
            pip = package.replace("_", "-")
            return f"detector {name!r} needs the package {pip} (pip install {pip})"
    missing = [file for file in kind.files if find_file(file) is None]
    if missing:
        return (
            f"detector {name!r} needs {' and '.join(missing)}: put it into {where_to_put()} "
            f"(nothing is downloaded unasked; {kind.origin})"
        )
    return None


class FaceAlignmentDetector:
    """Detectors ``sfd``, ``blazeface``, ``yunet`` and ``retinaface``."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        reason = why_unavailable(name)
        if reason is not None:
            raise MissingDataError(reason)
        self.name = name
        self._kind = _KINDS[name]
        files = [find_file(file) for file in self._kind.files]
        load = partial(self._kind.load, *files, device=device)
        self._look: Native[Any] = Native(load, lambda look: look(np.zeros((64, 64, 3), np.uint8)))
        try:
            self._look()
        except ImportError as error:
            raise MissingDataError(f"detector {name!r}: {error}") from error
        except Exception as error:
            raise MissingDataError(
                f"detector {name!r} cannot be loaded from {files[0]}: the file is damaged or of "
                f"another kind ({type(error).__name__})"
            ) from error

    def detect(self, image: RGBImage) -> list[Detection]:
        return detect_in_pieces(self._detect, image)

    def _detect(self, image: RGBImage) -> list[Detection]:
        scale = min(1.0, self._kind.max_side / max(image.shape[:2]))
        small = image
        if scale < 1:
            size = [max(round(n * scale), 1) for n in image.shape[1::-1]]
            small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        with self._look.alone() as look:
            found = look(small)
        rows: Rows = np.array([row for row in found if len(row)], float)
        if not rows.size:
            return []
        # These networks count from the first pixel's corner, Detection from its centre.
        ratio = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]])
        places = from_edge(rows[:, :-1].reshape(len(rows), -1, 2) * ratio)
        boxes, scores = places[:, :2].reshape(-1, 4), rows[:, -1].clip(0, 1)
        points = places[:, 2:] if places.shape[1] == 7 else None
        return [
            Detection(boxes[i], float(scores[i]), None if points is None else points[i], self.name)
            for i in non_maximum_suppression(boxes, scores, 0.5)
        ]
