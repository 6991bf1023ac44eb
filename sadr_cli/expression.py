"""Measures of expression, 0 to 1, from the 68 landmarks of the pose-free face; those of the eyes
from the image, where it is available.

Every measure is a length over the outer-eye distance (eye openings: over the eye's width), mapped
from the range in :data:`CALIBRATION` to 0 to 1 and clipped. Left and right are the person's own, as
in ARKit. docs/expression.md has the definitions and their validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array = NDArray[np.floating[Any]]
_Points = list[list[float]]

# Measure -> (length at 0, at 1), from `benchmarks/expression.py` with the weights `mobile`: 0 is
# the median of 300 faces without expression (UTKFace, LFW), 1 the 98th percentile of 1,300 faces
# of 300-W and AFLW up to 40 degrees of yaw. For eyes, 0 is the 2nd percentile of the latter and 1
# the median of the former.
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
SEEN_EYES = (0.1901, 0.3398)  # the same for eyes measured in the image

_RIGHT_EYE, _LEFT_EYE = range(36, 42), range(42, 48)
_RIGHT_BROW, _LEFT_BROW = range(17, 22), range(22, 27)
_LIP_GAPS = ((61, 67), (62, 66), (63, 65))  # upper and lower edge of the lips' opening
_GRIN = 0.15  # opening of a mouth per width, with the jaw closed
_SEEN, _SMALLEST = 0.5, 5.0  # least visibility, and width in pixels, of an eye that is measured
_CONTRAST, _DARK = 12.0, 0.3  # least contrast in grey values; share of it below which is dark
_PATCH = (48, 32)  # columns and rows of the patch around an eye
_PATCH_MIDDLE = (np.array(_PATCH) - 1) / 2
_MIDDLE = slice(12, 36)  # columns of the patch
_OUTWARDS = 0.5  # weight of the outward displacement of a mouth corner against the upward one


def measure_expression(
    landmarks: ArrayLike, eyes: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The measures of landmarks (68, 3) without pose: y up, any unit, 300-W order.

    eyes: from :func:`eye_lengths`; they replace the openings measured on the landmarks.
    NaN for degenerate landmarks, all at one point.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = {**measure_lengths(landmarks), **(eyes or {})}
    ends = {k: SEEN_EYES if k in (eyes or {}) else CALIBRATION[k] for k in MEASURES}
    shares = {k: (lengths[k] - zero) / (one - zero) for k, (zero, one) in ends.items()}
    return {k: float(min(max(v, 0.0), 1.0)) for k, v in shares.items()}


def measure_lengths(landmarks: ArrayLike) -> dict[str, float]:
    """The unscaled lengths of the measures, over the outer-eye distance; arguments as there."""
    p: _Points = np.asarray(landmarks, float).tolist()  # for so few, faster than arrays
    unit = _apart(p, 36, 45)
    wide = _apart(p, 48, 54) / unit
    gap = sum(_apart(p, *pair) for pair in _LIP_GAPS) / len(_LIP_GAPS) / unit
    corners = (_height(p, 48, 54) - _height(p, 33)) / unit  # below the nose: negative
    return {
        "jawOpen": float(gap - _GRIN * wide),
        "mouthWide": float(wide),
        "mouthSmile": float(corners + _OUTWARDS * wide),
        "eyeOpenLeft": _eye(p, *_LEFT_EYE),
        "eyeOpenRight": _eye(p, *_RIGHT_EYE),
        "browRaiseLeft": float(_brow(p, _LEFT_BROW, _LEFT_EYE) / unit),
        "browRaiseRight": float(_brow(p, _RIGHT_BROW, _RIGHT_EYE) / unit),
    }


def eye_lengths(
    picture: NDArray[np.uint8], landmarks: ArrayLike, visibility: ArrayLike
) -> dict[str, float]:
    """Eye openings measured in ``picture`` (n, n, 3) RGB, as the mesh's eyelids hardly move: the
    height of the dark region of iris and lashes over the eye's width.

    landmarks: (68, 2 or 3) in pixels of the image; visibility: (68,). Dark pixels are, in the red
    channel, below 0.3 of the range from the darkest part of the eye's middle to the skin; the mean
    height of the six highest of 24 columns is used. Eyes that are hidden, too small or without
    contrast are left out.
    """
    points, seen = np.asarray(landmarks, float)[:, :2], np.asarray(visibility, float)
    red = np.ascontiguousarray(picture[..., 0])
    out: dict[str, float] = {}
    for name, eye in (("eyeOpenLeft", _LEFT_EYE), ("eyeOpenRight", _RIGHT_EYE)):
        across = points[eye[3]] - points[eye[0]]
        if seen[list(eye)].mean() < _SEEN or not np.hypot(*across) >= _SMALLEST:
            continue
        patch = _eye_patch(red, points[[eye[0], eye[3]]].mean(0), across)
        middle = patch[:, _MIDDLE]
        low, skin = _quantile(middle, 0.05), _quantile(patch, 0.6)
        if skin - low < _CONTRAST:
            continue
        dark = (middle < low + _DARK * (skin - low)).sum(0)
        out[name] = float(np.sort(dark)[-6:].mean() / len(patch))
    return out


def _quantile(values: _Array, share: float) -> float:
    """The quantile ``share`` of values; ``np.quantile`` takes ten times as long."""
    k = int(share * (values.size - 1))
    return float(np.partition(values.ravel(), k)[k])


def _eye_patch(red: NDArray[np.uint8], center: _Array, across: _Array) -> _Array:
    """(32, 48) upright patch around an eye, whose width equals the patch's height."""
    (x, y), (width, height) = across, _PATCH
    turned = np.array([[x, -y], [y, x]]) / height
    matrix = np.column_stack([turned, center - turned @ _PATCH_MIDDLE])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(
        red, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(patch, float)


def _apart(p: _Points, i: int, j: int) -> np.float64:
    return np.float64(math.dist(p[i], p[j]))


def _height(p: _Points, *which: int) -> float:
    return sum(p[i][1] for i in which) / len(which)


def _eye(p: _Points, outer: int, a: int, b: int, inner: int, c: int, d: int) -> float:
    """Eye aspect ratio (Soukupova and Cech 2016): mean height over width."""
    return float((_apart(p, a, d) + _apart(p, b, c)) / (2 * _apart(p, outer, inner)))


def _brow(p: _Points, brow: range, eye: range) -> float:
    """Height of a brow's points above the corners of its eye."""
    return _height(p, *brow) - _height(p, eye[0], eye[3])
