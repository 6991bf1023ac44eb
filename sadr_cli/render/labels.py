"""Numbers and words on pictures: readable on any background, antialiased."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

_TEXT: Color = (255, 255, 255)
_SMALLEST, _LARGEST = 11, 44  # pixels of the letters


def label_size(unit: float) -> int:
    """Letters in pixels that suit a thing of ``unit`` pixels."""
    return int(np.clip(round(0.16 * unit), _SMALLEST, _LARGEST))


def label_extent(text: str, size: int) -> tuple[int, int]:
    """Width and height in pixels of the plate that :func:`draw_label` makes."""
    height, width = _plate(text, size, (0, 0, 0))[0].shape[:2]
    return width, height


def draw_label(
    canvas: NDArray[np.uint8], text: str, corner: tuple[float, float], size: int, color: Color
) -> None:
    """Write ``text`` on a plate of ``color`` whose lower left is ``corner``, into ``canvas``
    (H, W, 3) RGB in place; moved inside where it would leave the picture."""
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
    left, top, right, bottom = font.getbbox("0" + text)  # of one height, whatever is written
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
    """``text``, its middle left out where it is longer than ``width`` pixels."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return shown
