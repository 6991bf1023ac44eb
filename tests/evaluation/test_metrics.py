from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sadr_cli.evaluation.measures import metrics
from sadr_cli.pose import euler_to_matrix, similarity, transform

MIRROR = np.diag([-1.0, 1.0, 1.0])
angles = st.floats(-85, 85)
faces = arrays(float, (2, 68, 3), elements=st.floats(-100, 100)).filter(
    lambda a: (np.ptp(a[..., :2], axis=1) > 1).all()
)
few = settings(max_examples=40, deadline=None)


def square(side: float = 10.0) -> np.ndarray:
    """Four corners of a square, flat."""
    return np.array([[[0, 0, 0], [side, 0, 0], [0, side, 0], [side, side, 0]]], float)


def test_nme_2d_is_the_mean_distance_over_the_root_of_the_box():
    truth = np.array([[[0, 0], [40, 0], [0, 10], [40, 10]]], float)  # sqrt(40 * 10) = 20
    moved = truth + np.array([[3, 4], [0, 0], [3, 4], [0, 0]])  # 5, 0, 5, 0
    assert metrics.nme_2d(moved, truth) == pytest.approx([100 * 2.5 / 20])


def test_the_box_is_that_of_the_truth_not_of_the_prediction():
    assert metrics.nme_2d(square(20), square(10)) != pytest.approx(
        metrics.nme_2d(square(10), square(20))
    )


def test_nme_3d_ignores_the_origin_of_depth_only():
    truth = square()
    assert metrics.nme_3d(truth + np.array([0, 0, 7]), truth) == pytest.approx([0.0])
    tilted = truth + np.array([[0, 0, 2], [0, 0, -2], [0, 0, 2], [0, 0, -2]])
    assert metrics.nme_3d(tilted, truth) == pytest.approx([100 * 2 / 10])
    assert metrics.nme_2d(tilted, truth) == pytest.approx([0.0])


def test_eye_distances_are_of_the_corners_and_of_the_centres():
    points = np.zeros((1, 68, 2))
    points[0, 36], points[0, 45] = [-30, 0], [30, 0]
    points[0, 37:42], points[0, 42:45], points[0, 46:48] = [-18, 0], [18, 0], [18, 0]
    assert metrics.inter_ocular(points) == pytest.approx([60])
    assert metrics.inter_pupil(points) == pytest.approx([2 * (30 + 5 * 18) / 6])


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        metrics.nme(square(), square()[:, :3], [1.0])
    with pytest.raises(ValueError, match=r"P, 2 or 3"):
        metrics.nme_2d(np.zeros((2, 68, 4)), np.zeros((2, 68, 4)))


def test_bins_close_at_30_and_60_degrees_of_either_sign():
    yaw = [0, 30, -30, 30.01, -60, 60.01, -90]
    assert metrics.yaw_bin(yaw).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_balanced_is_the_mean_of_bins_and_mean_is_over_images():
    s = metrics.summarise([1, 2, 3, 10, 20], [0, 10, -20, 45, -80])
    assert s.bins == {"0-30": 2, "30-60": 10, "60-90": 20}
    assert s.counts == {"0-30": 3, "30-60": 1, "60-90": 1}
    assert s.balanced == pytest.approx(32 / 3)
    assert s.mean == pytest.approx(36 / 5)


def test_missing_faces_are_counted_and_left_out_of_averages():
    s = metrics.summarise([1, np.nan, 3], [0, 0, 45])
    assert (s.count, s.missing, s.mean) == (2, 1, 2)
    assert np.isnan(s.bins["60-90"])
    assert np.isnan(s.balanced)  # a bin is empty: no balanced mean


def test_ced_counts_missing_faces_as_failures():
    errors = [1, 2, 3, np.nan]
    assert metrics.ced(errors, [0.5, 1, 2.5, 100]).tolist() == [0, 0.25, 0.5, 0.75]
    assert metrics.failure_rate(errors, 2.0) == 50


def test_auc_is_the_exact_area_under_the_step_curve():
    assert metrics.auc([0, 0], 8) == 100
    assert metrics.auc([4.0], 8) == 50
    assert metrics.auc([4, np.nan, 10, 8], 8) == pytest.approx(12.5)
    errors = np.random.default_rng(0).gamma(4, 1, 300)
    fine = np.linspace(0, 8, 200_001)
    area = metrics.ced(errors, fine).mean() * 100
    assert metrics.auc(errors, 8) == pytest.approx(area, abs=1e-2)


def test_pose_mae_by_hand():
    true = np.array([[10, 5, 0], [40, 0, -10], [0, 100, 0]], float)
    rotation = euler_to_matrix([12, 37, 0], [5, 4, 0], [-1, -10, 0])
    pose = metrics.pose_mae(rotation, true)
    assert (pose.count, pose.excluded, pose.missing) == (2, 1, 0)
    assert pose.yaw == pytest.approx(2.5)
    assert pose.pitch == pytest.approx(2.0)
    assert pose.roll == pytest.approx(0.5)
    assert pose.mean == pytest.approx(5 / 3)


