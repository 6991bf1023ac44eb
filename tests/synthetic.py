"""A small made-up face model for tests: no licensed data, exact geometry, cheap."""

from __future__ import annotations

import numpy as np

from sadr_cli.crop import crop_from_landmarks
from sadr_cli.faces import Detection, Face
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.rasterize import vertex_normals
from sadr_cli.uv import UVLayout


def yxz_to_matrix(yaw, pitch, roll):
    """Rotations Ry(yaw) Rx(pitch) Rz(roll) (..., 3, 3) from degrees."""
    turned, lifted = euler_to_matrix(yaw, 0, 0), euler_to_matrix(0, pitch, 0)
    return turned @ lifted @ euler_to_matrix(0, 0, roll)


def layout(radius: float = 1.0) -> UVLayout:
    """A dome-shaped face over an ellipse of the UV map; ``radius`` 1 has about 36,000 vertices."""
    rows, columns = np.mgrid[0:256, 0:256]
    u, v = (columns - 127.5) / 127.5, (127.5 - rows) / 127.5
    mask = (u / 0.92) ** 2 + (v / 0.8) ** 2 < radius**2
    x, y = 1.2 * u[mask], 1.3 * v[mask]
    nose = 0.45 * np.exp(-(x**2 / 0.03 + (y + 0.05) ** 2 / 0.06))
    z = 1.6 - 0.75 * x**2 - 0.25 * y**2 + nose
    # 68 points on rings around the middle, each on its own pixel.
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    r = np.where(np.arange(68) < 17, 80.0, np.where(np.arange(68) < 48, 45.0, 25.0)) * radius
    kpt = np.stack([127 + r * np.sin(angle), 128 + r * np.cos(angle)], 1).round().astype(int)
    return UVLayout(
        mask=mask,
        kpt=kpt,
        region=np.where(mask, 2, 0).astype(np.uint8),
        mean_shape=np.stack([x, y, z], 1).astype(np.float32),
    )


def posed_face(
    uv: UVLayout,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    scale: float = 60.0,
    center: tuple[float, float] = (100.0, 90.0),
) -> Face:
    """The layout's mean face, posed exactly by Eq 2 with its origin at ``center`` of the photo."""
    shape = np.asarray(uv.mean_shape, float)
    rotation = euler_to_matrix(yaw, pitch, roll)
    translation = np.array([center[0], -center[1], 5.0])
    vertices = (scale * shape @ rotation.T + translation) * (1, -1, 1)
    landmarks = vertices[uv.landmark_indices]
    normals = vertex_normals(vertices, uv.triangles[:, ::-1])
    visibility = 0.9 * (normals[:, 2] > 0)
    seen = visibility[uv.landmark_indices]
    box = np.concatenate([landmarks[:, :2].min(0), landmarks[:, :2].max(0)])
    return Face(
        vertices=vertices,
        landmarks=landmarks,
        shape=shape,
        visibility=visibility,
        landmark_visibility=seen,
        landmark_confidence=0.5 + 0.5 * seen,
        attention=np.full((32, 32), 0.9),
        scale=scale,
        rotation=rotation,
        translation=translation,
        pose_face=vertices + 0.5,
        crop=crop_from_landmarks(landmarks),
        detection=Detection(box, 0.93, detector="fake"),
        confidence=0.8,
    )
