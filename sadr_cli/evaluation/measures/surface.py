"""Rigid ICP and the errors after it: of corresponding points, of points to a scan's surface.

Open3D, on the CPU.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sadr_cli.evaluation.measures.metrics import Array, reconstruction_error
from sadr_cli.open3d_import import import_open3d
from sadr_cli.pose import similarity, transform

_ICP_POINTS = 4_000  # about as many are used by the alignment to a surface; all by the error
_CLOUD_POINTS = 5_000  # likewise of the alignment to points; more change it by less than 0.01 %
_COARSE_ROUNDS, _ROUNDS = 10, 60
_CONVERGED = 1e-6  # motion of an iteration, in ``reach``
_FEW = 10_000  # points
_ON_EDGE = 1e-4  # a point with a smaller barycentric weight lies on the opposite edge
_NO_AREA = 1e-12  # of ``unit`` squared: smaller triangles are dropped, they have no normal


class Surface:
    """A triangle mesh with nearest-point queries.

    vertices (V, 3), triangles (T, 3); ``unit``: a length about the size of the face. Open3D
    computes in single precision, so points are centred and scaled by it.
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
        # Starting threads takes longer than few points do.
        threads = 1 if len(points) < _FEW else 0
        return self._scene.compute_closest_points(
            self._core.Tensor(self._to_unit(points)), nthreads=threads
        )

    def nearest_or_beyond(self, points: NDArray[Any]) -> tuple[Array, Array, NDArray[np.bool_]]:
        """As :meth:`nearest_with_normals`, and (P,) bool: the nearest point lies on the boundary
        of the surface."""
        found = self._closest(points)
        nearest = found["points"].numpy().astype(float) * self._unit + self._center
        which = found["primitive_ids"].numpy().astype(np.int64)
        u, v = found["primitive_uvs"].numpy().T  # weights of the second and third corner
        opposite = np.stack([1 - u - v, u, v], 1) < _ON_EDGE
        beyond = (opposite & self._boundary[which]).any(1)
        return nearest, found["primitive_normals"].numpy().astype(float), beyond

    @cached_property
    def _boundary(self) -> NDArray[np.bool_]:
        """(T, 3) whether the edge opposite to a triangle's corner belongs to no other triangle."""
        edges = np.sort(self._triangles[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
        key = edges[:, 0] * (int(edges.max()) + 1) + edges[:, 1]
        _, index, counts = np.unique(key, return_inverse=True, return_counts=True)
        return np.asarray(counts[index.reshape(-1)].reshape(-1, 3) == 1)

    def _to_unit(self, points: NDArray[Any]) -> NDArray[np.float32]:
        return ((np.asarray(points, float) - self._center) / self._unit).astype(np.float32)


def icp_to_surface(points: NDArray[Any], surface: Surface, *, reach: float) -> Array:
    """``points`` (P, 3) aligned rigidly to ``surface`` by ICP.

    A few point-to-point iterations with pairs up to 4 ``reach`` apart, then point-to-plane
    iterations until convergence. There, pairs further apart than ``reach`` are ignored (hair,
    holes), unless that leaves fewer than half.
    """
    start = np.asarray(points, float)
    moved = start[:: max(len(start) // _ICP_POINTS, 1)].copy()
    thin = moved.copy()
    for _ in range(_COARSE_ROUNDS):
        target = surface.nearest(moved)
        near = _near(moved, target, 4 * reach)
        fit = similarity(moved[near], target[near], with_scale=False)
        moved = transform(moved, *fit)
    for _ in range(_ROUNDS):
        target, normals = surface.nearest_with_normals(moved)
        near = _near(moved, target, reach)
        again = tangent_step(moved, moved[near], target[near], normals[near])
        step = float(np.abs(again - moved).max())
        moved = again
        if step < _CONVERGED * reach:
            break
    return transform(start, *similarity(thin, moved, with_scale=False))


def _near(points: Array, target: Array, reach: float) -> NDArray[np.bool_]:
    near = np.asarray(np.linalg.norm(target - points, axis=1) <= reach)
    return near if near.mean() >= 0.5 else np.ones(len(points), bool)


def tangent_step(
    points: Array, source: Array, target: Array, normals: Array, *, with_scale: bool = False
) -> Array:
    """One point-to-plane step: ``points`` after the small motion that minimises the distance of
    ``source`` (P, 3) to the planes through ``target`` (P, 3) with ``normals`` (P, 3)."""
    center = source.mean(0)
    arm = source - center
    spread = float(np.sqrt((arm**2).sum(1).mean()))
    columns = [np.cross(arm, normals) / spread, normals]
    if with_scale:
        columns.append((arm * normals).sum(1, keepdims=True) / spread)
    residual = ((target - source) * normals).sum(1)
    # The minimum-norm solution: some surfaces leave motions undetermined.
    x = np.linalg.lstsq(np.concatenate(columns, 1), residual, rcond=1e-6)[0]
    rotation = Rotation.from_rotvec(x[:3] / spread).as_matrix()
    scale = 1 + x[6] / spread if with_scale else 1.0
    return transform(points - center, scale, rotation, center + x[3:6])


def icp_error(prediction: NDArray[Any], truth: NDArray[Any], normaliser: float) -> float:
    """Rigid ICP, then the mean distance of corresponding points over ``normaliser``, percent.

    prediction, truth: (P, 3) corresponding points of the same scale. ICP (point-to-point) does not
    use the correspondence; it starts from aligned centroids, since depth has no origin in a photo.
    """
    o3d = import_open3d("ICP")
    p, g = np.asarray(prediction, float), np.asarray(truth, float)
    center = g.mean(0)
    p = p - p.mean(0) + center
    clouds = []
    # Centred and in units of the normaliser: numerically stable for any coordinates.
    for points in (p[:: max(len(p) // _CLOUD_POINTS, 1)], g):
        cloud = o3d.geometry.PointCloud()
        cloud.points = o3d.utility.Vector3dVector((points - center) / normaliser)
        clouds.append(cloud)
    registration = o3d.pipelines.registration
    result = registration.registration_icp(
        clouds[0],
        clouds[1],
        1.0,  # largest distance of a pair
        np.eye(4),
        registration.TransformationEstimationPointToPoint(False),
        registration.ICPConvergenceCriteria(1e-9, 1e-9, 100),
    )
    matrix = np.asarray(result.transformation, float)
    aligned = transform(p - center, 1.0, matrix[:3, :3], center + normaliser * matrix[:3, 3])
    return reconstruction_error(aligned, g, normaliser, align=False)


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
