"""The jaw on the visible outline, against the outline of an ellipsoid, which is known."""

from __future__ import annotations

import numpy as np
import pytest

from sadr_cli.landmarks import INNER, JAW, MIRROR_68
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.contour import contour_landmarks
from sadr_cli.uv import UVLayout

RADII = np.array([1.0, 1.4, 1.1])


def ellipsoid() -> UVLayout:
    """The front of an ellipsoid, 100 degrees to each side, its jaw along a U near the rim."""
    rows, columns = np.mgrid[0:256, 0:256]
    mask = (np.abs(columns - 128) <= 120) & (np.abs(rows - 128) <= 100)
    longitude = np.deg2rad((columns[mask] - 128) / 120 * 100)
    latitude = np.deg2rad((128 - rows[mask]) / 100 * 75)
    sphere = np.stack(
        [
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
            np.cos(latitude) * np.cos(longitude),
        ],
        1,
    )
    across = np.linspace(-1, 1, 17)
    kpt = np.full((68, 2), 128)
    kpt[JAW] = np.rint(np.stack([128 + 80 * (1 - across**2), 128 + 100 * across], 1)).astype(int)
    kpt[INNER, 1] = 128 + np.rint(20 * np.sin(np.arange(51))).astype(int)
    kpt[[28, 57]] = [[90, 128], [150, 128]]
    region = np.where(mask, 2, 0).astype(np.uint8)
    return UVLayout(mask, kpt, region, (sphere * RADII).astype(np.float32))


UV = ellipsoid()


def posed(yaw: float, pitch: float = 0.0, roll: float = 0.0, scale: float = 100.0) -> np.ndarray:
    points = scale * UV.mean_shape.astype(float) @ euler_to_matrix(yaw, pitch, roll).T
    return points * (1, -1, 1) + (300, 200, 7)


def outline_distance(points: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """0 on the ellipse that an ellipsoid shows, negative inside, in radii."""
    turned = euler_to_matrix(yaw, pitch, roll) @ np.diag(100 * RADII)
    shadow = (turned @ turned.T)[:2, :2]
    p = (points[:, :2] - (300, 200)) * (1, -1)
    return np.sqrt(np.einsum("ni,ij,nj->n", p, np.linalg.inv(shadow), p)) - 1


@pytest.mark.parametrize("pose", [(25, 0, 0), (-40, 10, 0), (55, -15, 30), (-65, 0, -20)])
def test_hidden_jaw_points_come_onto_the_outline_and_seen_ones_stay(pose):
    vertices = posed(*pose)
    found = contour_landmarks(vertices, UV)
    surface = vertices[UV.landmark_indices]
    np.testing.assert_array_equal(found[INNER], surface[INNER])
    moved = np.abs(found - surface).max(1) > 0
    normals = UV.mean_shape[UV.landmark_indices[JAW]] / RADII**2 @ euler_to_matrix(*pose).T
    clear = np.abs(normals[:, 2]) > 0.02  # those of the mesh are as exact as that
    assert (moved[JAW] == (normals[:, 2] < 0))[clear].all()
    assert moved.any()
    distance = outline_distance(found, *pose)
    np.testing.assert_allclose(distance[moved], 0, atol=2e-3)
    # They had been far inside; those that stayed face the viewer, towards the near side.
    assert outline_distance(surface, *pose)[moved].min() < -0.05
    near = slice(0, 5) if pose[0] < 0 else slice(12, 17)
    assert not moved[JAW][near].any()


def test_a_frontal_face_keeps_its_jaw():
    vertices = posed(0)
    np.testing.assert_array_equal(contour_landmarks(vertices, UV), vertices[UV.landmark_indices])


def test_place_and_scale_of_the_face_do_not_matter():
    a = contour_landmarks(posed(40, 5, 3), UV)
    b = contour_landmarks(posed(40, 5, 3) * 2.5 + (10, -20, 3), UV)
    np.testing.assert_allclose(b, a * 2.5 + (10, -20, 3), atol=1e-9)


def test_the_mirror_image_has_the_mirrored_jaw():
    a, b = contour_landmarks(posed(35), UV), contour_landmarks(posed(-35), UV)
    np.testing.assert_allclose(b[MIRROR_68][JAW], (a * (-1, 1, 1) + (600, 0, 0))[JAW], atol=0.5)


def test_a_little_more_yaw_moves_the_jaw_a_little():
    steps = [contour_landmarks(posed(yaw), UV)[JAW] for yaw in np.arange(20, 60, 0.5)]
    jumps = np.linalg.norm(np.diff(steps, axis=0)[..., :2], axis=-1)
    assert jumps.max() < 3  # pixels; the face is 250 high


def test_a_face_that_looks_away_has_a_jaw_as_well():
    for yaw in (90, 130, 180):
        assert np.isfinite(contour_landmarks(posed(yaw), UV)).all()
