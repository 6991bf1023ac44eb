"""The coarse mesh of pages: the face on a quarter of the UV layout's rows and columns, as text."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.uv import MM_PER_UNIT, UVLayout, grid_triangles, without_ears

STEP = 4  # pixels of the UV map between its vertices
QUANTUM_MM = 0.05  # step of their coordinates


@dataclass(frozen=True, eq=False)
class Grid:
    """The coarse mesh that all faces of a page share.

    vertices: (K,) vertex of the layout; triangles: (T, 3); uv: (K, 2) texture coordinates,
    v down; mean: (K, 3) mean shape in millimetres.
    """

    vertices: NDArray[np.int32]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]
    mean: NDArray[np.float32]


@lru_cache(maxsize=2)
def page_grid(uv: UVLayout) -> Grid:
    """Every fourth row and column of the UV layout, without the ears, whose rim would be ragged."""
    index = np.where(without_ears(uv), uv.index_map, -1)
    index = index[STEP // 2 - 1 :: STEP, STEP // 2 - 1 :: STEP]
    ids, triangles = np.unique(grid_triangles(index), return_inverse=True)
    coordinates = uv.uv_coordinates[ids] * (1, -1) + (0, 1)
    mean = uv.mean_shape[ids] * np.float32(MM_PER_UNIT)
    return Grid(
        ids.astype(np.int32),
        triangles.reshape(-1, 3).astype(np.int32),
        coordinates.astype(np.float32),
        mean.astype(np.float32),
    )


def encode_mesh(face: Face, uv: UVLayout) -> str:
    """The pose-free face on the page's grid: deflated differences from the mean, base64.

    Whole steps of QUANTUM_MM, each vertex less the one before it, all x, then y, then z; low
    bytes before high bytes.
    """
    grid = page_grid(uv)
    shape = np.asarray(face.shape)[grid.vertices] * MM_PER_UNIT - grid.mean
    steps = np.clip(np.rint(shape / QUANTUM_MM), -32768, 32767).astype(np.int16)
    delta = np.diff(steps.T, axis=1, prepend=np.int16(0)).astype("<i2")
    planes = delta.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return _text(zlib.compress(planes.tobytes(), 6))


def is_mesh(text: str, uv: UVLayout) -> bool:
    """Whether ``text`` unpacks to what :func:`encode_mesh` packs."""
    size = 6 * len(page_grid(uv).vertices)
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text), size + 1)
    except (ValueError, zlib.error):
        return False
    return len(data) == size


def page_mesh(uv: UVLayout) -> dict[str, Any]:
    """What ``pages/mesh.js`` needs to know of all meshes of a page, beside each one's own text."""
    grid = page_grid(uv)
    return {
        "quantum": QUANTUM_MM,
        "grid": {
            "mean": _text(np.rint(grid.mean / QUANTUM_MM).astype("<i2").tobytes()),
            "triangles": _text(grid.triangles.astype("<u2").tobytes()),
            "uv": _text(grid.uv.astype("<f4").tobytes()),
        },
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
