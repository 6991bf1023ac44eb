"""The coarse surface of a face in its photo, computed once and shared."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.native import Lock
from sadr_cli.render.rasterize import Covered, bounds, covered, vertex_normals
from sadr_cli.uv import UVLayout, grid_triangles

STEP = 4  # pixels of the UV map between vertices
_SIDE = 144  # pixels of the picture, at most
_MARGIN = 2  # empty pixels around the face
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class CoarseGrid:
    """Every STEP-th row and column of a UV layout.

    vertices: (K,) vertex of the layout; corners: (3, T) of triangles over those, counter-clockwise
    from outside with y down; cells: (K,) where each lies in the flattened map of SIZE / STEP.
    """

    vertices: NDArray[np.int32]
    corners: NDArray[np.intp]
    cells: NDArray[np.intp]


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Every STEP-th row and column of a map (256, 256)."""
    return values[STEP // 2 - 1 :: STEP, STEP // 2 - 1 :: STEP]


@lru_cache(maxsize=2)
def coarse_grid(uv: UVLayout) -> CoarseGrid:
    index = thinned(uv.index_map)
    cells = np.flatnonzero(index >= 0)
    numbers = np.full(index.shape, -1, np.int32)
    numbers.reshape(-1)[cells] = np.arange(len(cells))
    corners = np.ascontiguousarray(grid_triangles(numbers)[:, ::-1].T, np.intp)
    return CoarseGrid(index.reshape(-1)[cells], corners, cells)


@dataclass(frozen=True, eq=False)
class Surface:
    """A face in its own square picture, ``side`` pixels wide.

    scale, shift: (x, y) of the photo times ``scale`` plus ``shift`` (2,) is (x, y) of the picture.
    seen: the pixels covered by triangles of :func:`coarse_grid`; depth is z times ``scale``.
    normals: (K, 3) of the grid's vertices, outwards, y down.
    """

    side: int
    scale: float
    shift: NDArray[np.float64]
    seen: Covered
    normals: NDArray[np.float64]

    def picture(self, values: NDArray[Any], fill: float = 0.0) -> NDArray[np.float32]:
        """(side, side) of values (N,) of the covered pixels."""
        out = np.full(self.side**2, fill, np.float32)
        out[self.seen.pixels] = values
        return out.reshape(self.side, self.side)

    def interpolate(self, values: NDArray[Any], uv: UVLayout) -> NDArray[np.float32]:
        """(side, side) of values (K,) of the grid's vertices; 0 outside the face."""
        corners = np.take(coarse_grid(uv).corners, self.seen.triangle, axis=1)
        return self.picture((self.seen.weights * np.take(values, corners)).sum(0))


def surface_of(face: Face, uv: UVLayout) -> Surface:
    """The surface of ``face``, cached for its lifetime."""
    return remembered(face, "surface", lambda: _surface(face, uv))


def _surface(face: Face, uv: UVLayout) -> Surface:
    grid = coarse_grid(uv)
    vertices = np.asarray(face.vertices, np.float64)[grid.vertices]
    low, high = bounds(vertices[:, :2])
    extent = float((high - low).max())
    side = int(np.clip(extent, 32, _SIDE))
    scale = (side - 1 - 2 * _MARGIN) / max(extent, 1e-6)
    shift = _MARGIN - low * scale
    local = vertices * scale
    local[:, :2] += shift
    seen = covered(local, grid.corners.T, side, side)
    return Surface(side, scale, shift, seen, vertex_normals(vertices, grid.corners.T))


_memory: weakref.WeakKeyDictionary[Face, dict[str, Any]] = weakref.WeakKeyDictionary()
_remembering = Lock()


def remembered(face: Face, what: str, compute: Callable[[], T]) -> T:
    """``compute()``, cached for the lifetime of ``face``."""
    with _remembering:
        known = _memory.setdefault(face, {})
    if what not in known:
        known[what] = compute()
    return known[what]  # type: ignore[no-any-return]


def remembered_for(face: Face, image: NDArray[np.uint8], what: str, compute: Callable[[], T]) -> T:
    """``compute()``, cached for ``face`` and the last ``image``."""
    known: list[Any] = remembered(face, what, list)
    if not known or known[0] is not image:
        known[:] = image, compute()
    return known[1]  # type: ignore[no-any-return]
