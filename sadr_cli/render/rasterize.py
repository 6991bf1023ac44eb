"""A z-buffer triangle rasteriser in pure NumPy: needs no GPU, display or compiler.

Instead of looping over triangles, all are expanded at once: triangles into the rows that they
touch, rows into the pixels between two edges; the nearest triangle of each pixel wins. The work is
proportional to the number of covered pixels, independently of the size of the triangles.

Pixel coordinates as everywhere in the package: x right, y down, the centre of the top-left pixel
is (0, 0), z towards the viewer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sadr_cli.pixels import image_box
from sadr_cli.uv import UVLayout, grid_triangles

# A pixel whose centre lies on an edge belongs to both triangles (the nearer, then the lower index
# wins); this tolerance in pixels prevents cracks between neighbours due to rounding.
_EDGE_SLACK = 1e-7
_MIN_AREA = 1e-12  # twice the area in square pixels below which a triangle is a line
_CHUNK = 2_000_000  # pixels expanded at a time: limits memory to about 150 MB
_DEPTH_STEPS = float(2**31 - 2)


def rasterize(
    vertices: NDArray[Any],
    triangles: NDArray[Any],
    height: int,
    width: int,
    *,
    cull_backfaces: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """The nearest triangle at the centre of every pixel.

    vertices: (V, 3) x, y in pixels (y down), z towards the viewer. Triangles with non-finite
        vertices or without area are ignored.
    triangles: (T, 3) vertex indices.
    cull_backfaces: ignore triangles that are counter-clockwise **on screen with y down**, that is
        with a negative ``(b - a) x (c - a)``. Meshes of ``UVLayout`` need reversed winding,
        ``triangles[:, ::-1]``, as everywhere in the image frame.

    Returns ``face_index`` (H, W) int32, -1 for background; ``barycentric`` (H, W, 3) float32
    weights of the triangle's three vertices, 0 for background; ``depth`` (H, W) float32 z, -inf for
    background.
    """
    found = covered(vertices, triangles, height, width, cull_backfaces=cull_backfaces)
    face_index = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), -np.inf, np.float32)
    face_index.reshape(-1)[found.pixels] = found.triangle
    barycentric.reshape(-1, 3)[found.pixels] = found.weights.T
    depth.reshape(-1)[found.pixels] = found.depth
    return face_index, barycentric, depth


class Covered(NamedTuple):
    """The (N,) covered pixels, numbered row by row, with the nearest ``triangle``, the ``weights``
    (3, N) of its corners and its ``depth``."""

    pixels: NDArray[np.intp]
    triangle: NDArray[np.intp]
    weights: NDArray[np.float64]
    depth: NDArray[np.float64]


def covered(
    vertices: NDArray[Any],
    triangles: NDArray[Any],
    height: int,
    width: int,
    *,
    cull_backfaces: bool = False,
) -> Covered:
    """Like :func:`rasterize`, but only the covered pixels, and faster."""
    v, t = _columns(vertices, triangles)
    pixels, index = _nearest(v, t, height, width, cull_backfaces)
    py, px = np.divmod(pixels, width)
    corners = np.take(t, index, axis=1)
    weights = _barycentric(np.take(v[0], corners), np.take(v[1], corners), px, py)
    return Covered(pixels, index, weights, (weights * np.take(v[2], corners)).sum(0))


def _columns(
    vertices: NDArray[Any], triangles: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(3, V) and (3, T): one array per axis and per corner, for faster indexing."""
    v = np.ascontiguousarray(np.asarray(vertices, float).T)
    return v, np.ascontiguousarray(np.asarray(triangles).T, np.intp)


def nearest_triangles(
    vertices: NDArray[Any],
    triangles: NDArray[Any],
    height: int,
    width: int,
    *,
    cull_backfaces: bool = False,
) -> NDArray[np.int32]:
    """Only ``face_index`` (H, W) of :func:`rasterize`, in about half the time."""
    v, t = _columns(vertices, triangles)
    face_index = np.full((height, width), -1, np.int32)
    pixels, index = _nearest(v, t, height, width, cull_backfaces)
    face_index.reshape(-1)[pixels] = index
    return face_index


