"""The paper's Florence protocol (IV-C): 20 views of a scan, and the error of a face in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.benchmark import Array
from sadr_cli.evaluation.data.scans import Scan, ScanLandmarks, View, sample_surface, seen_from
from sadr_cli.evaluation.measures.surface import Surface, icp_to_surface, surface_error
from sadr_cli.faces import Face
from sadr_cli.landmarks import LEFT_OUTER_EYE, NOSE_TIP, RIGHT_OUTER_EYE
from sadr_cli.pose import similarity, transform
from sadr_cli.uv import UVLayout

PITCHES, YAWS = (-15.0, 0.0, 20.0, 25.0), (-80.0, -40.0, 0.0, 40.0, 80.0)
REGION = 19_000  # vertices
SIZE, EYE_PIXELS = 512, 110.0  # of the rendered pictures


def face_region(uv: UVLayout) -> NDArray[np.intp]:
    """(REGION,) indices of the vertices nearest to the nose tip of the mean template."""
    mean = np.asarray(uv.mean_shape, float)
    distance = np.linalg.norm(mean - mean[uv.landmark_indices[NOSE_TIP]], axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:REGION])


def views_of(landmarks: ScanLandmarks) -> list[View]:
    """The 20 cameras of the protocol, aimed at the centre of the landmarks' box."""
    points = landmarks.points
    center = (points.min(0) + points.max(0)) / 2
    scale = EYE_PIXELS / landmarks.eye_distance
    x, y, z = (float(v) for v in center)
    return [View(p, yaw, scale, (x, y, z), SIZE) for p in PITCHES for yaw in YAWS]


@dataclass(frozen=True, eq=False)
class ScanTruth:
    """A prepared scan: its surface, and its face as evenly spread visible points (P, 3)."""

    scan: Scan
    landmarks: ScanLandmarks
    surface: Surface
    face: Array

    @classmethod
    def prepare(cls, scan: Scan, landmarks: ScanLandmarks, uv: UVLayout) -> ScanTruth:
        mean = np.asarray(uv.mean_shape, float)[uv.landmark_indices]
        eyes = float(np.linalg.norm(mean[LEFT_OUTER_EYE] - mean[RIGHT_OUTER_EYE]))
        reach = np.asarray(uv.mean_shape, float)[face_region(uv)] - mean[NOSE_TIP]
        radius = float(np.linalg.norm(reach, axis=1).max()) / eyes * landmarks.eye_distance
        surface = Surface(scan.vertices, scan.triangles, landmarks.eye_distance)
        # More than needed: points inside (mouth, eye sockets) are dropped.
        points = sample_surface(scan, landmarks.nose_tip, radius, 4 * REGION)
        views = [v for v in views_of(landmarks) if v.pitch == 0]
        face = points[np.any([seen_from(v, scan, points) for v in views], axis=0)][:REGION]
        if not len(face):
            raise MissingDataError(f"scan {scan.name} has no visible surface around its nose tip")
        return cls(scan, landmarks, surface, face)


def view_errors(
    face: Face, truth: ScanTruth, view: View, depth: NDArray[np.float32], uv: UVLayout
) -> tuple[float, float]:
    """Reconstruction error of one view and the reverse error, percent of the eye distance."""
    vertices = np.asarray(face.vertices, float).copy()
    # Depth has no origin in a photo: start ICP at the rendered depth of the visible landmarks.
    xy = np.clip(np.rint(face.landmarks[:, :2]).astype(int), 0, view.size - 1)
    seen = depth[xy[:, 1], xy[:, 0]]
    difference = (seen - face.landmarks[:, 2])[np.isfinite(seen)]
    if len(difference):
        vertices[:, 2] += np.median(difference)
    else:
        vertices[:, 2] += view.project(truth.face)[:, 2].mean() - vertices[:, 2].mean()
    eyes = truth.landmarks.eye_distance
    lifted = view.lift(vertices)
    region = lifted[face_region(uv)]
    aligned = icp_to_surface(region, truth.surface, reach=0.25 * eyes)
    whole = transform(lifted, *similarity(region, aligned, with_scale=False))
    back = Surface(whole, uv.triangles, eyes)
    return (
        surface_error(aligned, truth.surface, eyes, align=False),
        surface_error(truth.face, back, eyes, align=False),
    )
