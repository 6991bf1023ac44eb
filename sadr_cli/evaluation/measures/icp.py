"""Rigid alignment of surfaces by ICP (iterative closest point), with Open3D on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.evaluation.measures.metrics import Array
from sadr_cli.open3d_import import import_open3d
from sadr_cli.pose import transform

_ICP_POINTS = 5_000  # of the source; more change the fit by less than 0.01 %


def icp(
    source: NDArray[Any],
    target: NDArray[Any],
    *,
    reach: float,
    with_scale: bool = False,
    iterations: int = 100,
) -> tuple[float, Array, Array]:
    """Scale (1 unless ``with_scale``), R (3, 3) and t (3,) that bring ``source`` onto ``target``.

    source (P, 3), target (M, 3): points without correspondence, roughly aligned already.
    reach: pairs further apart than this do not count. Point-to-point, deterministic.
    """
    o3d = import_open3d("ICP")
    # Around the target's centre and in units of reach: stable whatever the coordinates are.
    center = np.asarray(target, float).mean(0)
    clouds = []
    for points in (source, target):
        cloud = o3d.geometry.PointCloud()
        cloud.points = o3d.utility.Vector3dVector((np.asarray(points, float) - center) / reach)
        clouds.append(cloud)
    registration = o3d.pipelines.registration
    result = registration.registration_icp(
        clouds[0],
        clouds[1],
        1.0,
        np.eye(4),
        registration.TransformationEstimationPointToPoint(with_scale),
        registration.ICPConvergenceCriteria(1e-9, 1e-9, iterations),
    )
    matrix = np.asarray(result.transformation, float)
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    rotation = matrix[:3, :3] / scale
    translation = center + reach * matrix[:3, 3] - scale * rotation @ center
    return scale, rotation, translation


def icp_error(
    prediction: NDArray[Any], truth: NDArray[Any], normaliser: float
) -> tuple[float, Array]:
    """Rigid ICP, then the mean distance of corresponding points over ``normaliser``, percent.

    prediction, truth: (P, 3) with correspondence, in one scale; ICP itself does not use it and
    starts where the centroids meet (depth has no origin in a photo). Also returns the aligned
    points.
    """
    p, g = np.asarray(prediction, float), np.asarray(truth, float)
    p = p - p.mean(0) + g.mean(0)
    thin = p[:: max(len(p) // _ICP_POINTS, 1)]
    aligned = transform(p, *icp(thin, g, reach=normaliser))
    return float(100 * np.linalg.norm(aligned - g, axis=1).mean() / normaliser), aligned
