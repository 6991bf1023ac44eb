"""Self-alignment of faces on the CPU, one by one, in NumPy and OpenCV.

The results are those of :mod:`sadr_cli.model.alignment` in ``paper`` mode to a thousandth of a
pixel, at a tenth of the cost: nothing is computed that a finished face does not contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.model.checkpoint import Scaling
from sadr_cli.model.config import EPS_WEIGHT, NetworkConfig, NetworkOutput
from sadr_cli.pixels import to_edge
from sadr_cli.uv import SIZE, UVLayout

FloatMap = NDArray[np.float32]


class _Maps(NamedTuple):
    """P and S (256, 256, 3) and the attention (a, a) in [0, 1], or None, of one face."""

    pose_face: FloatMap
    shape: FloatMap
    attention: FloatMap | None


class FaceAligner:
    """Network outputs -> what is kept of a face, in pixels of a 256-pixel crop with y down."""

    def __init__(self, uv: UVLayout, scaling: Scaling, config: NetworkConfig) -> None:
        self._scaling = scaling
        self._mean = uv.to_map(uv.mean_shape.astype(np.float32)) if config.deformation else None
        self._pixels = uv.pixels
        self._landmarks = uv.landmark_indices.astype(np.intp)
        around = _neighbours(uv)
        self._around_landmarks = around[:, self._landmarks]
        self._border = np.flatnonzero((around == self._pixels).any(0))
        self._around_border = around[:, self._border]

    def __call__(
        self, output: NetworkOutput, mirrored: NetworkOutput | None = None
    ) -> dict[str, Sequence[Any]]:
        """As ``Reconstructor.align`` gives them, a list with an item a face in place of a batch."""
        faces = []
        for k in range(len(output.pose_map)):
            maps = self._maps(output, k)
            if mirrored is not None:
                maps = _mean_of_mirrored(maps, self._maps(mirrored, k))
            faces.append(self._align(maps))
        return {key: [face[key] for face in faces] for key in faces[0]}

    def _maps(self, output: NetworkOutput, k: int) -> _Maps:
        pose_face = _upsampled(output.pose_map[k], self._scaling.position)
        shape = _upsampled(output.shape_map[k], self._scaling.shape)
        if self._mean is not None:
            shape += self._mean
        attention: FloatMap | None = None
        if output.attention is not None:
            logits: FloatMap = np.asarray(output.attention[k, 0], np.float32)
            attention = np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        return _Maps(pose_face, shape, attention)

    def _align(self, maps: _Maps) -> dict[str, Any]:
        """Eqs 10 to 18 and 2."""
        pose_face = np.take(maps.pose_face.reshape(-1, 3), self._pixels, axis=0)
        shape = np.take(maps.shape.reshape(-1, 3), self._pixels, axis=0)
        target = pose_face[self._landmarks]
        columns = np.ascontiguousarray(maps.pose_face.reshape(-1, 3)[self._around_landmarks].T)
        attention = None if maps.attention is None else _framed(maps.attention)
        facing = _turned_to_viewer(columns[0].T, columns[1].T)
        weights = _seen(target, facing, attention) + EPS_WEIGHT
        scale, rotation, translation = _similarity(
            shape[self._landmarks], target * np.array((1, -1, 1), np.float32), weights
        )
        down = np.array([[1.0], [-1.0], [1.0]])
        matrix = np.hstack([down * scale * rotation, down * translation[:, None]])
        placed: FloatMap = cv2.transform(maps.shape, matrix)
        x, y = self._xy(placed)
        facing = np.take(_facing_inside(x, y), self._pixels)
        facing[self._border] = _facing(x, y, self._around_border)
        vertices = np.take(placed.reshape(-1, 3), self._pixels, axis=0)
        squares = maps.attention
        return {
            "vertices": vertices,
            "pose_face": pose_face,
            "shape": shape,
            "visibility": _seen(vertices, facing, attention),
            "attention": np.ones((1, 1), np.float32) if squares is None else squares,
            "scale": scale,
            "rotation": rotation,
            "translation": translation,
        }

    @staticmethod
    def _xy(position: FloatMap) -> tuple[FloatMap, FloatMap]:
        x, y = (cv2.extractChannel(position, k) for k in (0, 1))
        return np.asarray(x), np.asarray(y)


def _upsampled(uv_map: Any, scale: float) -> FloatMap:
    """A map (3, U, U) -> (256, 256, 3), bilinear between pixel centres."""
    coarse = np.asarray(uv_map, np.float32).transpose(1, 2, 0) * np.float32(scale)
    if len(coarse) == SIZE:
        return np.ascontiguousarray(coarse)
    return np.asarray(cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))


def _mean_of_mirrored(maps: _Maps, mirrored: _Maps) -> _Maps:
    """The mean of what was seen in a crop and in its mirror image, where x becomes 255 - x, in
    the shape frame -x, and the halves of the UV map change places."""
    sign, there = np.array(((-1, 1, 1), (SIZE - 1, 0, 0)), np.float32)
    pose_face: FloatMap = (maps.pose_face + mirrored.pose_face[:, ::-1] * sign + there) / 2
    shape: FloatMap = (maps.shape + mirrored.shape[:, ::-1] * sign) / 2
    attention: Any = maps.attention
    if attention is not None and mirrored.attention is not None:
        attention = (attention + mirrored.attention[:, ::-1]) / 2
    return _Maps(pose_face, shape, attention)


def _neighbours(uv: UVLayout) -> NDArray[np.intp]:
    """(4, V) pixels east, west, south and north of each vertex; its own where that is no face."""
    numbers = np.where(uv.mask, np.arange(SIZE * SIZE).reshape(SIZE, SIZE), -1)
    around = np.pad(numbers, 1, constant_values=-1)
    sides = (around[1:-1, 2:], around[1:-1, :-2], around[2:, 1:-1], around[:-2, 1:-1])
    own = numbers[uv.mask]
    return np.stack([np.where(side[uv.mask] < 0, own, side[uv.mask]) for side in sides])


def _facing(x: FloatMap, y: FloatMap, around: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(K,) normal z >= 0 at points with the neighbours ``around`` (4, K)."""
    return _turned_to_viewer(np.take(x, around), np.take(y, around))


