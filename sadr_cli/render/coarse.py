"""The coarse mesh of HTML pages, on every fourth row and column of the UV layout, as text."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.render.surface import thinned
from sadr_cli.uv import MM_PER_UNIT, UVLayout, grid_triangles, without_ears

QUANTUM_MM = 0.05  # resolution of the coordinates
FRAMES = 600  # of an animated track on a page, at most


@dataclass(frozen=True, eq=False)
class Grid:
    """The coarse topology that all faces of a page share.

    vertices: (K,) vertex of the layout; triangles: (T, 3); uv: (K, 2) texture coordinates,
    v down; mean: (K, 3) mean shape in millimetres.
    """

    vertices: NDArray[np.int32]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]
    mean: NDArray[np.float32]


@lru_cache(maxsize=2)
def page_grid(uv: UVLayout) -> Grid:
    """Every fourth row and column of the UV layout, without the ears, whose rim would be jagged."""
    index = thinned(np.where(without_ears(uv), uv.index_map, -1))
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
    """The pose-free face on the page's grid: differences from the mean, deflated, base64.

    Multiples of QUANTUM_MM, each as the difference from the previous vertex; all x, then y, then z;
    low bytes before high bytes.
    """
    grid = page_grid(uv)
    shape = np.asarray(face.shape)[grid.vertices] * MM_PER_UNIT - grid.mean
    steps = np.clip(np.rint(shape / QUANTUM_MM), -32768, 32767).astype(np.int16)
    delta = np.diff(steps.T, axis=1, prepend=np.int16(0)).astype("<i2")
    planes = delta.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return _text(zlib.compress(planes.tobytes(), 6))


def is_mesh(text: str, uv: UVLayout) -> bool:
    """Whether ``text`` has the size of an output of :func:`encode_mesh`."""
    size = 6 * len(page_grid(uv).vertices)
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text), size + 1)
    except (ValueError, zlib.error):
        return False
    return len(data) == size


def encode_motion(
    times: NDArray[Any],
    rotations: NDArray[Any] | None,
    targets: NDArray[Any],
    weights: NDArray[Any],
    uv: UVLayout,
) -> str:
    """A track on the page's grid with at most FRAMES frames, deflated, base64.

    times: (N,) seconds; rotations: (N, 4) quaternions w, x, y, z, or None; targets: (K, V, 3)
    millimetres; weights: (N, K) in [0, 1]. Little-endian: N, K as uint32; times as float32;
    rotations as int16 of 1 / 32767; weights as uint16 of 1 / 65535; targets as int16 of
    QUANTUM_MM, each all x, then y, then z.
    """
    some = slice(None, None, max(-(-len(times) // FRAMES), 1))
    times, weights = np.asarray(times)[some], np.asarray(weights)[some]
    turns = np.tile((1.0, 0, 0, 0), (len(times), 1)) if rotations is None else rotations[some]
    coarse = np.asarray(targets)[:, page_grid(uv).vertices] / QUANTUM_MM
    steps = np.clip(np.rint(coarse), -32768, 32767).astype("<i2")
    parts = (
        np.array([len(times), len(targets)], "<u4"),
        times.astype("<f4"),
        np.rint(np.asarray(turns) * 32767).astype("<i2"),
        np.rint(np.clip(weights, 0, 1) * 65535).astype("<u2"),
        np.ascontiguousarray(steps.transpose(0, 2, 1)),
    )
    return _text(zlib.compress(b"".join(part.tobytes() for part in parts), 6))


def is_motion(text: str, uv: UVLayout) -> bool:
    """Whether ``text`` has the size of an output of :func:`encode_motion`, two frames or more."""
    each = 6 * len(page_grid(uv).vertices)
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text), 1 << 24)
    except (ValueError, zlib.error):
        return False
    if len(data) < 8:
        return False
    frames, targets = (int(n) for n in np.frombuffer(data, "<u4", 2))
    return frames > 1 and len(data) == 8 + frames * (12 + 2 * targets) + targets * each


def page_mesh(uv: UVLayout) -> dict[str, Any]:
    """The data for ``pages/mesh.js`` that all meshes of a page share."""
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
