from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadr_cli.pose import (
    euler_to_matrix,
    geodesic_distance,
    matrix_to_euler,
    matrix_to_quaternion,
    quaternion_to_matrix,
)

angle = st.floats(-180, 180)
NOSE, UP = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])


@given(st.floats(-89, 89), st.floats(-179, 179), st.floats(-179, 179))
def test_euler_round_trip(yaw: float, pitch: float, roll: float) -> None:
    angles = matrix_to_euler(euler_to_matrix(yaw, pitch, roll))
    assert np.allclose(angles, [yaw, pitch, roll], atol=1e-5)


@given(st.floats(91, 170), st.floats(-40, 40), st.floats(-40, 40), st.sampled_from([-1, 1]))
def test_euler_round_trip_beyond_the_profile(yaw, pitch, roll, side) -> None:
    matrix = euler_to_matrix(side * yaw, pitch, roll)
    assert np.allclose(
        matrix_to_euler(matrix, beyond_profile=True), [side * yaw, pitch, roll], atol=1e-5
    )
    # The reading of AFLW2000-3D describes the same rotation with |yaw| <= 90.
    plain = matrix_to_euler(matrix)
    assert abs(plain[0]) <= 90
    assert np.allclose(euler_to_matrix(*plain), matrix, atol=1e-9)


@given(angle, angle, angle)
def test_every_rotation_survives_euler_and_quaternion(yaw, pitch, roll) -> None:
    matrix = euler_to_matrix(yaw, pitch, roll)
    assert np.linalg.det(matrix) == pytest.approx(1)
    quaternion = matrix_to_quaternion(matrix)
    assert quaternion[0] >= 0
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    assert np.allclose(quaternion_to_matrix(quaternion), matrix, atol=1e-9)
    for beyond in (False, True):
        again = euler_to_matrix(*matrix_to_euler(matrix, beyond_profile=beyond))
        assert np.allclose(again, matrix, atol=2e-5)


@pytest.mark.parametrize("yaw", [90.0, -90.0])
def test_gimbal_lock_still_describes_the_rotation(yaw: float) -> None:
    matrix = euler_to_matrix(yaw, 20, 15)
    angles = matrix_to_euler(matrix)
    assert angles[2] == 0
    assert np.allclose(euler_to_matrix(*angles), matrix, atol=1e-6)


def test_signs_are_as_documented() -> None:
    assert (euler_to_matrix(30, 0, 0) @ NOSE)[0] < 0  # to the image's left
    assert (euler_to_matrix(0, 30, 0) @ NOSE)[1] > 0  # chin up
    assert (euler_to_matrix(0, 0, 30) @ UP)[0] > 0  # clockwise in the picture


def test_mirroring_negates_yaw_and_roll() -> None:
    mirror = np.diag([-1.0, 1.0, 1.0])
    matrix = mirror @ euler_to_matrix(35, 10, -20) @ mirror
    assert np.allclose(matrix_to_euler(matrix), [-35, 10, 20])


def test_geodesic_distance_is_the_angle_between() -> None:
    a = euler_to_matrix(0, 0, 0)
    b = euler_to_matrix([0, 50, 0], [0, 0, -70], [130, 0, 0])
    assert np.allclose(geodesic_distance(a, b), [130, 50, 70])


def test_quaternions_are_batched() -> None:
    matrices = euler_to_matrix(np.linspace(-80, 80, 6).reshape(2, 3), 10, 5)
    assert matrix_to_quaternion(matrices).shape == (2, 3, 4)
    assert np.allclose(quaternion_to_matrix(matrix_to_quaternion(matrices)), matrices)
