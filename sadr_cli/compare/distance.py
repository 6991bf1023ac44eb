"""Alignment of one surface to another, and the distance of every vertex."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.compare.load import Shape
from sadr_cli.documents import rounded
from sadr_cli.errors import InputError
from sadr_cli.evaluation.measures.surface import Surface, icp_to_surface, tangent_step
from sadr_cli.pose import similarity, transform
from sadr_cli.render.rasterize import vertex_normals
from sadr_cli.writers.mesh import FOREIGN

_Fit = tuple[float, NDArray[np.float64], NDArray[np.float64]]
_ROUNDS = 30  # of ICP with scale
_THIN, _FINE = 300, 2000  # points of the search for an initial alignment, and of its refinement
_CORNERS = 3000  # vertices of the reference in that search
_TRIAL_ROUNDS, _BEST = 8, 3  # ICP rounds of each initial alignment; how many of them are refined
_REACH = 0.25  # largest distance of a pair, as a share of the reference's size
_LOST = 0.2  # of the reference's size: median distance from which the alignment has failed
_ODD_SIZE = 2.5  # ratio of sizes that no two heads have
_GROWTHS = (1.0, 0.8, 0.65)  # of the ratio of sizes: a face may be compared with a whole head


@dataclass(frozen=True, eq=False)
class Comparison:
    """``a`` against the reference ``b``.

    points: (V, 3) vertices of ``a`` aligned to ``b``. distance: (V,) millimetres from there to
    ``b``, NaN beyond the boundary of ``b``. signed: (V,) its component along the normal of ``b``,
    negative inside. method: ``points`` where vertex k is the same point of both faces, else
    ``surface``.
    scale, rotation, translation: b ~ scale rotation a + translation.
    """

    a: Shape
    b: Shape
    method: str
    points: NDArray[np.float64]
    distance: NDArray[np.float64]
    signed: NDArray[np.float64]
    scale: float
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    @property
    def measure(self) -> float:
        """Units of ``points`` per millimetre of the distances: 1, except where a face of sadr was
        scaled to another program's mesh; its own millimetres count then."""
        return self.scale if self.a.frame != FOREIGN and self.b.frame == FOREIGN else 1.0

    def figures(self) -> dict[str, float | int]:
        """Mean, median, p95 and max of the distance, and the mean signed distance, millimetres.

        points: vertices compared; beyond: vertices beyond the boundary of ``b``.
        """
        there = np.isfinite(self.distance)
        d, s = self.distance[there], self.signed[there]
        return {
            "mean": float(d.mean()),
            "median": float(np.median(d)),
            "p95": float(np.percentile(d, 95)),
            "max": float(d.max()),
            "signed": float(s.mean()),
            "points": int(there.sum()),
            "beyond": int((~there).sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """Names, figures and the transformation, as plain JSON types."""
        figures = {k: v if isinstance(v, int) else rounded(v, 4) for k, v in self.figures().items()}
        matrix = np.eye(4)
        matrix[:3, :3] = self.scale * self.rotation
        matrix[:3, 3] = self.translation
        return {
            "a": self.a.name,
            "b": self.b.name,
            "method": self.method,
            "units": "mm",
            **figures,
            "scale": rounded(self.scale, 6),
            "a_to_b": rounded(matrix, 6),
        }


def compare(
    a: Shape, b: Shape, *, with_scale: bool = False, align: bool = True, surface: bool = False
) -> Comparison:
    """Compare ``a`` with the reference ``b``.

    with_scale: ``a`` is also scaled, so that only the form is compared. align: False compares both
    in place. surface: measure to the nearest surface even where vertex k is the same point of
    both. InputError when the surfaces cannot be aligned.
    """
    if a.same_topology(b) and not surface:
        fit = similarity(a.vertices, b.vertices, with_scale=with_scale) if align else _STAY
        points = transform(a.vertices, *fit)
        normals = vertex_normals(b.vertices, b.triangles)
        return _comparison(a, b, "points", points, b.vertices, normals, fit)
    target = Surface(b.vertices, b.triangles, b.size)
    fit = _align(a, b, target, with_scale) if align else _STAY
    points = transform(a.vertices, *fit)
    nearest, normals, beyond = target.nearest_or_beyond(points)
    if beyond.all():
        raise InputError(f"{a.name} and {b.name} do not overlap")
    found = _comparison(a, b, "surface", points, nearest, normals, fit)
    found.distance[beyond] = found.signed[beyond] = np.nan
    return found


_STAY: _Fit = (1.0, np.eye(3), np.zeros(3))


def _comparison(
    a: Shape, b: Shape, method: str, points: Any, target: Any, normals: Any, fit: _Fit
) -> Comparison:
    apart = points - target
    distance = np.linalg.norm(apart, axis=1)
    signed = np.einsum("vk,vk->v", apart, normals)
    if method == "surface":  # the nearest point may be on an edge, between two normals
        signed = np.where(signed >= 0, distance, -distance)
    found = Comparison(a, b, method, points, distance, signed, *fit)
    return replace(found, distance=distance / found.measure, signed=signed / found.measure)


def _align(a: Shape, b: Shape, target: Surface, with_scale: bool) -> _Fit:
    """Initial alignment by landmarks where both have them, else by search; then ICP."""
    if not with_scale and not 1 / _ODD_SIZE < a.size / b.size < _ODD_SIZE:
        raise InputError(
            f"{a.name} is {a.size / b.size:.3g} times as large as {b.name}: set --units for the "
            "mesh that is not in millimetres, or use --scale"
        )
    if a.landmarks is not None and b.landmarks is not None:
        fit = similarity(a.landmarks, b.landmarks, with_scale=with_scale)
    else:
        fit = _search(a, b, target, with_scale)
    moved = _settle(transform(a.vertices, *fit), target, _REACH * b.size, with_scale)
    apart = np.linalg.norm(target.nearest(moved) - moved, axis=1)
    if not np.median(apart) < _LOST * b.size:
        raise InputError(
            f"{a.name} and {b.name} could not be aligned: put the 68 landmarks beside the mesh as "
            "NAME.txt, one line x y z each"
        )
    return similarity(a.vertices, moved, with_scale=with_scale)


def _settle(
    start: NDArray[np.float64], target: Surface, reach: float, with_scale: bool
) -> NDArray[np.float64]:
    """``start`` (P, 3) aligned to the surface by ICP.

    With scale, ICP is point-to-plane: point-to-point would shrink one surface onto the other.
    """
    moved = icp_to_surface(start, target, reach=reach)
    if not with_scale:
        return moved
    thin = moved[:: max(len(moved) // _FINE, 1)]
    first = thin
    for _ in range(_ROUNDS):
        nearest, normals, beyond = target.nearest_or_beyond(thin)
        near = (np.linalg.norm(nearest - thin, axis=1) < reach) & ~beyond
        if near.sum() < 10:
            break
        thin = tangent_step(thin, thin[near], nearest[near], normals[near], with_scale=True)
    return transform(moved, *similarity(first, thin))


def _search(a: Shape, b: Shape, target: Surface, with_scale: bool) -> _Fit:
    """The best of 24 axis-aligned rotations and some scales, each refined by ICP."""
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation

    center, goal = a.vertices.mean(0), b.vertices.mean(0)
    grows = {1.0}
    if with_scale:
        grows = {share * b.size / a.size for share in _GROWTHS}
    thin = a.vertices[:: max(len(a.vertices) // _THIN, 1)]
    corners = b.vertices[:: max(len(b.vertices) // _CORNERS, 1)]
    tree = cKDTree(corners)
    trials = []
    for turn, grow in product(Rotation.create_group("O").as_matrix(), sorted(grows)):
        moved = transform(thin - center, grow, turn, goal)
        for _ in range(_TRIAL_ROUNDS):
            near = corners[tree.query(moved)[1]]
            moved = transform(moved, *similarity(moved, near, with_scale=False))
        trials.append((_nearer(tree.query(moved)[0]) / grow, moved))
    fine = a.vertices[:: max(len(a.vertices) // _FINE, 1)]
    ends = []
    for _, moved in sorted(trials, key=lambda trial: trial[0])[:_BEST]:
        fit = similarity(thin, moved, with_scale=with_scale)
        end = _settle(transform(fine, *fit), target, _REACH * b.size, with_scale)
        fit = similarity(fine, end, with_scale=with_scale)
        apart = np.linalg.norm(target.nearest(end) - end, axis=1)
        ends.append((_nearer(apart) / fit[0], fit))
    return min(ends, key=lambda end: end[0])[1]


def _nearer(distances: NDArray[np.float64]) -> float:
    """Mean of the smallest 90 %: robust to hair and boundaries."""
    return float(np.sort(distances)[: int(0.9 * len(distances)) + 1].mean())
