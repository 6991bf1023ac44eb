"""Colours of the face, sampled from its photo; what the photo does not show is filled in.

A vertex counts as seen where its surface faces the viewer, no other part of the face covers it,
the network's attention says that no other object does, and it lies inside the photo. The rest takes
its colour from the mirrored side of the face where that is seen, adapted to the light on this side,
and otherwise from a smooth continuation. No background is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.pixels import from_edge, image_box, to_edge
from sadr_cli.render.rasterize import bounds, coarse_triangles, rasterize, vertex_normals
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
_DEPTH_SIDE = 128  # pixels of the picture in which the face's self-occlusion is found
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
    colors = sample(image, face.vertices)
    weight = seen_weight(face, uv, image.shape[0], image.shape[1])
    filled = fill_hidden(uv.to_map(colors), uv.to_map(weight), uv)
    return np.clip(np.rint(uv.from_map(filled)), 0, 255).astype(np.uint8)


def sample(
    image: NDArray[np.uint8], vertices: NDArray[Any], across: int = 2 * SIZE
) -> NDArray[np.float32]:
    """(V, 3) bilinear colours of ``image`` at the x, y of ``vertices``, clamped to its edge.

    Where the face is more than ``across`` pixels large, the photo is averaged first: finer
    pixels would only be skipped.
    """
    xy = np.asarray(vertices, np.float64)[:, :2]
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
    vertices = np.asarray(face.vertices, np.float64)
    facing = vertex_normals(vertices, uv.triangles[:, ::-1])[:, 2]
    hidden, inside = _self_occluded(vertices, uv)
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
        level = float(np.percentile(face.visibility[shown], 75))
        if level > 0:  # blurred: attention comes in coarse squares
            weight = weight * _ramp(smooth_over_uv(face.visibility, uv) / level, 0.35, 0.65)
    if weight.max() < 0.5:  # attention leaves nothing: trust the geometry alone
        weight = geometric
    return weight.astype(np.float32)


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
    colors = np.asarray(colors, np.float32)
    size = len(colors)
    if soft is None:
        soft = soften(np.where(uv.mask, weight, 0).astype(np.float32))
    coarse = resize_map(colors, SIZE)
    smooth = resize_map(_blur(_pull_push(coarse, soft), _DETAIL), size)
    # The layout is symmetric: column c mirrors to 255 - c. Its detail on top of this side's light.
    other_weight = soft[:, ::-1]
    fade = resize_map(other_weight * _blur(other_weight, 3.0), size)
    filled = smooth + (colors - smooth)[:, ::-1] * fade[..., None]
    alpha = resize_map(soft, size)[..., None]
    return np.clip(alpha * colors + (1 - alpha) * filled, 0, 255)


def smooth_over_uv(values: NDArray[Any], uv: UVLayout, sigma: float = 3.0) -> NDArray[np.float32]:
    """Values per vertex (V,), blurred over the UV map."""
    spread = _blur(uv.to_map(np.asarray(values, np.float32)), sigma)
    return uv.from_map(spread) / uv.from_map(_blur(uv.mask.astype(np.float32), sigma))


def _self_occluded(
    vertices: NDArray[np.float64], uv: UVLayout
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(V,) where another part of the face lies clearly nearer, or the silhouette a pixel away;
    and (V,) in [0, 1] how far from the silhouette a vertex appears."""
    low, high = bounds(vertices[:, :2])
    extent = float((high - low).max())
    side = int(np.clip(extent, 32, _DEPTH_SIDE))
    scale = (side - 3) / max(extent, 1e-6)
    small = vertices * scale
    small[:, :2] -= low * scale - 1
    depth = rasterize(small, coarse_triangles(uv)[:, ::-1], side, side)[2]
    column, row = np.rint(small[:, :2]).astype(int).clip(0, side - 1).T
    covered = np.isfinite(depth)
    # The farthest depth around the vertex: a steep surface must not hide itself.
    around = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(covered, depth, 1e9), around)
    edge = cv2.erode(covered.astype(np.uint8), around) == 0
    behind = small[:, 2] < nearest[row, column] - _DEPTH_SLACK * side
    distance = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, 3) / side
    return behind | edge[row, column], _ramp(distance[row, column], *_INSIDE)


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
