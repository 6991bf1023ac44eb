"""Smoothing of the mesh's rim, which follows the pixels of the UV map in steps.

Where the layout's edge is slanted, the rim is jagged; at the ears its steps are 3 mm wide. The
middle of each step stays, and the vertices between are moved onto the line from middle to middle.
Vertex indices and triangles stay the same; a smoothed rim does not change again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sadr_cli.uv import UVLayout

Float = TypeVar("Float", bound=np.floating[Any])
_LONG = 16  # pixels: a longer straight part is not a step; only its ends are smoothed


@dataclass(frozen=True, eq=False)
class Rim:
    """Vertices ``moved`` (M,) lie ``share`` (M,) of the way from ``before`` to ``after`` (M,)."""

    moved: NDArray[np.intp]
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    share: NDArray[np.float64]

    def straighten(self, vertices: NDArray[Float]) -> NDArray[Float]:
        """A copy of ``vertices`` (V, 3) of the layout."""
        out = vertices.copy()
        share = self.share[:, None].astype(vertices.dtype)
        out[self.moved] = (1 - share) * vertices[self.before] + share * vertices[self.after]
        return out


@lru_cache(maxsize=2)
def layout_rim(uv: UVLayout) -> Rim:
    """The rim of the whole layout."""
    return make_rim(uv, uv.triangles)


def make_rim(uv: UVLayout, triangles: NDArray[np.int32]) -> Rim:
    """The rim of some of the layout's triangles (T, 3). Landmarks stay."""
    parts: list[tuple[int, int, int, float]] = []
    place = np.stack(uv.rows_columns, 1)
    fixed = set(uv.landmark_indices.tolist())
    for loop in _loops(triangles):
        kept = [k for k in range(len(loop)) if loop[k] in fixed]
        anchors = sorted({*kept, *_anchors(place[loop])})
        for first, last in zip(anchors, [*anchors[1:], anchors[0] + len(loop)], strict=True):
            a, b = loop[first], loop[last % len(loop)]
            parts += [
                (loop[k % len(loop)], a, b, (k - first) / (last - first))
                for k in range(first + 1, last)
            ]
    # Vertices whose move would flip a triangle, as in the helix of the ear, stay.
    shape = np.asarray(uv.mean_shape, np.float64)
    touching = triangles[_on_rim(triangles)[triangles].any(1)]
    before = _normals(shape, touching)
    while True:
        rim = _rim(parts)
        after = _normals(rim.straighten(shape), touching)
        over = set(touching[(before * after).sum(1) < 0].ravel().tolist())
        rest = [part for part in parts if part[0] not in over]
        if len(rest) == len(parts):
            return rim
        parts = rest


def _rim(parts: list[tuple[int, int, int, float]]) -> Rim:
    indices = np.array([part[:3] for part in parts], np.intp).reshape(-1, 3).T
    return Rim(indices[0], indices[1], indices[2], np.array([part[3] for part in parts], float))


def _normals(shape: NDArray[np.float64], triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    a, b, c = (shape[triangles[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def _on_rim(triangles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(V,) which vertices lie on the rim. Around an inner vertex each neighbour appears once as the
    first and once as the second corner of a triangle, so differences of arbitrary numbers add up
    to 0."""
    count = int(triangles.max()) + 1
    numbers = np.random.default_rng(0).integers(1 << 20, size=count)
    corners = numbers[triangles]
    steps = np.roll(corners, 1, 1) - np.roll(corners, -1, 1)
    return np.asarray(np.bincount(triangles.ravel(), steps.ravel(), count) != 0)


def _loops(triangles: NDArray[np.int32]) -> list[list[int]]:
    """Closed loops of vertices along the edges that belong to one triangle only."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = edges[_on_rim(triangles)[edges].all(1)]
    keys = np.sort(edges, 1) @ np.array([int(triangles.max()) + 1, 1])
    _, first, count = np.unique(keys, return_index=True, return_counts=True)
    following: dict[int, list[int]] = {}
    for a, b in edges[first[count == 1]].tolist():
        following.setdefault(a, []).append(b)
    loops = []
    while following:
        start = next(iter(following))
        loop, here = [start], following[start].pop()
        while here != start:
            loop.append(here)
            here = following[here].pop()
        following = {a: rest for a, rest in following.items() if rest}
        loops.append(loop)
    return loops


def _anchors(place: NDArray[np.intp]) -> list[int]:
    """Indices of the fixed pixels of a loop (N, 2): long straight parts without their ends, the
    middles of short ones and, where these are one pixel long, every second corner."""
    step = np.roll(place, -1, 0) - place
    corners = np.flatnonzero((step != np.roll(step, 1, 0)).any(1)).tolist()
    out: list[int] = []
    if not corners:
        return list(range(len(place)))
    for first, last in zip(corners, [*corners[1:], corners[0] + len(place)], strict=True):
        length = last - first
        if length > _LONG:
            out += range(first + _LONG // 4, last - _LONG // 4 + 1)
        elif length > 1:
            out.append((first + last) // 2)
        elif not out or first - out[-1] > 1:
            out.append(first)
    return [k % len(place) for k in out]
