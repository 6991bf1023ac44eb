"""Antialiased text on pictures, readable on any background."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

_TEXT: Color = (255, 255, 255)
_SMALLEST, _LARGEST = 11, 44  # pixels of the letters


def label_size(unit: float) -> int:
    """Text size in pixels for an object of ``unit`` pixels."""
    return int(np.clip(round(0.16 * unit), _SMALLEST, _LARGEST))


def label_extent(text: str, size: int) -> tuple[int, int]:
    """Width and height in pixels of a label drawn by :func:`draw_label`."""
    height, width = _plate(text, size, (0, 0, 0))[0].shape[:2]
    return width, height


def draw_label(
    canvas: NDArray[np.uint8], text: str, corner: tuple[float, float], size: int, color: Color
) -> None:
    """Draw ``text`` on a rectangle of ``color`` with the lower left ``corner`` into ``canvas``
    (H, W, 3) RGB in place, moved inside the picture if necessary."""
    patch, alpha = _plate(text, size, color)
    height, width = patch.shape[:2]
    rows, columns = canvas.shape[:2]
    x = int(np.clip(round(corner[0]), 0, max(columns - width, 0)))
    y = int(np.clip(round(corner[1]) - height, 0, max(rows - height, 0)))
    part = canvas[y : y + height, x : x + width]
    patch, alpha = patch[: part.shape[0], : part.shape[1]], alpha[: part.shape[0], : part.shape[1]]
    blended = part * (1 - alpha) + patch * alpha
    part[:] = np.rint(blended).astype(np.uint8)


@lru_cache(maxsize=256)
def _plate(text: str, size: int, color: Color) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(h, w, 3) RGB and (h, w, 1) opacity."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox("0" + text)  # same height for any text
    left, _, right, _ = font.getbbox(text)
    margin = max(2, size // 4)
    shape = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    opacity = Image.new("L", shape, 0)
    ImageDraw.Draw(opacity).rounded_rectangle((0, 0, shape[0] - 1, shape[1] - 1), margin, fill=225)
    plate = Image.new("RGB", shape, color)
    place = (margin - left, margin - top)
    ImageDraw.Draw(plate).text(place, text, fill=_TEXT, font=font)
    ImageDraw.Draw(opacity).text(place, text, fill=255, font=font)
    alpha = np.asarray(opacity, np.float32)[..., None] / np.float32(255)
    return np.asarray(plate), alpha


def shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text`` with an ellipsis in the middle if it is longer than ``width`` pixels."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return shown
