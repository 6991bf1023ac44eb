"""Visibility of a face's vertices in its photo.

A vertex is visible if its surface faces the viewer, no other part of the face covers it, no other
object does according to the network's attention, and it lies inside the photo.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.pixels import image_box
from sadr_cli.render.hollows import nostrils_shown
from sadr_cli.render.maps import FloatMap, blur, ramp, resize_map
from sadr_cli.render.sampling import sample
from sadr_cli.render.surface import STEP, Surface, coarse_grid, remembered_for, surface_of
from sadr_cli.uv import SIZE, UVLayout

_FACING = (0.2, 0.55)  # z of the normal: hidden below, fully seen above
_FACING_INSIDE = (
    0.02,
    0.2,
)  # the same far from the silhouette and the background
_INSIDE = (0.04, 0.09)  # of the face's size: distances from the silhouette
_COVERED = 0.02  # of what faces the viewer: less is the attention's noise
_HALF_SQUARE = 4.5  # pixels of the half grid: half a square of a 16 x 16 attention, about
_COARSER = 4  # means around a pixel are computed in so much fewer pixels
_NOISE = 8.0  # of colours, of 255
_ISLAND = 0.05  # of the largest part of the face that is seen
_DEPTH_SLACK = 0.02  # of the face's size: nearer than this is the surface itself


def seen_map(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> FloatMap:
    """(256, 256) in [0, 1]: how well the photo ``image`` (H, W, 3) shows the UV map's pixels."""
    return remembered_for(face, image, "seen", lambda: _seen_map(image, face, uv))


def _seen_map(image: NDArray[np.uint8], face: Face, uv: UVLayout) -> FloatMap:
    """Computed at every second row and column, as the result is softened later."""
    cells, ids = _half_grid(uv)
    vertices = np.take(np.asarray(face.vertices), ids, axis=0).astype(np.float64)
    surface = surface_of(face, uv)
    facing = np.take(_over_half_grid(surface.normals[:, 2], uv), cells)
    hidden, inside = _self_occluded(vertices, surface)
    low, high = (a + (b - a) * inside for a, b in zip(_FACING, _FACING_INSIDE, strict=True))
    geometric = ramp(facing, low, high)
    weight = geometric * ~hidden
    x, y = vertices[:, 0], vertices[:, 1]
    x0, y0, x1, y1 = image_box(*image.shape[:2])
    weight = weight * ((x > x0) & (x < x1) & (y > y0) & (y < y1))
    shown = weight > 0.5
    if shown.any():
        visibility = np.take(np.asarray(face.visibility, np.float32), ids)
        weight = weight * _uncovered(image, vertices, visibility, shown, uv)
    if weight.max() < 0.5:  # nothing remains: ignore the attention
        weight = geometric
    weight = _without_islands(_half_map(weight, uv))
    shown_map = resize_map(_spread(weight, uv.mask[::2, ::2]), SIZE) * uv.mask
    return shown_map * nostrils_shown(uv, face.rotation)


def _uncovered(
    image: NDArray[np.uint8],
    vertices: NDArray[np.float64],
    visibility: NDArray[np.float32],
    shown: NDArray[np.bool_],
    uv: UVLayout,
) -> NDArray[np.float32]:
    """(K,) in [0, 1]: whether each vertex of the half grid is free of occluders.

    Relative to the face's better part, as the level of attention varies between faces: below half
    of that, a vertex counts as occluded. As attention is coarse, the photo's colours decide along
    its borders.
    """
    level = float(np.percentile(visibility[shown], 75))
    if level <= 0:
        return np.ones(len(vertices), np.float32)
    cells, _ = _half_grid(uv)
    edge = _half_edge(uv)
    blurred = np.take(blur(_half_map(visibility, uv), 1.5), cells) / edge
    free = ramp(blurred / level, 0.35, 0.65).astype(np.float32)
    if (free[shown] < 0.5).mean() < _COVERED:
        return free
    colors = _half_map(sample(image, vertices, SIZE), uv)
    maps = _by_color(colors, _half_map(free, uv), _half_map(shown, uv))
    return np.take(maps, cells)


