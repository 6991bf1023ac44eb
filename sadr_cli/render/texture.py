"""Colours of the face, sampled from its photo; what the photo does not show is filled in.

A vertex counts as seen where its surface faces the viewer, no other part of the face covers it,
the network's attention says that no other object does, and it lies inside the photo. The rest takes
its colour from the mirrored side of the face where that is seen, adapted to the light on this side,
and otherwise from a smooth continuation. No background is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.pixels import from_edge, image_box, to_edge
from sadr_cli.render.rasterize import bounds
from sadr_cli.render.surface import STEP, Surface, coarse_grid, remembered, surface_of
from sadr_cli.uv import SIZE, UVLayout, extend_map

TEXTURE_SIZE = 512
MIN_TEXTURE, MAX_TEXTURE = 64, 8192
_FACING = (0.2, 0.55)  # z of the normal: hidden below, fully seen above
_FACING_INSIDE = (
    0.02,
    0.2,
)  # the same far from the silhouette and the background
_INSIDE = (0.04, 0.09)  # of the face's size: distances from the silhouette
_DETAIL = 16.0  # pixels of the UV map: finer detail is mirrored, coarser is this side's light
_LIGHT_SIDE = 64  # pixels of the UV map in which light without detail is kept
_DEPTH_SLACK = 0.02  # of the face's size: nearer than this is the surface itself


@dataclass(frozen=True, eq=False)
class Texture:
    """A face's colours over its UV map.

    pixels: (N, N, 3) uint8 sRGB, top row v = 1; continued smoothly beyond the face.
    real: (N, N) float32 in [0, 1], the share of each texel that the photo itself gave; 0 where
        it is mirrored or continued, and beyond the face.
    """

    pixels: NDArray[np.uint8]
    real: NDArray[np.float32]


def bake_texture(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, size: int = TEXTURE_SIZE
) -> Texture:
    """The photo ``image`` (H, W, 3) sampled into a texture of ``size`` x ``size``.

    The light stays as it is in the photo.
    """
    weight = uv.to_map(seen_weight(face, uv, image.shape[0], image.shape[1]))
    colors = sample_map(image, face, uv, size)
    soft = soften(weight)
    filled = fill_hidden(colors, weight, uv, soft)
    real = resize_map(soft, size) * resize_map(uv.mask.astype(np.float32), size)
    return Texture(np.rint(filled).astype(np.uint8), real)


def sample_map(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, size: int
) -> NDArray[np.float32]:
    """(size, size, 3) colours of the photo at the texels, whether they show the face or not."""
    position = extend_map(uv.to_map(np.asarray(face.vertices, np.float32)[:, :2]), uv.mask)
    points = resize_map(position, size).reshape(-1, 2)
    return sample(image, points, 2 * size).reshape(size, size, 3)


def vertex_colors(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> NDArray[np.uint8]:
    """(V, 3) uint8 sRGB per vertex; ``image`` (H, W, 3) is the face's photo."""
    return uv.from_map(color_map(image, face, uv))


