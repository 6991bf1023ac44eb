"""Reduced topologies, the same for every face, so that exported meshes stay in correspondence.

All faces share one topology (``UVLayout``). It is reduced once, on the mean face, to a subset of
its vertices. Vertex k of every mesh exported with the same options is then the same point of the
face, and the 68 landmarks are always vertices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.open3d_import import import_open3d
from sadr_cli.uv import SIZE, UVLayout, without_ears
from sadr_cli.writers.mesh import Mesh
from sadr_cli.writers.rim import Rim, make_rim

MIN_TRIANGLES = 500
_SPAN = 1.5  # times the median distance of neighbours: longer edges connect the lips


@dataclass(frozen=True, eq=False)
class Topology:
    """vertices: (K,) indices into the layout; triangles: (T, 3) indices into those; rim: for a part
    of the layout's grid, else None."""

    vertices: NDArray[np.int32]
    triangles: NDArray[np.int32]
    rim: Rim | None = None


def make_topology(
    uv: UVLayout, triangles: int | None, ears: bool, mouth: bool = True
) -> Topology | None:
    """At most ``triangles`` triangles (None: all), with or without ``ears`` and the surface between
    the lips (``mouth``). Returns None for the whole layout."""
    if triangles is not None and triangles < MIN_TRIANGLES:
        raise UsageError(f"--decimate takes at least {MIN_TRIANGLES} triangles: {triangles}")
    mask = uv.mask if ears else without_ears(uv)
    full = _restrict(uv, mask, mouth)
    if triangles is not None and len(full.triangles) > triangles:
        return _decimated(uv, mask.tobytes(), triangles, mouth)
    return None if ears and mouth else full


def apply_topology(mesh: Mesh, topology: Topology | None) -> Mesh:
    """The mesh of a whole layout reduced to ``topology``."""
    if topology is None:
        return mesh
    ids = topology.vertices
    vertices = mesh.vertices
    if topology.rim is not None:
        vertices = topology.rim.straighten(vertices)
    landmarks = None
    if mesh.landmarks is not None:
        position = np.full(len(mesh.vertices), -1, np.int32)
        position[ids] = np.arange(len(ids), dtype=np.int32)
        landmarks = position[mesh.landmarks]

    def pick(values: Any) -> Any:
        return None if values is None else values[ids]

    return replace(
        mesh,
        vertices=vertices[ids],
        triangles=topology.triangles,
        colors=pick(mesh.colors),
        uv=pick(mesh.uv),
        visibility=pick(mesh.visibility),
        confidence=pick(mesh.confidence),
        landmarks=landmarks,
        layout=None,
    )


def _restrict(uv: UVLayout, mask: NDArray[np.bool_], mouth: bool) -> Topology:
    kept = uv.from_map(mask)
    triangles = uv.triangles[kept[uv.triangles].all(1)]
    rim = make_rim(uv, triangles)
    if not mouth:
        triangles = triangles[~_across_lips(uv, triangles)]
    ids = np.unique(np.concatenate([triangles.ravel(), uv.landmark_indices])).astype(np.int32)
    position = np.full(uv.vertex_count, -1, np.int32)
    position[ids] = np.arange(len(ids), dtype=np.int32)
    return Topology(ids, position[triangles], rim)


@lru_cache(maxsize=2)
def _lips(uv: UVLayout) -> NDArray[np.float64]:
    """(256,) row between upper and lower lip in each column, NaN where there is none. The layout
    has no inner mouth: one row of squares connects the lips."""
    place = uv.to_map(uv.mean_shape)
    apart = np.linalg.norm(np.diff(place, axis=0), axis=2)
    inner = uv.kpt[60:68]
    (top, left), (bottom, right) = inner.min(0), inner.max(0)
    part = apart[top:bottom, left : right + 1]
    row = np.full(SIZE, np.nan)
    spans = part.max(0) > _SPAN * np.median(apart[apart > 0])
    row[left : right + 1] = np.where(spans, top + part.argmax(0) + 0.5, np.nan)
    return row


def _across_lips(uv: UVLayout, triangles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(T,) which triangles, of the layout's vertices, connect the lips."""
    rows, columns = (axis[triangles] for axis in uv.rows_columns)
    between = _lips(uv)
    out = np.zeros(len(triangles), bool)
    for k in (0, 1, 2):
        ends = (rows[:, k], columns[:, k]), (rows[:, k - 1], columns[:, k - 1])
        middle = between[(columns[:, k] + columns[:, k - 1]) // 2]
        level = (between[column] for _, column in ends)
        one, other = (
            row - np.where(np.isnan(own), middle, own)
            for (row, _), own in zip(ends, level, strict=True)
        )
        out |= one * other < 0  # NaN, and so False, beyond the corners of the mouth
    return out


@lru_cache(maxsize=4)
def _decimated(uv: UVLayout, mask: bytes, wanted: int, mouth: bool) -> Topology:
    """Quadric decimation chooses the vertices; a Delaunay triangulation in UV connects them."""
    full = _restrict(uv, np.frombuffer(mask, bool).reshape(SIZE, SIZE), mouth)
    goal = wanted
    for _ in range(6):
        result = _join(uv, full, _chosen(uv, full, goal), mouth)
        if 0.97 * wanted <= len(result.triangles) <= wanted:
            break
        goal = max(goal + int(0.985 * wanted) - len(result.triangles), 8)
    return result


def _chosen(uv: UVLayout, full: Topology, triangles: int) -> NDArray[np.int32]:
    """Vertices of the layout nearest to those of the mean face after quadric decimation."""
    from scipy.spatial import cKDTree

    o3d = import_open3d("--decimate")
    shape = np.asarray(uv.mean_shape, np.float64)[full.vertices]
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(shape), o3d.utility.Vector3iVector(full.triangles)
    )
    small = mesh.simplify_quadric_decimation(triangles, boundary_weight=3.0)
    near = cKDTree(shape).query(np.asarray(small.vertices))[1]
    return np.unique(np.concatenate([full.vertices[near], uv.landmark_indices]))


def _join(uv: UVLayout, full: Topology, ids: NDArray[np.int32], mouth: bool) -> Topology:
    """The Delaunay triangles of ``ids`` in the UV map that lie on the face."""
    from scipy.spatial import Delaunay

    rows, columns = (axis[ids].astype(float) for axis in uv.rows_columns)
    triangles = Delaunay(np.stack([columns, -rows], 1)).simplices
    inside = np.zeros((SIZE, SIZE), np.uint8)
    all_rows, all_columns = uv.rows_columns
    inside[all_rows[full.vertices], all_columns[full.vertices]] = 1
    # Dilated, because coarse triangles cut the corners of the rim.
    inside = cv2.dilate(inside, np.ones((5, 5), np.uint8))
    for weights in ((1, 1, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)):
        w = np.array(weights) / sum(weights)
        r, c = (np.rint(axis[triangles] @ w).astype(int) for axis in (rows, columns))
        triangles = triangles[inside[r, c] > 0]
    if not mouth:
        triangles = triangles[~_across_lips(uv, ids[triangles])]
    # Counter-clockwise in (column, -row) is outwards, as in the layout.
    x, y = columns[triangles], -rows[triangles]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    triangles = triangles[np.abs(area) > 1e-9]
    flip = area[np.abs(area) > 1e-9] < 0
    triangles[flip] = triangles[flip][:, ::-1]
    return Topology(ids.astype(np.int32), np.ascontiguousarray(triangles, np.int32))
