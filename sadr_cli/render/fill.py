"""Filling in colours where the photo does not show the face.

Light and detail are filled in separately. Light, the colours without detail finer than
``_DETAIL``, is extended smoothly. Detail comes from the mirrored side of the face; around the
middle, of which a profile shows neither side, from left and right along the rows of the UV map; and
elsewhere from properties that all faces share: hollows are darker, lips are redder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from sadr_cli.render.hollows import hollows
from sadr_cli.render.maps import FloatMap, along_rows, blur, pull_push, ramp, resize_map
from sadr_cli.uv import SIZE, UVLayout

_DETAIL = 16.0  # pixels of the UV map: finer detail is mirrored, coarser is this side's light
_LIGHT_SIDE = 64  # pixels of the UV map in which light without detail is kept
_SIDE = 128  # pixels of the UV map for detail in the middle
_PART = np.s_[36:100, 32:96]  # of those, the rows and columns with nose, mouth and chin
_GAP = 4  # 2^4 of them: as wide a gap in the middle is closed along the rows
_BELOW, _ABOVE = (36.0, 44.0), (88.0, 99.0)  # rows: gaps are closed between eyes and chin
_MIDDLE = (20.0, 30.0)  # columns from the middle: and as near to it
_DEPTH = 3.5  # millimetres at which a hollow is dark
_LIPS = (0.95, 0.78, 0.80)  # of the skin's sRGB around them


def soften(weight: FloatMap) -> FloatMap:
    """Weights (256, 256) that fade out towards the border of the visible part, to hide seams."""
    return np.minimum(cv2.erode(weight, np.ones((5, 5), np.uint8)), blur(weight, 2.0))


def fill_hidden(colors: FloatMap, soft: FloatMap, uv: UVLayout) -> FloatMap:
    """Fill in a texture (N, N, 3) in [0, 255] where ``soft`` (256, 256), see above, is low."""
    size = len(colors)
    alpha = resize_map(soft, size)
    # Plane by plane, which is several times faster in NumPy.
    planes = [np.asarray(plane) for plane in cv2.split(colors)]
    light = _light(planes, alpha)
    # The layout is symmetric: column c mirrors to 255 - c.
    across: FloatMap = np.ascontiguousarray(soft[:, ::-1])
    fade = across * blur(across, 3.0)
    middle = _middle(planes, light, soft, fade, uv)
    fade = resize_map(fade, size)
    for plane, coarse, missing in zip(planes, light, middle, strict=True):
        smooth = resize_map(coarse, size)
        filled = (plane - smooth)[:, ::-1] * fade
        filled += smooth
        filled += resize_map(missing, size)
        plane -= filled
        plane *= alpha
        plane += filled
        np.clip(plane, 0, 255, out=plane)
    return np.asarray(cv2.merge(planes))


def _light(planes: Sequence[FloatMap], alpha: FloatMap) -> list[FloatMap]:
    """Three maps (64, 64): the colours (N, N) without detail, extended to where ``alpha`` (N, N) is
    0."""
    share = resize_map(alpha, _LIGHT_SIDE)
    known = [resize_map(p * alpha, _LIGHT_SIDE) / np.maximum(share, 1e-6) for p in planes]
    sums = np.minimum(share * (SIZE / _LIGHT_SIDE) ** 2, 1)
    smooth = blur(pull_push(np.stack(known, -1), sums), _DETAIL * _LIGHT_SIDE / SIZE)
    return [np.asarray(plane) for plane in cv2.split(smooth)]


def _middle(
    planes: Sequence[FloatMap],
    light: Sequence[FloatMap],
    soft: FloatMap,
    fade: FloatMap,
    uv: UVLayout,
) -> list[FloatMap]:
    """Three maps (128, 128): detail around nose and mouth that is missing in both the photo and its
    mirror image."""
    own, copied = (resize_map(m, _SIDE)[_PART] for m in (soft, (1 - soft) * fade))
    known = np.minimum(own + copied, 1)
    smooth = [resize_map(plane, _SIDE)[_PART] for plane in light]
    found = [np.ones_like(known)]
    for plane, base in zip(planes, smooth, strict=True):
        detail = resize_map(plane, _SIDE)[_PART] - base
        found.append((detail * own + detail[:, ::-1] * copied) / np.maximum(known, 1e-6))
    near = along_rows(np.stack(found, -1), known * _window(), _GAP)
    gap = 1 - resize_map(fade, _SIDE)[_PART]
    dark, lips = (m[_PART] for m in _shared(uv))
    lips = lips * (1 - near[..., 0])
    out = []
    for k, base in enumerate(smooth):
        share = dark * (1 + lips * (_LIPS[k] - 1))
        out.append(np.zeros((_SIDE, _SIDE), np.float32))
        out[k][_PART] = gap * (near[..., k + 1] + base * (share - 1))
    return out


@lru_cache(maxsize=1)
def _window() -> FloatMap:
    """1 where rows contain nose, mouth and chin, 0 at the eyes."""
    rows, columns = (np.arange(part.start, part.stop) for part in _PART)
    apart = np.abs(columns - (_SIDE - 1) / 2)
    inside = ramp(rows, *_BELOW) * (1 - ramp(rows, *_ABOVE))
    return (inside[:, None] * (1 - ramp(apart, *_MIDDLE))).astype(np.float32)


@lru_cache(maxsize=2)
def _shared(uv: UVLayout) -> tuple[FloatMap, FloatMap]:
    """(128, 128) each, common to all faces: the light in hollows, and the lips."""
    dark: FloatMap = np.reciprocal(1 + (hollows(uv) / _DEPTH) ** 2)
    lips = np.zeros((SIZE, SIZE), np.float32)
    outline = uv.kpt[48:60, ::-1].astype(np.int32)
    cv2.fillPoly(lips, [outline[:, None]], 1.0)
    return resize_map(dark, _SIDE), resize_map(blur(lips, 1.5), _SIDE)
