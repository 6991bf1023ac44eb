"""sRGB and linear light (IEC 61966-2-1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def linear_from_srgb(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB bytes of any shape -> linear light in [0, 1]."""
    c = np.arange(256) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)[colors]


def srgb_from_linear(linear: NDArray[Any]) -> NDArray[np.uint8]:
    """Linear light in [0, 1] -> sRGB bytes."""
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(srgb * 255).astype(np.uint8)
