"""Head pose: rotation matrix <-> Euler angles <-> quaternion.

Conventions
-----------
All functions use the rotation of AFLW2000-3D / 300W-LP (3DDFA): ``R`` takes the shape frame
(x right, y up, z towards the viewer) to the *y-up* image frame, ``p = f R S + t``, and

    R = Rx(pitch) Ry(yaw) Rz(roll)

    Rx = [[1, 0, 0], [0, c, s], [0, -s, c]]
    Ry = [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    Rz = [[c, s, 0], [-s, c, 0], [0, 0, 1]]

so that (zero-based) ``yaw = asin(-R[0, 2])``, ``pitch = atan2(R[1, 2], R[2, 2])`` and
``roll = atan2(R[0, 1], R[0, 0])``. Angles are degrees. Signs, as seen in a photo: **yaw > 0**
turns the face to the image's left (the nose moves towards smaller x), **pitch > 0**
lifts the chin (the nose tip moves up), **roll > 0** turns the head clockwise in the picture.

``asin`` only reaches +-90 degrees of yaw. A face turned further has a second pair of angles
with |yaw| > 90 and pitch and roll near zero; :func:`matrix_to_euler` returns it with
``beyond_profile=True``. Near 90 degrees of yaw neither pair is meaningful: a small turn of the head
can change pitch and roll by any amount.

The same rotation in the intrinsic order y-x-z, as :func:`matrix_to_yxz` gives it,

    R = Ry(yaw) Rx(pitch) Rz(roll)

is stable there: **yaw** within +-180 is the direction of view about the picture's vertical axis,
**pitch** within +-90 its elevation above the horizontal, **roll** the tilt of the head about the
direction of view. Signs are the same, and so are the angles of a face turned about one axis only.
Yaw and roll are undetermined only for a face that looks straight up or down. docs/angles.md shows
both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_GIMBAL = 1e-6


def euler_to_matrix(yaw: ArrayLike, pitch: ArrayLike, roll: ArrayLike) -> Array:
    """Rotation matrices from Euler angles in degrees.

    Arguments broadcast to a shape ``(...)``; returns ``(..., 3, 3)``.
    """
    y, p, r = np.broadcast_arrays(*(np.deg2rad(np.asarray(a, float)) for a in (yaw, pitch, roll)))
    cy, sy, cp, sp, cr, sr = np.cos(y), np.sin(y), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
    m = np.empty((*y.shape, 3, 3))
    m[..., 0, 0], m[..., 0, 1], m[..., 0, 2] = cy * cr, cy * sr, -sy
    m[..., 1, 0] = sp * sy * cr - cp * sr
    m[..., 1, 1] = sp * sy * sr + cp * cr
    m[..., 1, 2] = sp * cy
    m[..., 2, 0] = cp * sy * cr + sp * sr
    m[..., 2, 1] = cp * sy * sr - sp * cr
    m[..., 2, 2] = cp * cy
    return m


def matrix_to_euler(matrix: ArrayLike, *, beyond_profile: bool = False) -> Array:
    """Euler angles ``(..., 3)`` = yaw, pitch, roll in degrees from ``(..., 3, 3)`` rotations.

    By default yaw lies in [-90, 90], as in AFLW2000-3D. With ``beyond_profile``, a face that looks
    away from the viewer (R[2, 2] < 0) gets the equivalent triple ``(180 - yaw, pitch +- 180,
    roll +- 180)`` if that has the smaller |pitch| + |roll|: a face turned beyond the profile then
    has |yaw| > 90. At exactly |yaw| = 90 only pitch +- roll is determined; roll is then zero.
    """
    m = np.asarray(matrix, float)
    sin_yaw = np.clip(-m[..., 0, 2], -1.0, 1.0)
    yaw = np.arcsin(sin_yaw)
    pitch = np.arctan2(m[..., 1, 2], m[..., 2, 2])
    roll = np.arctan2(m[..., 0, 1], m[..., 0, 0])
    locked = np.hypot(m[..., 0, 0], m[..., 0, 1]) < _GIMBAL
    pitch = np.where(locked, np.arctan2(-m[..., 2, 1], m[..., 1, 1]), pitch)
    roll = np.where(locked, 0.0, roll)
    angles = np.rad2deg(np.stack([yaw, pitch, roll], -1))
    if beyond_profile:
        other = wrapped(angles * (-1, 1, 1) + 180)
        away = m[..., 2, 2] < 0
        better = away & (np.abs(other[..., 1:]).sum(-1) < np.abs(angles[..., 1:]).sum(-1))
        angles = np.where(better[..., None], other, angles)
    return angles


def matrix_to_yxz(matrix: ArrayLike) -> Array:
    """Angles ``(..., 3)`` = yaw, pitch, roll in degrees, y-x-z, from ``(..., 3, 3)`` rotations.

    Stable at profiles: yaw in (-180, 180], pitch in [-90, 90], roll in (-180, 180]. At exactly
    |pitch| = 90 only yaw +- roll is determined; roll is then zero.
    """
    m = np.asarray(matrix, float)
    locked = np.hypot(m[..., 1, 0], m[..., 1, 1]) < _GIMBAL
    yaw = np.where(
        locked, np.arctan2(m[..., 2, 0], m[..., 0, 0]), np.arctan2(-m[..., 0, 2], m[..., 2, 2])
    )
    pitch = np.arcsin(np.clip(m[..., 1, 2], -1.0, 1.0))
    roll = np.where(locked, 0.0, np.arctan2(-m[..., 1, 0], m[..., 1, 1]))
    return np.rad2deg(np.stack([yaw, pitch, roll], -1)) + 0.0  # no zero with a minus sign


def matrix_to_quaternion(matrix: ArrayLike) -> Array:
    """Unit quaternions ``(..., 4)`` as (w, x, y, z) with w >= 0 from rotations ``(..., 3, 3)``."""
    m = np.asarray(matrix, float)
    # The principal eigenvector of this symmetric matrix is the quaternion of the nearest rotation
    # (Bar-Itzhack 2000): no case distinctions, no division by small numbers.
    k = np.empty((*m.shape[:-2], 4, 4))  # only its upper triangle is read
    xx, xy, xz = m[..., 0, 0], m[..., 0, 1], m[..., 0, 2]
    yx, yy, yz = m[..., 1, 0], m[..., 1, 1], m[..., 1, 2]
    zx, zy, zz = m[..., 2, 0], m[..., 2, 1], m[..., 2, 2]
    k[..., 0, 0], k[..., 0, 1] = xx + yy + zz, zy - yz
    k[..., 0, 2], k[..., 0, 3] = xz - zx, yx - xy
    k[..., 1, 1], k[..., 1, 2], k[..., 1, 3] = xx - yy - zz, xy + yx, xz + zx
    k[..., 2, 2], k[..., 2, 3] = yy - xx - zz, yz + zy
    k[..., 3, 3] = zz - xx - yy
    q = np.linalg.eigh(k, UPLO="U")[1][..., :, -1]
    return q * np.where(q[..., :1] < 0, -1.0, 1.0)


def quaternion_to_matrix(quaternion: ArrayLike) -> Array:
    """Rotations ``(..., 3, 3)`` from quaternions ``(..., 4)`` (w, x, y, z), normalised first."""
    q = np.asarray(quaternion, float)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def geodesic_distance(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle in degrees between rotations ``(..., 3, 3)``: acos((trace(A' B) - 1) / 2)."""
    trace = np.einsum("...ij,...ij->...", np.asarray(a, float), np.asarray(b, float))
    return np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def in_plane_angle(matrix: ArrayLike) -> Array:
    """In-plane rotation (...) of a face in degrees, clockwise, from ``(..., 3, 3)`` rotations.

    The direction of its vertical axis; unlike roll, it stays meaningful at profiles.
    """
    m = np.asarray(matrix, float)
    return np.rad2deg(np.arctan2(m[..., 0, 1], m[..., 1, 1]))


