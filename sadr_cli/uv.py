"""The UV layout of a 256 x 256 UV map: face mask, landmarks, triangles, mean shape.

The layout is that of PRNet and SADRNet (paper, Eqs 6-8): a UV map stores one 3-D point per pixel,
and neighbours in the map are neighbours on the face. Every checkpoint contains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.pixels import to_edge

SIZE = 256
MM_PER_UNIT = 1e3 / 15.0  # one unit of the shape frame: 1 / 1.5e-5 micrometres

_EAR = 1.015  # ears begin at this times the outermost jaw landmarks' distance from the middle
_LOBE = 12  # rows of the UV map by which an ear extends above and below

# Loss weights by region: landmarks, eyes nose mouth, cheek chin forehead, neck (paper III-D).
REGION_WEIGHTS = {1: 16.0, 2: 12.0, 3: 3.0, 0: 0.0}


@dataclass(frozen=True, eq=False)
class UVLayout:
    """The face pixels of the UV map, landmarks, regions and the mean shape.

    mask: (256, 256) bool, the V face pixels; vertex order is that of ``np.where(mask)``.
    kpt: (68, 2) int row, column of the landmarks, 300-W order.
    region: (256, 256) uint8: 1 landmarks, 2 eyes nose mouth, 3 cheek chin forehead, 0 neck.
    mean_shape: (V, 3) float32 mean template in the shape frame (y up, 1 unit = 66.67 mm).
    """

    mask: NDArray[np.bool_]
    kpt: NDArray[np.integer[Any]]
    region: NDArray[np.uint8]
    mean_shape: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.mask.shape != (SIZE, SIZE) or self.kpt.shape != (68, 2):
            raise ValueError("a UV layout has a 256 x 256 mask and 68 landmarks")
        if self.mean_shape.shape != (int(self.mask.sum()), 3):
            raise ValueError("the mean shape must have one point per face pixel")
        if self.region.shape != (SIZE, SIZE):
            raise ValueError("the regions of a UV layout are 256 x 256")
        if self.kpt.min() < 0 or self.kpt.max() >= SIZE:
            raise ValueError("every landmark must lie inside the UV map")
        if not self.mask[self.kpt[:, 0], self.kpt[:, 1]].all():
            raise ValueError("every landmark must lie inside the face mask")

    @cached_property
    def vertex_count(self) -> int:
        """V, the number of face pixels."""
        return int(self.mask.sum())

    @cached_property
    def pixels(self) -> NDArray[np.intp]:
        """(V,) index of each vertex in the flattened UV map."""
        return np.flatnonzero(self.mask)

    @cached_property
    def rows_columns(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row (V,) and column (V,) of each vertex in the UV map."""
        rows, columns = np.nonzero(self.mask)
        return rows, columns

    @cached_property
    def index_map(self) -> NDArray[np.int32]:
        """(256, 256) vertex index of each face pixel, -1 elsewhere."""
        index = np.full((SIZE, SIZE), -1, np.int32)
        index[self.mask] = np.arange(self.vertex_count, dtype=np.int32)
        return index

    @cached_property
    def landmark_indices(self) -> NDArray[np.int32]:
        """(68,) vertex index of each landmark."""
        return self.index_map[self.kpt[:, 0], self.kpt[:, 1]]

    @cached_property
    def triangles(self) -> NDArray[np.int32]:
        """(T, 3) triangles over the mask, counter-clockwise from outside in the shape frame.

        See :func:`grid_triangles`. Reverse the winding for y down.
        """
        return grid_triangles(self.index_map)

    @cached_property
    def uv_coordinates(self) -> NDArray[np.float32]:
        """(V, 2) texture coordinates u, v in [0, 1], v up, at the pixels' centres."""
        rows, columns = self.rows_columns
        return (np.stack([to_edge(columns), SIZE - to_edge(rows)], 1) / SIZE).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of a stored layout; the mask is packed into bits."""
        return {
            "mask": np.packbits(self.mask),
            "kpt": self.kpt.astype(np.int16),
            "region": self.region.astype(np.uint8),
            "mean_shape": self.mean_shape.astype(np.float32),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> UVLayout:
        """The layout of :meth:`to_arrays`."""
        return UVLayout(
            mask=np.unpackbits(arrays["mask"]).reshape(SIZE, SIZE).astype(bool),
            kpt=arrays["kpt"].astype(np.int64),
            region=arrays["region"],
            mean_shape=arrays["mean_shape"],
        )

    def to_map(self, values: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        """Values per vertex (V,) or (V, C) -> map (256, 256) or (256, 256, C)."""
        row = np.full((1, *values.shape[1:]), fill, values.dtype)
        rows = np.concatenate([values, row])  # the last one outside the face
        return np.take(rows, self.index_map, axis=0)

    def from_map(self, uv_map: NDArray[Any]) -> NDArray[Any]:
        """Map (256, 256, ...) -> values per vertex (V, ...)."""
        return np.take(uv_map.reshape(SIZE * SIZE, *uv_map.shape[2:]), self.pixels, axis=0)


def grid_triangles(index: NDArray[np.int32]) -> NDArray[np.int32]:
    """(T, 3) triangles between neighbours of ``index`` (H, W), vertex numbers or -1 for none.

    Each square of four neighbours is split from top right to bottom left; triangles with three
    vertices are kept. Counter-clockwise with x right and y up.
    """
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    both = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], -2).reshape(-1, 3)
    return np.ascontiguousarray(both[(both >= 0).all(1)])


def region_weights(region: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(256, 256) loss weight per pixel, 16 : 12 : 3 : 0 by region (paper III-D)."""
    table = np.zeros(256, np.float32)
    for key, value in REGION_WEIGHTS.items():
        table[key] = value
    return table[region]


def extend_map(uv_map: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Extrapolate a map (256, 256, C) smoothly outside ``mask`` (pull-push algorithm)."""

    def fill(values: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
        if weight.all() or values.shape[0] == 1:
            return values
        total = quarter(weight)
        small: Any = quarter(values * weight[..., None]) / np.maximum(total, 1)[..., None]
        coarse = fill(small, (total > 0).astype(np.float32))
        up = coarse.repeat(2, 0).repeat(2, 1)
        return np.where(weight[..., None] > 0, values, up)

    def quarter(values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sums over squares of 2 x 2."""
        columns = values[:, ::2] + values[:, 1::2]
        return np.asarray(columns[::2] + columns[1::2])

    return fill(np.asarray(uv_map, np.float32), mask.astype(np.float32))


def without_ears(uv: UVLayout) -> NDArray[np.bool_]:
    """The layout's mask (256, 256) without the ears; all landmarks are kept."""
    side = np.abs(uv.to_map(uv.mean_shape)[..., 0])
    jaw = side[uv.kpt[[0, 16], 0], uv.kpt[[0, 16], 1]].mean()
    ear = uv.mask & (side > _EAR * jaw)
    keep = uv.mask.copy()
    for flip in (1, -1):  # each side, counted from its edge
        half = ear[:, ::flip][:, : SIZE // 2]
        reach = np.where(half.any(1), SIZE // 2 - half[:, ::-1].argmax(1), 0)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(reach, _LOBE), 2 * _LOBE + 1)
        keep[:, ::flip] &= np.arange(SIZE) >= around.max(1)[:, None]
    for row, column in uv.kpt:
        keep[row - 1 : row + 2, column - 1 : column + 2] |= uv.mask[
            row - 1 : row + 2, column - 1 : column + 2
        ]
    return keep