def _nearest(
    v: NDArray[np.float64], t: NDArray[Any], height: int, width: int, cull_backfaces: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Covered pixels, as flat indices, and the triangle (of ``t`` (3, T)) nearest at each."""
    kept, top, bottom = _candidates(v, t, height, width, cull_backfaces)
    if kept.size == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    corners = np.take(t, kept, axis=1)
    x, y, z = (np.take(axis, corners) for axis in v)  # (3, N) each
    plane = _depth_plane(x, y, z)

    # One 64-bit key per pixel: depth in the high bits, then the triangle; the lower index wins.
    z_low, z_high = float(z.min()), float(z.max())
    step = _DEPTH_STEPS / max(z_high - z_low, 1e-30)
    keys = np.full(height * width, -1, np.int64)
    last = t.shape[1]
    row_count = bottom - top + 1
    # An upper bound of the pixels per triangle, to divide the work into chunks.
    x_extent = np.minimum(x.max(0) - x.min(0) + 1, width)
    bound = np.cumsum(row_count * x_extent)
    start = 0
    while start < kept.size:
        offset = bound[start - 1] if start else 0.0
        stop = max(int(np.searchsorted(bound, offset + _CHUNK, "right")), start + 1)
        part = slice(start, stop)
        which, px, py = _unfold(x[:, part], y[:, part], top[part], row_count[part], width)
        which += start
        dx, dy, at_zero = (np.take(p, which) for p in plane)
        pz = dx * px + dy * py + at_zero
        key = np.clip((pz - z_low) * step, 0, _DEPTH_STEPS).astype(np.int64)
        key = (key << 32) | (last - np.take(kept, which))
        np.maximum.at(keys, py * width + px, key)
        start = stop

    pixels = np.flatnonzero(keys >= 0)
    return pixels, last - (keys[pixels] & 0xFFFFFFFF)


def interpolate(
    values: NDArray[Any],
    triangles: NDArray[Any],
    face_index: NDArray[np.int32],
    barycentric: NDArray[np.float32],
    fill: float = 0.0,
) -> NDArray[np.float32]:
    """Values per vertex ``(V,)`` or ``(V, C)`` -> picture ``(H, W)`` or ``(H, W, C)`` float32."""
    values = np.asarray(values, np.float32)
    out = np.full((*face_index.shape, *values.shape[1:]), fill, np.float32)
    covered = face_index >= 0
    corners = values[np.asarray(triangles)[face_index[covered]]]
    out[covered] = np.einsum("nk,nk...->n...", barycentric[covered], corners)
    return out


def vertex_normals(vertices: NDArray[Any], triangles: NDArray[Any]) -> NDArray[np.float64]:
    """Unit normals ``(V, 3)``: the area-weighted mean of the triangles around each vertex.

    They point to the side from which the triangles are counter-clockwise in a right-handed frame.
    For image-frame vertices (y down) and the reversed winding of ``UVLayout.triangles`` that is
    outwards, with z > 0 towards the viewer. Zero for vertices without a triangle.
    """
    v, t = _columns(vertices, triangles)
    (x1, y1, z1), (x2, y2, z2) = (
        [np.take(axis, t[k]) - np.take(axis, t[0]) for axis in v] for k in (1, 2)
    )
    out = np.empty_like(v)
    for k, normal in enumerate((y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2)):
        out[k] = sum(np.bincount(corner, normal, minlength=v.shape[1]) for corner in t)
    length = np.sqrt(out[0] ** 2 + out[1] ** 2 + out[2] ** 2)
    return np.ascontiguousarray((out / np.maximum(length, 1e-30)).T)


def bounds(points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Smallest and largest value (C,) of each column of ``points`` (N, C).

    Column by column, as NumPy's reduction along the first axis is ten times slower.
    """
    columns = np.ascontiguousarray(np.asarray(points).T)
    return columns.min(1), columns.max(1)


@lru_cache(maxsize=2)
def coarse_triangles(uv: UVLayout) -> NDArray[np.int32]:
    """(T, 3) like ``uv.triangles``, but on every second row and column: a quarter as many.

    For faces up to about 500 pixels wide.
    """
    return grid_triangles(uv.index_map[::2, ::2])


def _candidates(
    v: NDArray[np.float64],
    t: NDArray[Any],
    height: int,
    width: int,
    cull_backfaces: bool,
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Triangles (of ``t`` (3, T)) that may cover a pixel, and their first and last rows."""
    # Most triangles of a fine mesh contain no pixel centre: drop them cheaply.
    keep = np.arange(t.shape[1])
    finite = np.isfinite(v[0]) & np.isfinite(v[1]) & np.isfinite(v[2])
    if not finite.all():
        keep = keep[np.all(finite[t], axis=0)]
        t = t[:, keep]
    limit = 4.0 * max(height, width)
    span: list[NDArray[np.float64]] = []
    for axis, size in ((1, height), (0, width)):
        a, b, c = np.take(v[axis], t)
        low = np.ceil(np.minimum(np.minimum(a, b), c) - _EDGE_SLACK)
        high = np.floor(np.maximum(np.maximum(a, b), c) + _EDGE_SLACK)
        inside = np.flatnonzero((low <= high) & (high >= 0) & (low < size))
        if len(inside) == len(keep):
            span += [low, high]
            continue
        keep, t = keep[inside], np.take(t, inside, axis=1)
        span = [s[inside] for s in (*span, low, high)]
    x, y = np.take(v[0], t), np.take(v[1], t)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    good = np.flatnonzero((area if cull_backfaces else np.abs(area)) > _MIN_AREA)
    top, bottom = (np.clip(s[good], -limit, limit) for s in span[:2])
    top, bottom = np.maximum(top, 0), np.minimum(bottom, height - 1)
    return keep[good], top.astype(np.int64), bottom.astype(np.int64)


def _depth_plane(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(3, N): z = plane[0] x + plane[1] y + plane[2] over each triangle."""
    x1, y1, z1 = x[1] - x[0], y[1] - y[0], z[1] - z[0]
    x2, y2, z2 = x[2] - x[0], y[2] - y[0], z[2] - z[0]
    area = x1 * y2 - y1 * x2
    dx, dy = (z1 * y2 - z2 * y1) / area, (z2 * x1 - z1 * x2) / area
    return np.stack([dx, dy, z[0] - dx * x[0] - dy * y[0]])


def _unfold(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    first_row: NDArray[np.int64],
    row_count: NDArray[np.int64],
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All pixels of triangles with corners ``x``, ``y`` (3, N): index into N, column, row."""
    which = np.repeat(np.arange(x.shape[1]), row_count)
    row = np.take(first_row, which) + _counter(row_count)
    left, _, right, _ = image_box(0, width)
    low = np.full(len(which), left)
    high = np.full(len(which), right)
    for k in range(3):
        # A row intersects the triangle between its crossings with the edges' lines. The inside is
        # the side of the third corner; horizontal edges are ignored.
        i, j, opposite = k, (k + 1) % 3, (k + 2) % 3
        dy = y[j] - y[i]
        slope = np.divide(x[j] - x[i], dy, out=np.zeros_like(dy), where=dy != 0)
        side = np.where(dy != 0, x[opposite] - x[i] - (y[opposite] - y[i]) * slope, 0.0)
        at_zero = x[i] - y[i] * slope
        cross = np.take(at_zero, which) + np.take(slope, which) * row
        side = np.take(side, which)
        np.maximum(low, cross, out=low, where=side > 0)
        np.minimum(high, cross, out=high, where=side < 0)
    first = np.ceil(np.maximum(low - _EDGE_SLACK, 0)).astype(np.int64)
    final = np.floor(np.minimum(high + _EDGE_SLACK, width - 1)).astype(np.int64)
    count = np.maximum(final - first + 1, 0)
    some = np.flatnonzero(count)
    which, row, first, count = (np.take(a, some) for a in (which, row, first, count))
    return np.repeat(which, count), np.repeat(first, count) + _counter(count), np.repeat(row, count)


def _counter(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 .. count[0] - 1, 0 .. count[1] - 1, ... concatenated."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - count, count)


def _barycentric(
    x: NDArray[np.float64], y: NDArray[np.float64], px: NDArray[np.int64], py: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weights (3, N) of the corners ``x``, ``y`` (3, N) at px, py: clipped to the triangle."""
    x1, y1, x2, y2 = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    dx, dy = px - x[0], py - y[0]
    area = x1 * y2 - y1 * x2
    w1 = np.clip((dx * y2 - dy * x2) / area, 0, 1)
    w2 = np.clip((x1 * dy - y1 * dx) / area, 0, 1 - w1)
    return np.stack([1 - w1 - w2, w1, w2])