def color_map(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> NDArray[np.uint8]:
    """(256, 256, 3) the same at the vertices, continued smoothly beyond the face.

    Kept as long as the face is, for the photo it was last asked for.
    """
    known: list[Any] = remembered(face, "colors", list)
    if not known or known[0] is not image:
        weight = _seen_map(face, uv, *image.shape[:2])
        colors = uv.to_map(sample(image, face.vertices).astype(np.uint8))
        known[:] = image, np.rint(fill_hidden(colors, weight, uv)).astype(np.uint8)
    return known[1]  # type: ignore[no-any-return]


def sample(
    image: NDArray[np.uint8], vertices: NDArray[Any], across: int = 2 * SIZE
) -> NDArray[np.float32]:
    """(V, 3) bilinear colours of ``image`` at the x, y of ``vertices``, clamped to its edge.

    Where the face is more than ``across`` pixels large, the photo is averaged first: finer
    pixels would only be skipped.
    """
    xy = np.asarray(vertices, np.float32)[:, :2]
    lowest, highest = bounds(xy)
    low = np.clip(np.floor(lowest).astype(int) - 2, 0, None)
    high = np.ceil(highest).astype(int) + 3
    part = image[low[1] : high[1], low[0] : high[0]]
    if part.size == 0:
        return np.full((len(xy), 3), 127, np.float32)
    xy = xy - low
    step = float((highest - lowest).max()) / across
    if step > 1:
        size = (max(int(part.shape[1] / step), 1), max(int(part.shape[0] / step), 1))
        ratio = np.array([part.shape[1] / size[0], part.shape[0] / size[1]])
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        xy = from_edge(to_edge(xy) / ratio)
    # remap takes at most 32,767 points per row.
    points = np.resize(xy.astype(np.float32), (-(-len(xy) // 256), 256, 2))
    out = cv2.remap(
        part, points, None, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return out.reshape(-1, 3)[: len(xy)].astype(np.float32)


def seen_weight(face: Face, uv: UVLayout, height: int, width: int) -> NDArray[np.float32]:
    """(V,) in [0, 1]: how well the photo of ``height`` x ``width`` shows each vertex."""
    return uv.from_map(_seen_map(face, uv, height, width))


def _seen_map(face: Face, uv: UVLayout, height: int, width: int) -> NDArray[np.float32]:
    """(256, 256) the same over the UV map, 0 beyond the face.

    Computed at every second row and column: softening takes finer detail away.
    """
    cells, ids = _half_grid(uv)
    vertices = np.take(np.asarray(face.vertices), ids, axis=0).astype(np.float64)
    surface = surface_of(face, uv)
    facing = np.take(_over_half_grid(surface.normals[:, 2], uv), cells)
    hidden, inside = _self_occluded(vertices, surface)
    low, high = (a + (b - a) * inside for a, b in zip(_FACING, _FACING_INSIDE, strict=True))
    geometric = _ramp(facing, low, high)
    weight = geometric * ~hidden
    x, y = vertices[:, 0], vertices[:, 1]
    x0, y0, x1, y1 = image_box(height, width)
    weight = weight * ((x > x0) & (x < x1) & (y > y0) & (y < y1))
    # Attention: relative to the face's better part, as its absolute level differs from face to
    # face; a vertex is distrusted below half of that.
    shown = weight > 0.5
    if shown.any():
        visibility = np.take(np.asarray(face.visibility, np.float32), ids)
        level = float(np.percentile(visibility[shown], 75))
        if level > 0:  # blurred: attention comes in coarse squares
            blurred = np.take(_blur(_half_map(visibility, uv), 1.5), cells) / _half_edge(uv)
            weight = weight * _ramp(blurred / level, 0.35, 0.65)
    if weight.max() < 0.5:  # attention leaves nothing: trust the geometry alone
        weight = geometric
    known = uv.mask[::2, ::2]
    return resize_map(_spread(_half_map(weight, uv), known), SIZE) * uv.mask


def soften(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Seams: a map of weights (256, 256) that fades out inside what is shown, never beyond."""
    return np.minimum(cv2.erode(weight, np.ones((5, 5), np.uint8)), _blur(weight, 2.0))


def fill_hidden(
    colors: NDArray[np.float32],
    weight: NDArray[np.float32],
    uv: UVLayout,
    soft: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Fill a texture (N, N, 3) where ``weight`` (256, 256) is low; float32 in [0, 255].

    soft: ``soften(weight)``, where the caller has it.
    """
    colors, size = np.asarray(colors, np.float32), len(colors)
    if soft is None:
        soft = soften(np.where(uv.mask, weight, 0).astype(np.float32))
    smooth = _continued(colors, soft)
    # The layout is symmetric: column c mirrors to 255 - c. Its detail on top of this side's light.
    other_weight = soft[:, ::-1]
    fade = resize_map(other_weight * _blur(other_weight, 3.0), size)
    alpha = resize_map(soft, size)
    planes = []
    for color, light in zip(cv2.split(colors), cv2.split(resize_map(smooth, size)), strict=True):
        filled = light + (color - light)[:, ::-1] * fade
        planes.append(np.clip(filled + alpha * (color - filled), 0, 255))
    return np.asarray(cv2.merge(planes))


def _continued(colors: NDArray[np.float32], soft: NDArray[np.float32]) -> NDArray[np.float32]:
    """(64, 64, 3) the light of ``colors`` (N, N, 3), without detail, continued to where ``soft``
    (256, 256) is 0."""
    weight = resize_map(soft, len(colors))
    planes = [resize_map(plane * weight, _LIGHT_SIDE) for plane in cv2.split(colors)]
    share = resize_map(soft, _LIGHT_SIDE)
    known: Any = np.stack(planes, -1) / np.maximum(share, 1e-6)[..., None]
    sums = np.minimum(share * (SIZE / _LIGHT_SIDE) ** 2, 1)
    return _blur(_pull_push(known, sums), _DETAIL * _LIGHT_SIDE / SIZE)


def smooth_over_uv(values: NDArray[Any], uv: UVLayout, sigma: float = 3.0) -> NDArray[np.float32]:
    """Values per vertex (V,), blurred over the UV map."""
    spread = _blur(uv.to_map(np.asarray(values, np.float32)), sigma)
    return uv.from_map(spread) / uv.from_map(_blur(uv.mask.astype(np.float32), sigma))


def _self_occluded(
    vertices: NDArray[np.float64], surface: Surface
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(K,) where another part of the face lies clearly nearer, or the silhouette a pixel away;
    and (K,) in [0, 1] how far from the silhouette a vertex appears."""
    side = surface.side
    small = vertices[:, :2] * surface.scale + surface.shift
    column, row = np.rint(small).astype(np.intp).clip(0, side - 1).T
    covered = surface.picture(np.ones(1)).astype(np.uint8)
    # The farthest depth around the vertex: a steep surface must not hide itself.
    around = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(surface.picture(surface.seen.depth, fill=1e9), around)
    edge = cv2.erode(covered, around) == 0
    place = row * side + column
    behind = vertices[:, 2] * surface.scale < np.take(nearest, place) - _DEPTH_SLACK * side
    distance = np.take(cv2.distanceTransform(covered, cv2.DIST_L2, 3), place) / side
    return behind | np.take(edge, place), _ramp(distance, *_INSIDE)


@lru_cache(maxsize=2)
def _half_grid(uv: UVLayout) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every second row and column of the layout: (K,) cells of the flattened (128, 128) map that
    are face, and the vertex at each."""
    index = uv.index_map[::2, ::2].reshape(-1)
    cells = np.flatnonzero(index >= 0)
    return cells, index[cells].astype(np.intp)


def _half_map(values: NDArray[Any], uv: UVLayout) -> NDArray[np.float32]:
    """(128, 128) of values (K,) of the half grid, 0 beyond the face."""
    out = np.zeros((SIZE // 2) ** 2, np.float32)
    out[_half_grid(uv)[0]] = values
    return out.reshape(SIZE // 2, SIZE // 2)


@lru_cache(maxsize=2)
def _half_edge(uv: UVLayout) -> NDArray[np.float32]:
    """(K,) what a blur of ``_half_map`` leaves of a constant near the face's edge."""
    cells, _ = _half_grid(uv)
    return np.take(_blur(_half_map(np.ones(len(cells)), uv), 1.5), cells)


def _over_half_grid(values: NDArray[Any], uv: UVLayout) -> NDArray[np.float32]:
    """(128, 128) of values (K,) of the coarse grid, continued a little beyond the face."""
    side = SIZE // STEP
    coarse, known = np.full(side**2, -1, np.float32), np.zeros(side**2, bool)
    cells = coarse_grid(uv).cells
    coarse[cells], known[cells] = values, True
    spread = _spread(coarse.reshape(side, side), known.reshape(side, side))
    return resize_map(spread, SIZE // 2)


def _spread(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A map continued by a pixel to where it is not ``known``, so that resizing keeps its edge."""
    return np.where(known, values, cv2.dilate(values, np.ones((3, 3), np.uint8)))


def resize_map(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A map (S, S) or (S, S, C) at another size, pixel centres kept in place."""
    if len(values) == size:
        return values
    mode = cv2.INTER_LINEAR if size > len(values) else cv2.INTER_AREA
    out: NDArray[np.float32] = cv2.resize(
        np.ascontiguousarray(values, np.float32), (size, size), interpolation=mode
    )
    return out


def _ramp(values: NDArray[Any], low: Any, high: Any) -> NDArray[Any]:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _pull_push(colors: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted colours continued smoothly to where there is no weight, over halved sizes."""
    if min(weight.shape) <= 2:
        total = max(float(weight.sum()), 1e-6)
        mean = (colors * weight[..., None]).sum((0, 1)) / total
        if total <= 1e-6:
            mean = np.full(3, 127, np.float32)
        return np.broadcast_to(mean, colors.shape).astype(np.float32)
    sums = _quarter(weight)
    small = _quarter(colors * weight[..., None]) / np.maximum(sums, 1e-6)[..., None]
    coarse = _pull_push(small, np.minimum(sums, 1))
    up = cv2.resize(coarse, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
    alpha = np.minimum(weight, 1)[..., None]
    return alpha * colors + (1 - alpha) * up


def _quarter(values: NDArray[Any]) -> NDArray[Any]:
    """Sums over squares of 2 x 2."""
    return values[::2, ::2] + values[::2, 1::2] + values[1::2, ::2] + values[1::2, 1::2]
