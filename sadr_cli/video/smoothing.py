"""The One Euro filter on pose and shape of a face, and with them on its mesh and landmarks.

Casiez, Roussel and Vogel, *1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input
in Interactive Systems*, CHI 2012: a first-order low-pass whose cutoff grows with the speed, so
that a face at rest does not tremble and one that moves does not lag behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.pose import matrix_to_quaternion, quaternion_to_matrix

Array = NDArray[np.floating[Any]]
# Meshes are kept as three rows of coordinates, in the single precision that they come in: NumPy
# walks along rows many times faster than down columns.
_FLIP = np.array((1, -1, 1), np.float32)[:, None]  # y up


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


class TrackSmoother:
    """A :class:`FaceSmoother` for every track of a video.

    strength: of ``STRENGTHS``; landmarks: (68,) vertices.
    """

    def __init__(self, strength: str, landmarks: NDArray[np.integer[Any]]) -> None:
        self._strength, self._landmarks = STRENGTHS[strength], landmarks
        self._smoothers: dict[int, FaceSmoother] = {}

    def __call__(self, track: int, face: Face, time: float) -> Face:
        """``face`` of ``track`` smoothed; ``time`` in seconds."""
        if self._strength is None:
            return face
        if track not in self._smoothers:
            self._smoothers[track] = FaceSmoother(self._strength, self._landmarks)
        return self._smoothers[track](face, time)

    def keep(self, alive: Iterable[int]) -> None:
        """Forget all tracks but ``alive``."""
        for track in self._smoothers.keys() - set(alive):
            del self._smoothers[track]


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
        shape = _rows(face.shape)
        if self._time is None:
            self._time, self._centre, self._pose = time, centre, pose
            self._local, self._shape = local.copy(), shape
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
        alphas = self._factor(np.sqrt(np.einsum("kv,kv->v", self._flow, self._flow)), seconds)
        self._local += alphas * (local - self._local)
        self._shape += alphas * (shape - self._shape)
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
        size = float(np.ptp(local[:2], axis=1).mean())
        turn = 2 * _TURN * (pose[:4] - old_pose[:4])  # |dq| is half the angle
        growth = 0.5 * (pose[4:] - old_pose[4:])
        shift = (centre - old_centre) / (scale * size)
        share = smoothing_factor(_SPEED_CUTOFF, seconds)
        moved = np.concatenate([shift, turn, growth])
        self._velocity += share * (moved / seconds - self._velocity)
        flow = (local - old_local) * np.float32(1 / (size * seconds))
        self._flow += np.float32(share) * (flow - self._flow)
        self._raw = (centre, pose, local)

    def _pose_speed(self) -> float:
        return float(np.linalg.norm(self._velocity))

    def _put_together(self, face: Face) -> Face:
        rotation = quaternion_to_matrix(self._pose[:4])
        scale = float(np.exp(self._pose[4]))
        turned = (scale * rotation).astype(np.float32) @ self._local
        shift = self._centre - turned.mean(1, dtype=float)
        turned += shift.astype(np.float32)[:, None]
        vertices = _points(turned * _FLIP)
        return replace(
            face,
            vertices=vertices,
            landmarks=vertices[self._landmarks],
            shape=_points(self._shape),
            scale=scale,
            rotation=rotation,
            translation=shift,
        )


def _take_apart(face: Face) -> tuple[Array, Array, Array]:
    """(centre (3,) y up, pose (5,) quaternion and log scale, vertices without pose (3, V))."""
    up = _rows(face.vertices) * _FLIP
    centre = up.mean(1, dtype=float)
    up -= np.asarray(face.translation, np.float32)[:, None]
    local = (np.asarray(face.rotation).T / face.scale).astype(np.float32) @ up
    pose = np.append(matrix_to_quaternion(face.rotation), math.log(face.scale))
    return centre, pose, local


def _points(rows: Array) -> NDArray[np.float32]:
    """(N, 3) of rows (3, N): a copy, by OpenCV, which takes a tenth of NumPy's time."""
    return np.asarray(cv2.merge(list(rows)), np.float32).reshape(-1, 3)


def _rows(points: Array) -> NDArray[np.float32]:
    """(3, N) of points (N, 3): a copy."""
    return np.array(np.asarray(points).T, np.float32, order="C")
