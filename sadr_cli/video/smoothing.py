"""The One Euro filter on pose and shape of a face, and with them on its mesh and landmarks.

Casiez, Roussel and Vogel, *1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input
in Interactive Systems*, CHI 2012: a first-order low-pass whose cutoff grows with the speed, so
that a face at rest does not tremble and one that moves does not lag behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.pose import matrix_to_quaternion, quaternion_to_matrix

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Strength:
    """cutoff: Hz at rest. slope: Hz more for a speed of one face size a second."""

    cutoff: float
    slope: float


# Chosen with benchmarks/video.py: of settings that calm alike, those that lag least.
STRENGTHS: dict[str, Strength | None] = {
    "off": None,
    "light": Strength(cutoff=0.8, slope=40.0),
    "strong": Strength(cutoff=0.4, slope=12.0),
}
_SPEED_CUTOFF = 1.0  # Hz, of the low-pass on the speed itself: the paper's choice
_TURN = 0.5  # face sizes that the rim of a face moves a radian


def smoothing_factor(cutoff: Any, seconds: float) -> Any:
    """Share of the new value in a low-pass of ``cutoff`` Hz after ``seconds``."""
    r = 2 * math.pi * np.asarray(cutoff) * seconds
    return r / (r + 1)


class FaceSmoother:
    """Smooths the faces of one track, in the order of their times.

    Position, size and turn share one cutoff, driven by how fast the face as a whole moves; every
    vertex of the face without its pose has its own, driven by how fast the expression changes
    there. The mesh is put together from both, so pose, mesh and landmarks stay one thing.
    landmarks: (68,) which vertices they are.
    """

    def __init__(self, strength: Strength, landmarks: NDArray[np.integer[Any]]) -> None:
        self._strength = strength
        self._landmarks = landmarks
        self._time: float | None = None

    def __call__(self, face: Face, time: float) -> Face:
        """``face`` smoothed; ``time`` in seconds. The first face passes unchanged."""
        centre, pose, local = _take_apart(face)
        if self._time is None:
            self._time, self._centre, self._pose = time, centre, pose
            self._local, self._shape = local, np.asarray(face.shape, float)
            self._raw = (centre, pose, local)
            self._velocity = np.zeros(8)
            self._flow = np.zeros_like(local)
            return face
        seconds = max(time - self._time, 1e-3)
        self._time = time
        if pose[:4] @ self._pose[:4] < 0:  # q and -q are the same rotation
            pose = np.concatenate([-pose[:4], pose[4:]])
        self._follow_speed(face.scale, centre, pose, local, seconds)
        alpha = self._factor(self._pose_speed(), seconds)
        self._centre = self._centre + alpha * (centre - self._centre)
        self._pose = self._pose + alpha * (pose - self._pose)
        self._pose[:4] /= np.linalg.norm(self._pose[:4])
        speed = np.linalg.norm(self._flow, axis=1, keepdims=True)
        alphas = self._factor(speed, seconds)
        self._local = self._local + alphas * (local - self._local)
        self._shape = self._shape + alphas * (face.shape - self._shape)
        return self._put_together(face)

    def _factor(self, speed: Any, seconds: float) -> Any:
        cutoff = self._strength.cutoff + self._strength.slope * speed
        return smoothing_factor(cutoff, seconds)

    def _follow_speed(
        self, scale: float, centre: Array, pose: Array, local: Array, seconds: float
    ) -> None:
        """Low-passed velocities, in face sizes per second."""
        old_centre, old_pose, old_local = self._raw
        if pose[:4] @ old_pose[:4] < 0:
            old_pose = np.concatenate([-old_pose[:4], old_pose[4:]])
        size = float(np.ptp(local[:, :2], axis=0).mean())
        turn = 2 * _TURN * (pose[:4] - old_pose[:4])  # |dq| is half the angle
        growth = 0.5 * (pose[4:] - old_pose[4:])
        shift = (centre - old_centre) / (scale * size)
        share = smoothing_factor(_SPEED_CUTOFF, seconds)
        moved = np.concatenate([shift, turn, growth])
        self._velocity += share * (moved / seconds - self._velocity)
        self._flow += share * ((local - old_local) / (size * seconds) - self._flow)
        self._raw = (centre, pose, local)

    def _pose_speed(self) -> float:
        return float(np.linalg.norm(self._velocity))

    def _put_together(self, face: Face) -> Face:
        rotation = quaternion_to_matrix(self._pose[:4])
        scale = float(np.exp(self._pose[4]))
        turned = scale * self._local @ rotation.T
        shift = self._centre - turned.mean(0)
        vertices = ((turned + shift) * (1, -1, 1)).astype(np.float32)
        return replace(
            face,
            vertices=vertices,
            landmarks=vertices[self._landmarks],
            shape=self._shape.astype(np.float32),
            scale=scale,
            rotation=rotation,
            translation=shift,
        )


def _take_apart(face: Face) -> tuple[Array, Array, Array]:
    """(centre (3,) y up, pose (5,) quaternion and log scale, vertices without pose (V, 3))."""
    up = np.asarray(face.vertices, float) * (1, -1, 1)
    local = (up - face.translation) @ face.rotation / face.scale
    pose = np.append(matrix_to_quaternion(face.rotation), math.log(face.scale))
    return up.mean(0), pose, local