def test_pose_errors_are_not_wrapped():
    error = metrics.angle_errors(euler_to_matrix(0, 0, 179)[None], [[0, 0, -179]])
    assert error[0, 2] == pytest.approx(358)


def test_the_papers_fix_leaves_out_gimbal_lock_only():
    true = np.array([[85, 0, 0], [85, 0, 0], [50, 0, 0]], float)
    rotation = euler_to_matrix([86, 70, 50], [30, 30, 5], [0, 0, 0])
    plain, fix = (metrics.pose_mae(rotation, true, fix=f) for f in (False, True))
    assert (plain.count, fix.count, fix.excluded) == (3, 2, 1)
    assert fix.pitch == pytest.approx(17.5)


def test_a_missing_rotation_is_counted():
    rotation = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    pose = metrics.pose_mae(rotation, np.zeros((2, 3)))
    assert (pose.count, pose.missing, pose.excluded) == (1, 1, 0)
    assert pose.mean == pytest.approx(0)


def test_geodesic_is_the_angle_between_rotations():
    assert metrics.geodesic_errors(euler_to_matrix(25, 0, 0)[None], [[0, 0, 0]]) == pytest.approx(
        [25]
    )


def test_similarity_finds_the_motion_and_never_reflects():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(30, 3))
    rotation = euler_to_matrix(30, -20, 70)
    s, r, t = similarity(points, transform(points, 2.5, rotation, [1, 2, 3]))
    assert s == pytest.approx(2.5)
    np.testing.assert_allclose(r, rotation, atol=1e-10)
    np.testing.assert_allclose(t, [1, 2, 3], atol=1e-10)
    assert np.linalg.det(similarity(points, points @ MIRROR)[1]) == pytest.approx(1)


def test_reconstruction_error_by_hand():
    truth = np.random.default_rng(2).normal(size=(50, 3))
    moved = transform(truth, 3.0, euler_to_matrix(10, 20, 30), np.ones(3))
    assert metrics.reconstruction_error(moved, truth, 1.0) == pytest.approx(0, abs=1e-9)
    assert metrics.reconstruction_error(truth + np.array([3, 0, 4]), truth, 2.0, align=False) == (
        pytest.approx(250)
    )


def test_iou_and_binary_scores():
    assert metrics.mask_iou([1, 1, 0, 0], [1, 0, 1, 0]) == pytest.approx(1 / 3)
    assert metrics.mask_iou([0, 0], [0, 0]) == 1
    s = metrics.binary_scores([1, 1, 0, 0], [1, 1, 1, 0])
    assert s["accuracy"] == 0.75
    assert s["recall_true"] == pytest.approx(2 / 3)
    assert s["balanced_accuracy"] == pytest.approx(5 / 6)


@few
@given(faces, faces, st.floats(0.1, 50))
def test_scaling_the_image_changes_nothing(prediction, truth, scale):
    for measure in (metrics.nme_2d, metrics.nme_3d):
        before = measure(prediction, truth)
        np.testing.assert_allclose(measure(scale * prediction, scale * truth), before, rtol=1e-6)


@few
@given(faces, faces, st.floats(-500, 500), st.floats(-500, 500))
def test_moving_both_changes_nothing(prediction, truth, x, y):
    for measure in (metrics.nme_2d, metrics.nme_3d):
        moved = measure(prediction + np.array([x, y, 3]), truth + np.array([x, y, -3]))
        np.testing.assert_allclose(moved, measure(prediction, truth), rtol=1e-6, atol=1e-7)


@few
@given(faces, faces)
def test_mirroring_both_changes_nothing(prediction, truth):
    for measure in (metrics.nme_2d, metrics.nme_3d):
        mirrored = measure(prediction @ MIRROR, truth @ MIRROR)
        np.testing.assert_allclose(mirrored, measure(prediction, truth), rtol=1e-9)


@few
@given(angles, angles, angles, angles, angles, angles)
def test_mirrored_input_gives_mirrored_pose_and_the_same_error(y0, p0, r0, y1, p1, r1):
    predicted, true = euler_to_matrix(y0, p0, r0), np.array([y1, p1, r1])
    mirrored = MIRROR @ predicted @ MIRROR
    np.testing.assert_allclose(mirrored, euler_to_matrix(-y0, p0, -r0), atol=1e-9)
    mirrored_truth = true * [-1, 1, -1]
    np.testing.assert_allclose(
        metrics.angle_errors(mirrored[None], mirrored_truth[None]),
        metrics.angle_errors(predicted[None], true[None]),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        metrics.geodesic_errors(mirrored[None], mirrored_truth[None]),
        metrics.geodesic_errors(predicted[None], true[None]),
        atol=1e-4,
    )
