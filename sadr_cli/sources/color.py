"""Samples of any range and colours of any profile -> 8-bit sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BACKGROUND = (255, 255, 255)  # behind transparent pixels: cut-outs are made for white pages
_DEPTHS = (8, 10, 12, 14, 16)  # bit depths of cameras and scanners
_HDR = 16.0  # times white: larger values are not light in [0, 1]
_ROWS = 256  # converted at a time
_LARGEST_PROFILE = 4 * 1024**2  # bytes
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def full_scale(
    values: NDArray[Any], declared: tuple[float, float] | None = None
) -> tuple[float, float, str | None]:
    """(black, white, note for the user or None) of samples that are not plain bytes.

    declared: lowest and highest value according to the file's tags, used if the samples keep to
    them. Otherwise floating-point samples are light in [0, 1], unless many lie far outside, and
    integers have the smallest of 8, 10, 12, 14 and 16 bits that holds them all. If neither fits,
    the lowest and highest sample are black and white.
    """
    low, high = _extremes(values)
    if declared is not None and declared[0] <= low and high <= declared[1] > declared[0]:
        return (*declared, None)
    real = f"values from {low:g} to {high:g}"
    if values.dtype.kind == "f":
        if low >= -0.1 * high and 1 / _HDR <= high <= _HDR:
            return 0.0, 1.0, None
        if low < -0.1 * high or high < 1 / _HDR:
            return low, high, f"{real}, taken as black and white"
    elif low < 0:
        return low, high, f"{real}, taken as black and white"
    most = float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else np.inf
    if high >= most / 4:
        return 0.0, most, None
    for bits in _DEPTHS:
        if high < 2**bits:
            return 0.0, 2.0**bits - 1, f"{real}, taken as {bits} bits"
    return min(low, 0.0), high, f"{real}, taken as black and white"


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    """Lowest and highest value; for floating point, without the outermost thousandth."""
    if values.dtype.kind != "f":
        return float(values.min()), float(values.max())
    flat = values.reshape(-1)
    some = flat[:: max(flat.size // 1_000_000, 1)]
    some = np.sort(some[np.isfinite(some)])
    if not some.size:
        return 0.0, 1.0
    return float(some[some.size // 1000]), float(some[-1 - some.size // 1000])


def to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Samples -> uint8: ``low`` becomes 0 and ``high`` 255; NaN counts as ``low``."""
    out = np.empty(values.shape, np.uint8)
    scale = 255 / (high - low) if high > low else 0.0
    for top in range(0, len(values), _ROWS):
        part = (values[top : top + _ROWS].astype(np.float64) - low) * scale
        out[top : top + _ROWS] = np.nan_to_num(part.clip(0, 255)) + 0.5
    return out


def to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Mode RGB, in sRGB, with transparent pixels composited over white."""
    image = _plain(image)
    if image.mode not in ("LA", "RGBA"):
        return _through_profile(image, profile)
    alpha = image.getchannel("A")
    colors = _through_profile(image.convert("L" if image.mode == "LA" else "RGB"), profile)
    white = Image.new("RGB", image.size, BACKGROUND)
    return Image.composite(colors, white, alpha)


def _plain(image: Image.Image) -> Image.Image:
    """One of L, LA, RGB, RGBA, CMYK and LAB."""
    if image.mode in ("La", "RGBa"):  # premultiplied
        return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        return image
    return image.convert("RGB")


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB by the colour profile; a missing or broken profile is ignored."""
    transform = None
    if image.mode == "LAB":
        transform = _transform(b"", "LAB")
    elif profile:
        transform = _transform(bytes(profile), image.mode)
    if transform is not None:
        return transform.apply(image)  # type: ignore[no-any-return]
    return image if image.mode == "RGB" else image.convert("RGB")  # avoids a copy


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """Pixels of ``mode`` -> sRGB; None if that changes nothing or the profile is unusable."""
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow without LittleCMS
        return None
    if len(profile) > _LARGEST_PROFILE:
        return None
    try:
        source: Any = ImageCms.createProfile("LAB")
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if profile and source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError):
        return None
    if mode in ("RGB", "L"):
        ramp = _colors(mode)
        change = np.asarray(transform.apply(ramp), int) - np.asarray(ramp.convert("RGB"), int)
        if np.abs(change).max() <= 2:
            return None
    return transform


def _colors(mode: str) -> Image.Image:
    """Sample pixels from the whole colour space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3))