@lru_cache(maxsize=64)
def turn(angle: float) -> Array:
    """(2, 2) matrix that rotates photo pixels (y down) by ``angle`` degrees, clockwise as seen.

    The upper left part of ``Rz(roll)`` with y down. Quarter turns are exact.
    """
    radians = np.deg2rad(angle)
    c, s = np.round([np.cos(radians), np.sin(radians)], 15)
    out = np.array([[c, -s], [s, c]])
    out.setflags(write=False)  # shared by all callers
    return out


def wrapped(degrees: Any) -> Any:
    """Angles in degrees -> the equivalent angles in (-180, 180]."""
    return 180 - (180 - degrees) % 360


# --- points --------------------------------------------------------------------------------


def without_pose(
    points: ArrayLike, scale: float, rotation: ArrayLike, translation: ArrayLike
) -> Array:
    """Points (K, 3) of a photo, y down, back in the shape frame: S of p = f R S + t (Eq 2)."""
    up = np.asarray(points, float) * (1, -1, 1)
    return np.asarray((up - np.asarray(translation)) @ np.asarray(rotation) / scale)


def similarity(
    source: ArrayLike, target: ArrayLike, *, with_scale: bool = True
) -> tuple[float, Array, Array]:
    """Least-squares scale s, proper rotation R (3, 3) and t (3,): target ~ s R source + t.

    source, target: (P, 3) corresponding points (Umeyama 1991). det R = +1 for any input, so points
    of a y-down frame must not be fitted to points of a y-up frame.
    """
    a, b = np.asarray(source, float), np.asarray(target, float)
    mean_a, mean_b = a.mean(0), b.mean(0)
    ca, cb = a - mean_a, b - mean_b
    u, singular, vt = np.linalg.svd(cb.T @ ca)
    signs = np.array([1.0, 1.0, 1.0 if np.linalg.det(u @ vt) > 0 else -1.0])
    rotation = (u * signs) @ vt
    spread = float((ca**2).sum())
    scale = float((singular * signs).sum()) / spread if with_scale and spread > 0 else 1.0
    return scale, rotation, mean_b - scale * rotation @ mean_a


def transform(points: ArrayLike, scale: float, rotation: Array, translation: Array) -> Array:
    """s R p + t for points (P, 3)."""
    return scale * np.asarray(points, float) @ rotation.T + translation
