"""Distance of points to a scan's surface, and rigid ICP onto it (Open3D, on the CPU)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.evaluation.measures.metrics import Array
from sadr_cli.open3d_import import import_open3d
from sadr_cli.pose import similarity, transform

_ICP_POINTS = 4_000  # about as many points take part in the alignment; all in the error
_COARSE_ROUNDS = 10
_FEW = 10_000  # points
_ON_EDGE = 1e-4  # weight of a corner below which a point lies on the edge opposite to it
_NO_AREA = 1e-12  # of ``unit`` squared: triangles with less have no normal, and nothing to add


class Surface:
    """A triangle mesh that answers which of its points is nearest.

    vertices (V, 3), triangles (T, 3); ``unit``: a length about the size of the face, so that the
    single precision inside Open3D is that of the face and not of the scanner's origin.
    """

    def __init__(self, vertices: NDArray[Any], triangles: NDArray[Any], unit: float) -> None:
        o3d = import_open3d("the distance to a scan")
        self._core = o3d.core
        used = np.asarray(vertices, float)[np.unique(triangles)]
        self._center, self._unit = used.mean(0), unit
        points = self._to_unit(vertices)
        a, b, c = (points[triangles[:, k]] for k in range(3))
        flat = np.linalg.norm(np.cross(b - a, c - a), axis=1) < _NO_AREA
        self._triangles = np.asarray(triangles, np.int64)[~flat]
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            o3d.core.Tensor(points),
            o3d.core.Tensor(self._triangles.astype(np.uint32)),
        )

    def nearest(self, points: NDArray[Any]) -> Array:
        """(P, 3) nearest points of the surface to ``points`` (P, 3)."""
        return self.nearest_with_normals(points)[0]

    def nearest_with_normals(self, points: NDArray[Any]) -> tuple[Array, Array]:
        """The nearest points and the unit normals (P, 3) of the triangles they lie on."""
        found = self._closest(points)
        nearest = found["points"].numpy().astype(float) * self._unit + self._center
        return nearest, found["primitive_normals"].numpy().astype(float)

    def _closest(self, points: NDArray[Any]) -> Any:
        # Few points are done before several threads have begun.
        threads = 1 if len(points) < _FEW else 0
        return self._scene.compute_closest_points(
            self._core.Tensor(self._to_unit(points)), nthreads=threads
        )

    def nearest_or_beyond(self, points: NDArray[Any]) -> tuple[Array, Array, NDArray[np.bool_]]:
        """As :meth:`nearest_with_normals`, and for which points (P,) bool the nearest one lies on
        the surface's rim, so that the surface does not reach them."""
        found = self._closest(points)
        nearest = found["points"].numpy().astype(float) * self._unit + self._center
        which = found["primitive_ids"].numpy().astype(np.int64)
        u, v = found["primitive_uvs"].numpy().T  # weights of the second and third corner
        opposite = np.stack([1 - u - v, u, v], 1) < _ON_EDGE
        beyond = (opposite & self._rim[which]).any(1)
        return nearest, found["primitive_normals"].numpy().astype(float), beyond

    @cached_property
    def _rim(self) -> NDArray[np.bool_]:
        """(T, 3) whether the edge opposite to a triangle's corner belongs to no other triangle."""
        edges = np.sort(self._triangles[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
        key = edges[:, 0] * (int(edges.max()) + 1) + edges[:, 1]
        _, index, counts = np.unique(key, return_inverse=True, return_counts=True)
        return np.asarray(counts[index.reshape(-1)].reshape(-1, 3) == 1)

    def _to_unit(self, points: NDArray[Any]) -> NDArray[np.float32]:
        return ((np.asarray(points, float) - self._center) / self._unit).astype(np.float32)


def icp_to_surface(
    points: NDArray[Any],
    surface: Surface,
    *,
    reach: float,
    iterations: int = 60,
    tolerance: float = 1e-6,
) -> Array:
    """``points`` (P, 3) moved rigidly onto ``surface`` by ICP.

    Some rounds of closest points with pairs up to 4 ``reach`` apart bring them near; then the
    distance to the tangent planes is minimised, which converges in a few rounds. Pairs further
    apart than ``reach`` do not count there (hair, holes), unless that leaves fewer than half.
    tolerance: of the motion of a round, in ``reach``, at which it ends.
    """
    start = np.asarray(points, float)
    moved = start[:: max(len(start) // _ICP_POINTS, 1)].copy()
    thin = moved.copy()
    for _ in range(_COARSE_ROUNDS):
        target = surface.nearest(moved)
        near = _near(moved, target, 4 * reach)
        fit = similarity(moved[near], target[near], with_scale=False)
        moved = transform(moved, *fit)
    for _ in range(iterations):
        target, normals = surface.nearest_with_normals(moved)
        near = _near(moved, target, reach)
        again = _tangent_step(moved, moved[near], target[near], normals[near])
        step = float(np.abs(again - moved).max())
        moved = again
        if step < tolerance * reach:
            break
    return transform(start, *similarity(thin, moved, with_scale=False))


def _near(points: Array, target: Array, reach: float) -> NDArray[np.bool_]:
    near = np.asarray(np.linalg.norm(target - points, axis=1) <= reach)
    return near if near.mean() >= 0.5 else np.ones(len(points), bool)


def _tangent_step(points: Array, source: Array, target: Array, normals: Array) -> Array:
    """``points`` after the small rigid motion that takes ``source`` to the target's planes."""
    center = source.mean(0)
    lever = np.cross(source - center, normals)
    spread = float(np.sqrt(((source - center) ** 2).sum(1).mean()))
    equations = np.concatenate([lever / spread, normals], 1)
    residual = ((target - source) * normals).sum(1)
    # The least motion that does it: a surface may leave some motions undetermined.
    solution = np.linalg.lstsq(equations, residual, rcond=1e-6)[0]
    turn = solution[:3] / spread
    angle = float(np.linalg.norm(turn))
    axis = turn / max(angle, 1e-12)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return transform(points - center, 1.0, rotation, center + solution[3:])


def surface_error(
    points: NDArray[Any], surface: Surface, normaliser: float, *, align: bool = True
) -> float:
    """Mean distance of ``points`` (P, 3) to the surface over ``normaliser``, percent.

    ``align``: after rigid ICP. normaliser: 3-D outer-eye distance of the scan.
    """
    p = np.asarray(points, float)
    if align:
        p = icp_to_surface(p, surface, reach=0.25 * normaliser)
    distance = np.linalg.norm(surface.nearest(p) - p, axis=1)
    return float(100 * distance.mean() / normaliser)
