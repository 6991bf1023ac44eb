"""Colours of the face, sampled from its photo where visible and filled in elsewhere.

Visibility: :mod:`sadr_cli.render.seen`; filling in: :mod:`sadr_cli.render.fill`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.render.fill import fill_hidden, soften
from sadr_cli.render.maps import blur, resize_map
from sadr_cli.render.sampling import sample
from sadr_cli.render.seen import seen_map
from sadr_cli.render.surface import remembered_for
from sadr_cli.uv import UVLayout, extend_map

TEXTURE_SIZE = 512
MIN_TEXTURE, MAX_TEXTURE = 64, 8192


@dataclass(frozen=True, eq=False)
class Texture:
    """A face's colours over its UV map.

    pixels: (N, N, 3) uint8 sRGB, top row v = 1; extended smoothly beyond the face.
    real: (N, N) float32 in [0, 1], the share of each texel that comes from the photo; 0 where it is
        filled in, and outside the face.
    """

    pixels: NDArray[np.uint8]
    real: NDArray[np.float32]


def bake_texture(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, size: int = TEXTURE_SIZE
) -> Texture:
    """The photo ``image`` (H, W, 3) sampled into a texture of ``size`` x ``size``.

    The light of the photo is kept.
    """
    colors = sample_map(image, face, uv, size)
    soft = soften(seen_map(image, face, uv))
    filled = fill_hidden(colors, soft, uv)
    real = resize_map(soft, size) * resize_map(uv.mask.astype(np.float32), size)
    return Texture(np.rint(filled).astype(np.uint8), real)


def sample_map(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, size: int
) -> NDArray[np.float32]:
    """(size, size, 3) colours of the photo at the texels, visible or not."""
    position = extend_map(uv.to_map(np.asarray(face.vertices, np.float32)[:, :2]), uv.mask)
    points = resize_map(position, size).reshape(-1, 2)
    return sample(image, points, 2 * size).reshape(size, size, 3)


def vertex_colors(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> NDArray[np.uint8]:
    """(V, 3) uint8 sRGB per vertex; ``image`` (H, W, 3) is the face's photo."""
    return uv.from_map(color_map(image, face, uv))


def color_map(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> NDArray[np.uint8]:
    """(256, 256, 3) colours of the vertices, extended smoothly beyond the face.

    Cached for the lifetime of the face and its last photo.
    """
    return remembered_for(face, image, "colors", lambda: _color_map(image, face, uv))


def _color_map(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> NDArray[np.uint8]:
    soft = soften(seen_map(image, face, uv))
    colors = uv.to_map(sample(image, face.vertices))
    return np.rint(fill_hidden(colors, soft, uv)).astype(np.uint8)


def smooth_over_uv(values: NDArray[Any], uv: UVLayout, sigma: float = 3.0) -> NDArray[np.float32]:
    """Values per vertex (V,), blurred over the UV map."""
    spread = blur(uv.to_map(np.asarray(values, np.float32)), sigma)
    return uv.from_map(spread) / uv.from_map(blur(uv.mask.astype(np.float32), sigma))
