"""Operations on maps over the UV layout: resize, blur, extrapolate."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]


def resize_map(values: FloatMap, size: int) -> FloatMap:
    """A map (S, S) or (S, S, C) resized, with pixel centres kept in place."""
    if len(values) == size:
        return values
    mode = cv2.INTER_LINEAR if size > len(values) else cv2.INTER_AREA
    out: FloatMap = cv2.resize(
        np.ascontiguousarray(values, np.float32), (size, size), interpolation=mode
    )
    return out


def ramp(values: NDArray[Any], low: Any, high: Any) -> NDArray[Any]:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blur(values: FloatMap, sigma: float) -> FloatMap:
    """Gaussian blur, the edge repeated."""
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def pull_push(colors: FloatMap, weight: FloatMap) -> FloatMap:
    """Weighted colours (H, W, 3) extended smoothly to where the weight is zero, over halved sizes
    (Gortler et al. 1996)."""
    if min(weight.shape) <= 2:
        total = max(float(weight.sum()), 1e-6)
        mean = (colors * weight[..., None]).sum((0, 1)) / total
        if total <= 1e-6:
            mean = np.full(3, 127, np.float32)
        return np.broadcast_to(mean, colors.shape).astype(np.float32)
    sums = _quarter(weight)
    small = _quarter(colors * weight[..., None]) / np.maximum(sums, 1e-6)[..., None]
    coarse = pull_push(small, np.minimum(sums, 1))
    up = cv2.resize(coarse, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
    alpha = np.minimum(weight, 1)[..., None]
    return np.asarray(alpha * colors + (1 - alpha) * up)


def along_rows(values: FloatMap, weight: FloatMap, levels: int) -> FloatMap:
    """Weighted values (H, W, C) extended along the rows, with columns halved ``levels`` times; 0
    where no value is that near."""
    scaled = cv2.multiply(values, cv2.merge([weight] * values.shape[2]))
    return _along_rows(scaled, weight, levels)


def _along_rows(weighted: FloatMap, weight: FloatMap, levels: int) -> FloatMap:
    if levels == 0:
        return weighted
    sums = weight[:, ::2] + weight[:, 1::2]
    small = weighted[:, ::2] + weighted[:, 1::2]
    small /= np.maximum(sums, 1)[..., None]
    coarse = _along_rows(small, np.minimum(sums, 1), levels - 1)
    up = cv2.resize(coarse, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
    up *= (1 - weight)[..., None]
    up += weighted
    return np.asarray(up)


def _quarter(values: NDArray[Any]) -> NDArray[Any]:
    """Sums over squares of 2 x 2."""
    return values[::2, ::2] + values[::2, 1::2] + values[1::2, ::2] + values[1::2, 1::2]
