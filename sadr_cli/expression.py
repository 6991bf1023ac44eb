"""Named measures of expression, 0 to 1, from the 68 landmarks of the pose-free face.

Every measure is a length in units of the outer-eye distance (eye openings: of the eye's own width),
brought to 0 to 1 between two figures of :data:`CALIBRATION` and cut there. Left and right are the
person's own, as in ARKit. docs/expression.md has the definitions and what they are worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array = NDArray[np.floating[Any]]

# Measure -> (its length at 0, at 1), by `benchmarks/expression.py` with the weights `mobile`: 0 is
# the median of 300 faces without expression (UTKFace, LFW), 1 the 98th percentile of 1,300 faces
# of 300-W and AFLW up to 40 degrees of yaw. Of eyes 0 is their 2nd percentile, 1 that median.
CALIBRATION = {
    "jawOpen": (-0.0382, 0.0502),
    "mouthWide": (0.5890, 0.7430),
    "mouthSmile": (0.0405, 0.1629),
    "eyeOpenLeft": (0.2664, 0.2886),
    "eyeOpenRight": (0.2771, 0.2980),
    "browRaiseLeft": (0.2366, 0.2729),
    "browRaiseRight": (0.2359, 0.2726),
}
MEASURES = tuple(CALIBRATION)

_RIGHT_EYE, _LEFT_EYE = range(36, 42), range(42, 48)
_RIGHT_BROW, _LEFT_BROW = range(17, 22), range(22, 27)
_LIP_GAPS = ((61, 67), (62, 66), (63, 65))  # upper and lower edge of the lips' opening
_GRIN = 0.15  # how far a mouth opens as it widens, the jaw closed
_OUTWARDS = 0.5  # what a corner's way outwards counts beside its way up


def measure_expression(landmarks: ArrayLike) -> dict[str, float]:
    """The measures of landmarks (68, 3) without pose: y up, any unit, 300-W order.

    NaN for landmarks that are no face's: all in one point.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = measure_lengths(landmarks)
    shares = {k: (lengths[k] - zero) / (one - zero) for k, (zero, one) in CALIBRATION.items()}
    return {k: float(np.clip(v, 0.0, 1.0)) for k, v in shares.items()}


def measure_lengths(landmarks: ArrayLike) -> dict[str, float]:
    """The lengths behind the measures, over the outer-eye distance; arguments as there."""
    p = np.asarray(landmarks, float)
    unit = _apart(p, 36, 45)
    wide = _apart(p, 48, 54) / unit
    gap = np.mean([_apart(p, *pair) for pair in _LIP_GAPS]) / unit
    corners = (p[[48, 54], 1].mean() - p[33, 1]) / unit  # below the nose: negative
    return {
        "jawOpen": float(gap - _GRIN * wide),
        "mouthWide": float(wide),
        "mouthSmile": float(corners + _OUTWARDS * wide),
        "eyeOpenLeft": _eye(p, *_LEFT_EYE),
        "eyeOpenRight": _eye(p, *_RIGHT_EYE),
        "browRaiseLeft": float(_brow(p, _LEFT_BROW, _LEFT_EYE) / unit),
        "browRaiseRight": float(_brow(p, _RIGHT_BROW, _RIGHT_EYE) / unit),
    }


def _apart(p: _Array, i: int, j: int) -> np.float64:
    return np.float64(np.linalg.norm(p[i] - p[j]))


def _eye(p: _Array, outer: int, a: int, b: int, inner: int, c: int, d: int) -> float:
    """Eye aspect ratio (Soukupova and Cech 2016): mean height over width."""
    return float((_apart(p, a, d) + _apart(p, b, c)) / (2 * _apart(p, outer, inner)))


def _brow(p: _Array, brow: range, eye: range) -> float:
    """Height of a brow's points over the corners of its eye."""
    corners = p[[eye[0], eye[3]], 1].mean()
    return float(p[list(brow), 1].mean() - corners)
