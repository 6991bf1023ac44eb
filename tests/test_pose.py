from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic import yxz_to_matrix

from sadr_cli.pose import (
    euler_to_matrix,
    geodesic_distance,
    in_plane_angle,
    matrix_to_euler,
    matrix_to_quaternion,
    matrix_to_yxz,
    quaternion_to_matrix,
    wrapped,
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


@given(st.lists(st.tuples(angle, angle, angle), min_size=6, max_size=6), st.booleans())
def test_a_batch_is_read_matrix_by_matrix(angles, beyond: bool) -> None:
    matrices = euler_to_matrix(*np.array(angles).T).reshape(2, 3, 3, 3)
    together = matrix_to_euler(matrices, beyond_profile=beyond)
    for index in np.ndindex(2, 3):
        alone = matrix_to_euler(matrices[index], beyond_profile=beyond)
        assert np.array_equal(together[index], alone)


@given(st.floats(-89, 89), st.floats(-40, 40), st.floats(-40, 40))
def test_faces_that_look_at_the_viewer_read_the_same_both_ways(yaw, pitch, roll) -> None:
    matrix = euler_to_matrix(yaw, pitch, roll)
    assert np.array_equal(matrix_to_euler(matrix, beyond_profile=True), matrix_to_euler(matrix))


def test_the_smaller_sum_of_pitch_and_roll_decides() -> None:
    upside_down = euler_to_matrix(10, 170, 5)  # looks away by its pitch: 170 + 5 against 10 + 175
    assert np.allclose(matrix_to_euler(upside_down, beyond_profile=True), [10, 170, 5])
    over = euler_to_matrix(10, 170, 15)  # 185 against 10 + 165
    assert np.allclose(matrix_to_euler(over, beyond_profile=True), [170, -10, -165])


@pytest.mark.parametrize("excess", [1 + 1e-12, 1 + 1e-7])
def test_rounding_beyond_a_rotation_gives_no_nan(excess: float) -> None:
    for yaw in (90, -90, 0):
        matrix = excess * euler_to_matrix(yaw, 0, 0)
        assert np.isfinite(matrix_to_euler(matrix)).all()
    same = excess * np.eye(3)
    assert geodesic_distance(same, same) == 0
    half_turn = np.diag([1.0, -1.0, -1.0])
    assert geodesic_distance(excess * half_turn, excess * np.eye(3)) == pytest.approx(180)


@given(st.floats(0.01, 100))
def test_quaternions_of_any_length_are_taken(length: float) -> None:
    matrix = euler_to_matrix(30, -20, 10)
    quaternion = length * matrix_to_quaternion(matrix)
    assert np.allclose(quaternion_to_matrix(quaternion), matrix)


def test_integers_and_lists_are_taken() -> None:
    turn = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
    assert np.allclose(euler_to_matrix(90, 0, 0), turn)
    assert np.allclose(matrix_to_quaternion(turn) ** 2, [0.5, 0, 0.5, 0])
    assert np.allclose(quaternion_to_matrix([2, 0, 0, 0]), np.eye(3))


@given(st.floats(-179, 179), st.floats(-85, 85), st.floats(-179, 179))
def test_yxz_angles_are_read_back_wherever_the_face_looks(yaw, pitch, roll) -> None:
    matrix = yxz_to_matrix(yaw, pitch, roll)
    assert np.allclose(matrix_to_yxz(matrix), (yaw, pitch, roll), atol=1e-6)
    # An independent reading: intrinsic y-x-z; the project's single turns are the transposed ones.
    other = Rotation.from_matrix(matrix).as_euler("YXZ", degrees=True)
    assert np.allclose(-other, (yaw, pitch, roll), atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_a_turn_about_one_axis_has_the_same_angles_in_both_orders(axis: int) -> None:
    angles = np.zeros(3)
    angles[axis] = 40
    assert np.allclose(yxz_to_matrix(*angles), euler_to_matrix(*angles))


def test_yxz_angles_stay_small_where_a_profile_flips_the_others() -> None:
    yaws = np.linspace(80, 100, 21)
    profiles = yxz_to_matrix(yaws, 5, 3)
    assert np.abs(matrix_to_euler(profiles, beyond_profile=True)[:, 1]).max() > 85
    assert np.allclose(matrix_to_yxz(profiles), np.stack([yaws, 0 * yaws + 5, 0 * yaws + 3], 1))
    nose = profiles @ (0, 0, 1)  # looks to the picture's left, and a little up
    assert (nose[:, 0] < -0.9).all() and (nose[:, 1] > 0).all()


@pytest.mark.parametrize("pitch", [90, -90])
def test_looking_straight_up_or_down_leaves_roll_at_zero(pitch: int) -> None:
    matrix = yxz_to_matrix(30, pitch, 20)
    yaw, read, roll = matrix_to_yxz(matrix)
    assert roll == 0 and read == pytest.approx(pitch)
    assert np.allclose(yxz_to_matrix(yaw, read, roll), matrix, atol=1e-7)


@pytest.mark.parametrize("angle", [0, 50, -90, 135, 180])
def test_the_angle_in_the_picture_is_that_of_a_turned_photo(angle: int) -> None:
    for yaw in (0, 60, 95):
        upright = yxz_to_matrix(yaw, 0, 0)
        turned = euler_to_matrix(0, 0, angle) @ upright
        assert abs(wrapped(in_plane_angle(turned) - angle)) < 1e-6
