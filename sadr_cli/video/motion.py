"""A track's shapes as few morph targets, found while the frames go by.

The principal components of all shapes, by an incremental SVD: Brand, *Incremental Singular Value
Decomposition of Uncertain Data with Missing Values*, ECCV 2002, section 3. What is kept of a frame
is its weights.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.pose import matrix_to_quaternion
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.writers.animation import Motion, Path, place_of

RANK = 12  # morph targets at most, and one more: half a megabyte each
ERROR_MM = 0.05  # root mean square that they may leave out; fewer are written where it is kept
_SOUND = 1e-6  # squared length, of 1, below which a direction is rounding
_BATCH = 8  # frames taken in at a time
Array = NDArray[np.float32]


class Components:
    """The directions, ``rank`` at most, in which vectors of ``size`` numbers lie.

    basis: (K, size), orthonormal. weights: (N, K) of the N vectors taken in. lost: the sum of the
    squares of all that basis and weights leave out.
    """

    def __init__(self, size: int, rank: int) -> None:
        self._rank = rank
        self.basis: Array = np.zeros((0, size), np.float32)
        self.weights: NDArray[np.float64] = np.zeros((0, 0))
        self.lost = 0.0

    def take_in(self, vectors: Array) -> None:
        """(B, size) further ones."""
        lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
        rows = np.concatenate([self.basis, vectors / lengths[:, None].astype(np.float32)])
        (old, known), new = self.weights.shape, len(vectors)
        weights = np.zeros((old + new, known + new))
        weights[:old, :known] = self.weights
        weights[old:, known:] = np.diag(lengths)
        # The rows are no orthonormal basis yet: ``root`` takes weights in them to weights in one.
        values, sides = np.linalg.eigh((rows @ rows.T).astype(np.float64))
        sound = values > _SOUND
        root = sides[:, sound] * np.sqrt(values[sound])
        turn, lost = principal(weights @ root, self._rank)
        self.lost += lost
        self.weights = weights @ root @ turn
        self.basis = ((root / values[sound]) @ turn).T.astype(np.float32) @ rows


def principal(weights: NDArray[np.float64], rank: int) -> tuple[NDArray[np.float64], float]:
    """(K, R) the R directions, at most ``rank``, that hold most of the rows (N, K), the first one
    most; and the sum of the squares of what the others hold."""
    values, vectors = np.linalg.eigh(weights.T @ weights)
    values = np.maximum(values, 0)
    kept = min(rank, len(values))
    return vectors[:, ::-1][:, :kept], float(values[: len(values) - kept].sum())


class MotionRecorder:
    """Takes the smoothed faces of one track; :meth:`motion` is all of them together."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._rotations: list[NDArray[np.float64]] = []
        self._places: list[NDArray[np.float64]] = []
        self._waiting: list[Array] = []
        self._parts: Components | None = None
        self._first: Array = np.zeros(0, np.float32)

    def see(self, face: Face, seconds: float, size: tuple[int, int]) -> None:
        """The face at ``seconds``, in a frame of ``size`` (height, width)."""
        shape = np.asarray(face.shape, np.float32) * np.float32(MM_PER_UNIT)
        if self._parts is None:
            self._first = shape
            self._parts = Components(shape.size, RANK)
        px_per_mm = face.scale / MM_PER_UNIT
        middle = cv2.mean(shape.reshape(-1, 1, 3))[:3]  # a thirtieth of NumPy's time
        offset = np.asarray(face.rotation, float) @ middle
        center = px_per_mm * offset + face.translation
        self._times.append(seconds)
        self._rotations.append(matrix_to_quaternion(face.rotation))
        self._places.append(place_of(center, offset, px_per_mm, size))
        # Differences from the first face are small, and exact in single precision.
        self._waiting.append((shape - self._first).reshape(-1))
        if len(self._waiting) == _BATCH:
            self._take_in()
        self._size = size

    def motion(
        self, base: Face, seconds: float, to_photo: NDArray[Any], moves: bool = True
    ) -> Motion | None:
        """All frames around the shape of ``base``; None for fewer than two.

        base: the track's mean face, as it stands in the frame at ``seconds``; to_photo: (4, 4)
        takes its shape's millimetres to that frame's pixels. moves: the head does, not only its
        shape.
        """
        count = len(self._times)
        if count < 2 or self._parts is None:
            return None
        if self._waiting:
            self._take_in()
        parts = self._parts
        mean = np.asarray(base.shape, np.float32) * np.float32(MM_PER_UNIT)
        centered = parts.weights - parts.basis @ (mean - self._first).reshape(-1)
        allowed = mean.size // 3 * count * ERROR_MM**2
        turn, lost = principal(centered, RANK)
        held = (centered @ turn) ** 2
        while turn.shape[1] and parts.lost + lost + held[:, -1].sum() <= allowed:
            lost += float(held[:, -1].sum())
            turn, held = turn[:, :-1], held[:, :-1]
        targets, weights = _from_zero_to_one(
            turn.T.astype(np.float32) @ parts.basis, centered @ turn
        )
        rotations, places = np.array(self._rotations), np.array(self._places)
        return Motion(
            times=np.array(self._times),
            base=mean,
            targets=np.ascontiguousarray(targets.reshape(-1, *mean.shape)),
            weights=weights.astype(np.float32),
            path=Path(rotations, places, self._size) if moves else None,
            still=int(np.abs(np.array(self._times) - seconds).argmin()),
            to_photo=np.asarray(to_photo, float),
            error=float(np.sqrt((parts.lost + lost) / (mean.size // 3 * count))),
        )

    def _take_in(self) -> None:
        assert self._parts is not None
        self._parts.take_in(np.stack(self._waiting))
        self._waiting.clear()


def _from_zero_to_one(
    targets: Array, weights: NDArray[np.float64]
) -> tuple[Array, NDArray[np.float64]]:
    """The same sums with weights in [0, 1], beyond which Blender does not go; one target more,
    whose weight is 1, holds what that takes away."""
    if not len(targets):
        return targets, weights
    low, reach = weights.min(0), np.maximum(np.ptp(weights, axis=0), 1e-9)
    rest = low.astype(np.float32) @ targets
    scaled = np.concatenate([rest[None], targets * reach[:, None].astype(np.float32)])
    return scaled, np.c_[np.ones(len(weights)), (weights - low) / reach]
