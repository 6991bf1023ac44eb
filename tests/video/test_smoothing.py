from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeReconstructor
from scipy.spatial.transform import Rotation

from sadr_cli.faces import Crop, Detection
from sadr_cli.video import STRENGTHS, FaceSmoother

RATE = 30


@pytest.fixture(scope="module")
def face():
    fake = FakeReconstructor()
    detection = Detection(np.array([100.0, 100, 200, 200]))
    (face,) = fake.reconstruct_crops([np.zeros((64, 64, 3))], [Crop(150, 150, 150)], [detection])
    return face


def placed(face, shift=(0, 0, 0), turn=0.0, noise=0.0, rng=None):
    """The face shifted in the photo, turned by ``turn`` degrees of yaw, with trembling."""
    rotation = Rotation.from_euler("y", turn, degrees=True).as_matrix()
    shape = face.shape if rng is None else face.shape + rng.normal(0, noise, face.shape.shape)
    middle = face.scale * face.shape.mean(0) + face.translation
    t = middle - face.scale * rotation @ face.shape.mean(0) + np.multiply(shift, (1, -1, 1))
    if rng is not None:
        t = t + rng.normal(0, 40 * noise, 3)
    vertices = (face.scale * shape @ rotation.T + t) * (1, -1, 1)
    index = FakeReconstructor().uv.landmark_indices
    return replace(
        face,
        shape=shape,
        rotation=rotation,
        translation=t,
        vertices=vertices,
        landmarks=vertices[index],
    )


def smoothed(faces, strength, times=None):
    smoother = FaceSmoother(STRENGTHS[strength], FakeReconstructor().uv.landmark_indices)
    times = np.arange(len(faces)) / RATE if times is None else times
    return [smoother(f, t) for f, t in zip(faces, times, strict=True)]


def jitter(faces):
    return np.stack([f.landmarks for f in faces])[RATE:].std(0).mean()


@pytest.mark.parametrize(("strength", "share"), [("light", 0.55), ("strong", 0.3)])
def test_a_face_at_rest_trembles_less(face, strength, share):
    rng = np.random.default_rng(0)
    raw = [placed(face, noise=0.002, rng=rng) for _ in range(4 * RATE)]
    calm = smoothed(raw, strength)
    assert jitter(calm) < share * jitter(raw)
    yaw = np.array([f.euler[0] for f in calm])
    assert abs(yaw).max() < 0.1


def test_what_rests_stays_where_it_is(face):
    still = smoothed([face] * 10, "strong")[-1]
    np.testing.assert_allclose(still.vertices, face.vertices, atol=1e-3)
    np.testing.assert_allclose(still.shape, face.shape, atol=1e-5)
    assert still.scale == pytest.approx(face.scale)


@pytest.mark.parametrize(("strength", "frames"), [("light", 1.5), ("strong", 3.0)])
def test_a_face_that_moves_does_not_lag_behind(face, strength, frames):
    """Three face sizes a second sideways, then 90 degrees a second of yaw: lag in frames."""
    size = np.ptp(face.landmarks[:, 0])
    raw = [placed(face, (3 * size * k / RATE, 0, 0)) for k in range(2 * RATE)]
    last = smoothed(raw, strength)[-1]
    behind = raw[-1].landmarks[:, 0].mean() - last.landmarks[:, 0].mean()
    assert 0 <= behind < frames * 3 * size / RATE
    raw = [placed(face, turn=90 * k / RATE - 40) for k in range(RATE)]
    last = smoothed(raw, strength)[-1]
    assert abs(last.euler[0] - raw[-1].euler[0]) < 2 * frames * 90 / RATE


def test_pose_mesh_and_landmarks_stay_one(face):
    rng = np.random.default_rng(1)
    raw = [placed(face, (k, 2 * k, 0), 2.0 * k, 0.01, rng) for k in range(20)]
    for f in smoothed(raw, "light"):
        np.testing.assert_array_equal(
            f.landmarks, f.vertices[FakeReconstructor().uv.landmark_indices]
        )
        made = f.scale * f.shape @ f.rotation.T + f.translation
        np.testing.assert_allclose(made * (1, -1, 1), f.vertices, atol=2e-3)
        np.testing.assert_allclose(f.rotation @ f.rotation.T, np.eye(3), atol=1e-9)


def test_times_matter_not_the_number_of_frames(face):
    """The same motion seen at irregular times ends at about the same place."""
    size = np.ptp(face.landmarks[:, 0])
    rng = np.random.default_rng(2)
    odd = np.sort(np.append(rng.uniform(0, 2, 58), [0.0, 2.0]))
    ends = [
        smoothed([placed(face, (size * t, 0, 0)) for t in times], "strong", times)[-1]
        for times in (np.linspace(0, 2, 60), odd)
    ]
    a, b = (e.landmarks[:, 0].mean() for e in ends)
    assert abs(a - b) < 0.03 * size


def test_half_a_turn_of_quaternions(face):
    """Rotations whose quaternions change sign between frames are near one another."""
    out = smoothed([placed(face, turn=t) for t in (179.0, -179.0, 179.0, -179.0)], "strong")
    assert all(abs(abs(f.euler[0]) - 180) < 3 for f in out)