def _turned_to_viewer(x: FloatMap, y: FloatMap) -> NDArray[np.bool_]:
    """(K,) the same, of the neighbours' coordinates (4, K)."""
    (x0, x1, x2, x3), (y0, y1, y2, y3) = x, y
    return np.asarray((x0 - x1) * (y2 - y3) >= (y0 - y1) * (x2 - x3))


def _facing_inside(x: FloatMap, y: FloatMap) -> NDArray[np.bool_]:
    """(256, 256) the same, by the four neighbours; False along the edge of the map."""
    out = np.zeros(x.shape, bool)
    across_x, across_y = (axis[1:-1, 2:] - axis[1:-1, :-2] for axis in (x, y))
    down_x, down_y = (axis[2:, 1:-1] - axis[:-2, 1:-1] for axis in (x, y))
    np.greater_equal(across_x * down_y, across_y * down_x, out=out[1:-1, 1:-1])
    return out


def _framed(attention: FloatMap) -> FloatMap:
    """The attention with zeros around it: what is outside of the crop reads 0."""
    height, width = attention.shape
    out = np.zeros((height + 2, width + 2), np.float32)
    out[1:-1, 1:-1] = attention
    return out


def _seen(
    points: FloatMap, facing: NDArray[np.bool_], attention: FloatMap | None
) -> NDArray[np.float32]:
    """Vis of Eq 10 (K,): the attention, :func:`_framed`, in the cell of each point (K, 3) that
    faces the viewer."""
    if attention is None:
        return facing.astype(np.float32)
    height, width = (side - 2 for side in attention.shape)
    step = np.float32(width / SIZE)
    column, row = (
        np.clip(to_edge(points[:, axis]) * step + 1, 0, cells + 1).astype(np.int32)
        for axis, cells in ((0, width), (1, height))
    )
    return np.asarray(np.take(attention, row * (width + 2) + column) * facing, np.float32)


def _similarity(
    source: FloatMap, target: FloatMap, weights: NDArray[np.float32]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """f, R, t of Eqs 12 to 18 for points (K, 3) with weights (K,); see ``weighted_similarity``."""
    s, p, w = (np.asarray(a, np.float64) for a in (source, target, weights))
    w = w / max(w.sum(), 1e-12)
    mean_s, mean_p = w @ s, w @ p  # Eqs 12, 13
    s, p = s - mean_s, p - mean_p
    reach_s, reach_p = (w @ np.sqrt((a * a).sum(1) + 1e-12) for a in (s, p))
    scale = float(reach_p / max(reach_s, 1e-12))  # Eq 14
    u, _, vt = np.linalg.svd(p.T @ (s * w[:, None]))  # Eqs 15 to 17
    u[:, 2] *= np.sign(np.linalg.det(u @ vt)) or 1.0
    rotation = u @ vt
    return scale, rotation, mean_p - scale * rotation @ mean_s  # Eq 18
