"""The 68 landmarks in 300-W order, counted from 0: jaw 0-16 (image left to right), brows 17-26,
nose 27-35, eyes 36-47, mouth 48-67."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

JAW, INNER = slice(0, 17), slice(17, 68)
LEFT_OUTER_EYE, RIGHT_OUTER_EYE, NOSE_BRIDGE, NOSE_TIP, LOWER_LIP = 36, 45, 28, 30, 57
MOUTH_CORNERS = (48, 54)
EYES = (slice(36, 42), slice(42, 48))
# Lines to draw along the landmarks, and whether they are closed.
CONTOURS = (
    (slice(0, 17), False),
    (slice(17, 22), False),
    (slice(22, 27), False),
    (slice(27, 31), False),
    (slice(31, 36), False),
    (slice(36, 42), True),
    (slice(42, 48), True),
    (slice(48, 60), True),
    (slice(60, 68), True),
)
# Landmark k of a face is landmark MIRROR_68[k] of its mirror image.
# fmt: off
MIRROR_68 = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on


def five_points(landmarks: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(5, 2) eyes, nose tip and mouth corners of ``landmarks`` (68, 2 or 3), as detectors give
    them."""
    xy = np.asarray(landmarks, float)[:, :2]
    return np.array([*(xy[eye].mean(0) for eye in EYES), xy[NOSE_TIP], *xy[list(MOUTH_CORNERS)]])