def _by_color(colors: FloatMap, free: FloatMap, shown: FloatMap) -> FloatMap:
    """``free`` (S, S), refined along its borders by the photo's ``colors`` (S, S, 3).

    Occluders and face are modelled as Gaussians in colour, with local mean and variance; the prior
    is ``free`` blurred by half a cell of the attention.
    """
    prior = np.clip(_around(free, shown, _HALF_SQUARE), 1e-3, 1 - 1e-3)
    evidence = np.log(prior / (1 - prior))
    for weight, sign in ((free * shown, -1), ((1 - free) * shown, 1)):
        mean = _around(colors, weight, 2 * _HALF_SQUARE)
        distance = ((colors - mean) ** 2).sum(-1)
        variance = _around(distance, weight, 2 * _HALF_SQUARE) / 3 + _NOISE**2
        evidence += sign * (distance / variance + 3 * np.log(variance)) / 2
    doubt = ramp(prior * (1 - prior), 0.03, 0.1)
    posterior = 1 / (1 + np.exp(-np.clip(evidence, -30, 30)))
    decided = (free + doubt * (posterior - free)).astype(np.float32)
    return cv2.erode(decided, np.ones((3, 3), np.uint8))  # edges are blurred in photos


def _around(values: FloatMap, weight: FloatMap, sigma: float) -> FloatMap:
    """The weighted mean of values (S, S) or (S, S, C) around each pixel."""
    size = len(weight)
    shape = (*values.shape[:2], -1)
    weighted = np.concatenate([values.reshape(shape) * weight[..., None], weight[..., None]], -1)
    sums = blur(resize_map(weighted, size // _COARSER), sigma / _COARSER)
    mean: Any = sums[..., :-1] / np.maximum(sums[..., -1:], 1e-6)
    return resize_map(mean, size).reshape(values.shape)


def _without_islands(weight: FloatMap) -> FloatMap:
    """A map without small parts, such as gaps in an occluder: extending them would spread the
    occluder's colour."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((weight > 0.1).astype(np.uint8))
    sizes = stats[:, cv2.CC_STAT_AREA]
    sizes[0] = 0  # what is not seen
    large = (sizes > 0) & (sizes >= _ISLAND * sizes.max())
    around = cv2.dilate(large[labels].astype(np.uint8), np.ones((5, 5), np.uint8))
    return weight * around


def _self_occluded(
    vertices: NDArray[np.float64], surface: Surface
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(K,) whether another part of the face is clearly nearer, or the silhouette within a pixel;
    and (K,) in [0, 1] the distance of each vertex from the silhouette."""
    side = surface.side
    small = vertices[:, :2] * surface.scale + surface.shift
    column, row = np.rint(small).astype(np.intp).clip(0, side - 1).T
    covered = surface.picture(np.ones(1)).astype(np.uint8)
    # The largest depth around the vertex, so that a steep surface does not hide itself.
    around = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(surface.picture(surface.seen.depth, fill=1e9), around)
    edge = cv2.erode(covered, around) == 0
    place = row * side + column
    behind = vertices[:, 2] * surface.scale < np.take(nearest, place) - _DEPTH_SLACK * side
    distance = np.take(cv2.distanceTransform(covered, cv2.DIST_L2, 3), place) / side
    return behind | np.take(edge, place), ramp(distance, *_INSIDE)


@lru_cache(maxsize=2)
def _half_grid(uv: UVLayout) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every second row and column of the layout: (K,) cells of the flattened (128, 128) map that
    are face, and the vertex at each."""
    index = uv.index_map[::2, ::2].reshape(-1)
    cells = np.flatnonzero(index >= 0)
    return cells, index[cells].astype(np.intp)


def _half_map(values: NDArray[Any], uv: UVLayout) -> FloatMap:
    """(128, 128) or (128, 128, C) of values (K,) or (K, C) of the half grid, 0 outside the face."""
    out = np.zeros(((SIZE // 2) ** 2, *values.shape[1:]), np.float32)
    out[_half_grid(uv)[0]] = values
    return out.reshape(SIZE // 2, SIZE // 2, *values.shape[1:])


@lru_cache(maxsize=2)
def _half_edge(uv: UVLayout) -> NDArray[np.float32]:
    """(K,) what a blur of ``_half_map`` leaves of a constant near the face's edge."""
    cells, _ = _half_grid(uv)
    return np.take(blur(_half_map(np.ones(len(cells)), uv), 1.5), cells)


def _over_half_grid(values: NDArray[Any], uv: UVLayout) -> NDArray[np.float32]:
    """(128, 128) of values (K,) of the coarse grid, extended slightly beyond the face."""
    side = SIZE // STEP
    coarse, known = np.full(side**2, -1, np.float32), np.zeros(side**2, bool)
    cells = coarse_grid(uv).cells
    coarse[cells], known[cells] = values, True
    spread = _spread(coarse.reshape(side, side), known.reshape(side, side))
    return resize_map(spread, SIZE // 2)


def _spread(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A map extended by one pixel beyond ``known``, so that resizing keeps its edge."""
    return np.where(known, values, cv2.dilate(values, np.ones((3, 3), np.uint8)))
