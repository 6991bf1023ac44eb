"""Overlay pictures: the mesh shaded over its photo, landmarks, contours, pose axes and boxes.

Needs neither GPU nor display. Everything is antialiased: meshes by supersampling or, where the
face is large, by a softened silhouette; lines and points with sub-pixel coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face, FloatArray
from sadr_cli.landmarks import CONTOURS, NOSE_TIP
from sadr_cli.pixels import resized
from sadr_cli.render.face_labels import draw_face_labels
from sadr_cli.render.rasterize import (
    bounds,
    coarse_triangles,
    interpolate,
    nearest_triangles,
    rasterize,
    vertex_normals,
)
from sadr_cli.render.surface import coarse_grid, surface_of
from sadr_cli.uv import UVLayout, without_ears

LAYERS = ("mesh", "contours", "landmarks", "axes", "box", "number", "pose")
MAX_SIDE = 2048  # overlays of larger photos are made at this size

CLAY = np.array([176, 208, 244], np.float32)  # a cool, light clay
OPACITY = 0.66
_LINE = (255, 255, 255)
_POINT = (255, 196, 61)
_SHADOW = (24, 28, 36)
_BOX = (98, 214, 160)
_AXES = ((235, 77, 75), (84, 190, 92), (62, 134, 240))  # x red, y green, z blue
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
_HIDDEN = 0.5  # visibility below which a landmark is drawn hollow, relative to the face's best
_SMALL, _LARGE = 180, 480  # face sizes in pixels: supersampled below, coarser above

# Lights in the image frame (x right, y down, z to the viewer): key, fill; strength.
_LIGHTS = (((-0.45, -0.65, 0.62), 0.78), ((0.75, 0.10, 0.55), 0.28))
_AMBIENT = 0.24


def render_overlay(
    image: NDArray[np.uint8],
    faces: Sequence[Face],
    uv: UVLayout,
    layers: Sequence[str] = LAYERS,
    opacity: float = OPACITY,
    max_side: int | None = MAX_SIDE,
    labels: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """The photo (H, W, 3) uint8 RGB with ``faces`` drawn on it, smaller faces first.

    layers: of :data:`LAYERS`. opacity: of the mesh. max_side: longest side of the result in pixels;
    None keeps the photo's size. labels: name of each face, its number or track, for the layer
    "number". Returns (h, w, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    ratio = 1.0 if max_side is None else min(1.0, max_side / max(height, width))
    if ratio < 1:
        size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
        canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    else:
        canvas = np.ascontiguousarray(image).copy()
    behind_first = sorted(faces, key=lambda f: f.scale)
    if "mesh" in layers:
        for face in behind_first:
            draw_mesh(canvas, _scaled(face.vertices, ratio), uv, opacity)
    for face in behind_first:
        _draw_lines(canvas, face, _scaled(face.shown_landmarks, ratio), ratio, layers)
    draw_face_labels(
        canvas,
        [_scaled(face.landmarks, ratio) for face in faces],
        labels if "number" in layers else (),
        [face.euler_yxz for face in faces] if "pose" in layers else (),
    )
    return canvas


def _draw_lines(
    canvas: NDArray[np.uint8],
    face: Face,
    landmarks: FloatArray,
    ratio: float,
    layers: Sequence[str],
) -> None:
    """Draw the layers above the mesh; ``landmarks`` in pixels of ``canvas``."""
    if not np.isfinite(landmarks).all():
        return
    unit = float(np.sqrt(np.prod(np.maximum(np.ptp(landmarks[:, :2], axis=0), 1))))
    visible = visible_landmarks(face)
    if "box" in layers and face.detection is not None:
        draw_box(canvas, _scaled(np.reshape(face.detection.box, (2, 2)), ratio), unit)
    if "contours" in layers:
        draw_contours(canvas, landmarks, visible, unit)
    if "landmarks" in layers:
        draw_landmarks(canvas, landmarks, visible, unit)
    if "axes" in layers:
        draw_axes(canvas, landmarks, face.rotation, unit)


def visible_landmarks(face: Face) -> NDArray[np.bool_]:
    """(68,) which landmarks count as visible: at least half as visible as the face's best ones."""
    seen = np.asarray(face.landmark_visibility, float)
    visible = seen > _HIDDEN * float(np.percentile(seen, 90)) if seen.any() else seen > 0
    # Points moved to the outline are visible.
    return visible | (face.shown_landmarks != face.landmarks).any(1)


def draw_mesh(
    canvas: NDArray[np.uint8], vertices: FloatArray, uv: UVLayout, opacity: float = OPACITY
) -> None:
    """Blend the softly lit mesh ``vertices`` (V, 3), image frame, into ``canvas`` in place."""
    if not np.isfinite(vertices).all():
        return
    ids, triangles = _coarse(uv)
    draw_surface(canvas, vertices[ids], triangles, edge_opacity(uv)[ids], opacity)


def draw_surface(
    canvas: NDArray[np.uint8],
    vertices: FloatArray,
    triangles: NDArray[np.int32],
    edge: NDArray[np.float32],
    opacity: float = OPACITY,
) -> None:
    """Blend a lit surface into ``canvas``: ``vertices`` (V, 3) in its pixels, ``triangles``
    (T, 3) counter-clockwise from outside with y up, ``edge`` (V,) opacity towards the rim."""
    height, width = canvas.shape[:2]
    if not np.isfinite(vertices).all():
        return
    low, high = reach(vertices)
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, (width, height))
    if x0 >= x1 or y0 >= y1:
        return
    extent = float((high - low).max())
    factor = _factor(extent)
    w, h = max(round((x1 - x0) * factor), 1), max(round((y1 - y0) * factor), 1)
    ratio = np.array([w / (x1 - x0), h / (y1 - y0)])
    local = vertices * np.append(ratio, ratio.mean())
    local[:, :2] = resized(vertices[:, :2] - (x0, y0), ratio)
    triangles = triangles[:, ::-1]
    # Premultiplied: light times opacity, and opacity. Both are zero outside the face.
    light = shade(vertex_normals(vertices, triangles))
    values = np.stack([light * edge, edge], 1).astype(np.float32)
    if len(triangles) * 12 > h * w:  # flat shading suffices for small triangles
        index = nearest_triangles(local, triangles, h, w, cull_backfaces=True)
        table = np.zeros((len(triangles) + 1, 2), np.float32)  # the last row is for -1
        table[:-1] = values[triangles].mean(1)
        layer = table[index]
    else:
        index, weights, _ = rasterize(local, triangles, h, w, cull_backfaces=True)
        layer = interpolate(values, triangles, index, weights)
    if factor <= 1:  # soften the silhouette, in place of supersampling
        layer = cv2.GaussianBlur(layer, (0, 0), 0.6)
    size = (int(x1 - x0), int(y1 - y0))
    mode = cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
    if size != (w, h):
        layer = cv2.resize(layer, size, interpolation=mode)
    _blend(canvas[y0:y1, x0:x1], layer, opacity)


def reach(vertices: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First pixel (x, y) that a surface (V, 3) touches, and the one past the last, with a rim."""
    lowest, highest = bounds(vertices[:, :2])
    return np.floor(lowest).astype(int) - 2, np.ceil(highest).astype(int) + 3


def _blend(part: NDArray[np.uint8], layer: NDArray[np.float32], opacity: float) -> None:
    """``layer`` (h, w, 2), light times opacity and opacity, over ``part`` (h, w, 3) in place."""
    light, alpha = (opacity * plane for plane in cv2.split(layer))
    clear, planes = 1 - alpha, []
    for plane, color in zip(cv2.split(part), CLAY.tolist(), strict=True):
        mixed = plane * clear
        mixed += light * np.float32(color)
        planes.append(cv2.convertScaleAbs(mixed))  # rounded, at most 255
    part[:] = cv2.merge(planes)


def draw_quickly(
    canvas: NDArray[np.uint8],
    face: Face,
    uv: UVLayout,
    origin: FloatArray,
    step: float,
    opacity: float = OPACITY,
) -> None:
    """Blend the face, without its ears, into ``canvas``, a part of its photo.

    For small pictures: uses the coarse surface that is also needed for colours.
    origin: (x, y) of the photo at the canvas's first pixel; step: photo pixels per pixel.
    """
    surface = surface_of(face, uv)
    edge = _small_edge(uv) * np.clip(1 + 8 * surface.normals[:, 2], 0, 1)
    values = (shade(surface.normals) * edge, edge)
    layer = np.dstack([surface.interpolate(v, uv) for v in values])
    scale, start = step * surface.scale, origin * surface.scale + surface.shift
    matrix = np.array([[scale, 0, start[0]], [0, scale, start[1]]])
    size, flags = canvas.shape[1::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    _blend(canvas, np.asarray(cv2.warpAffine(layer, matrix, size, flags=flags)), opacity)


@lru_cache(maxsize=2)
def _small_edge(uv: UVLayout) -> NDArray[np.float32]:
    """(K,) ``edge_opacity`` of the coarse grid's vertices, 0 at the ears, whose rim is jagged."""
    shown = edge_opacity(uv) * uv.from_map(without_ears(uv))
    return np.take(shown, coarse_grid(uv).vertices)


@lru_cache(maxsize=2)
def _coarse(uv: UVLayout) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The vertices used by ``coarse_triangles``, and the triangles as indices into them."""
    ids, triangles = np.unique(coarse_triangles(uv), return_inverse=True)
    return ids, np.asarray(triangles, np.int32).reshape(-1, 3)


def _factor(extent: float) -> float:
    """Relative resolution of a face's layer: higher for small faces, lower for very large ones."""
    return 2.0 if extent < _SMALL else min(1.0, _LARGE / extent)


def draw_landmarks(
    canvas: NDArray[np.uint8], landmarks: FloatArray, visible: NDArray[np.bool_], unit: float
) -> None:
    """Visible landmarks as discs, hidden ones as rings; ``unit``: size of the face in pixels."""
    radius = max(unit * 0.011, 1.2)
    rim = max(0.4 * radius, 0.7)
    points = _drawable(landmarks)
    seen, hidden = points[visible], points[~visible]
    _discs(canvas, seen, 0, radius + rim, _SHADOW, 0.8)
    _discs(canvas, hidden, radius - 0.2 * rim, radius + 1.4 * rim, _SHADOW, 0.7)
    _discs(canvas, seen, 0, radius, _POINT)
    _discs(canvas, hidden, radius, radius + rim, _POINT)


def draw_contours(
    canvas: NDArray[np.uint8], landmarks: FloatArray, visible: NDArray[np.bool_], unit: float
) -> None:
    """The 300-W groups as lines, fainter if either end is hidden."""
    points = _drawable(landmarks)
    thickness = max(round(unit / 220), 1)
    low = np.floor(points.min(0)).astype(int) - 4 - thickness
    high = np.ceil(points.max(0)).astype(int) + 5 + thickness
    x0, y0 = np.clip(low, 0, None)
    part = canvas[y0 : max(high[1], 0), x0 : max(high[0], 0)]
    if part.size == 0:
        return
    ends = np.array(_segments())
    chosen = visible[ends].all(1)
    lines = np.rint((points[ends] - (x0, y0)) * (1 << _SHIFT)).astype(np.int32)
    for seen, strength in ((False, 0.35), (True, 0.85)):
        drawn = part.copy()
        some = list(lines[chosen == seen])
        cv2.polylines(drawn, some, False, _LINE, thickness, cv2.LINE_AA, _SHIFT)
        part[:] = cv2.addWeighted(drawn, strength, part, 1 - strength, 0)


@lru_cache(maxsize=1)
def _segments() -> list[tuple[int, int]]:
    """Start and end landmark of every line segment of the contours."""
    out: list[tuple[int, int]] = []
    for group, closed in CONTOURS:
        chain = range(68)[group]
        out += pairwise(chain)
        out += [(chain[-1], chain[0])] if closed else []
    return out


def draw_axes(
    canvas: NDArray[np.uint8], landmarks: FloatArray, rotation: FloatArray, unit: float
) -> None:
    """The shape frame's axes from the nose tip: x red, y (up) green, z (out of the face) blue."""
    axes = np.asarray(rotation, float).T * (1, -1, 1)  # rows: images of x, y, z; y down
    start = _drawable(landmarks)[NOSE_TIP]
    thickness = max(round(unit / 90), 1)
    order = np.argsort(axes[:, 2])  # axes that point away from the viewer first
    for width, outline in ((thickness + 2, True), (thickness, False)):
        for k in order:
            end = start + 0.42 * unit * axes[k, :2]
            color = _SHADOW if outline else _AXES[k]
            a, b = _fixed(*start), _fixed(*end)
            cv2.line(canvas, a, b, color, width, cv2.LINE_AA, _SHIFT)


def draw_box(canvas: NDArray[np.uint8], corners: FloatArray, unit: float) -> None:
    """The detector's box ``corners`` (2, 2) as four corner marks."""
    (x0, y0), (x1, y1) = np.asarray(corners, float)
    arm = 0.16 * min(x1 - x0, y1 - y0)
    thickness = max(round(unit / 130), 1)
    for width, color in ((thickness + 2, _SHADOW), (thickness, _BOX)):
        for x, dx in ((x0, arm), (x1, -arm)):
            for y, dy in ((y0, arm), (y1, -arm)):
                a, b, c = _fixed(x + dx, y), _fixed(x, y), _fixed(x, y + dy)
                cv2.line(canvas, a, b, color, width, cv2.LINE_AA, _SHIFT)
                cv2.line(canvas, b, c, color, width, cv2.LINE_AA, _SHIFT)


def shade(normals: NDArray[np.float64]) -> NDArray[np.float32]:
    """(V,) brightness: two soft lights, ambient, and a rim light at the silhouette."""
    out = np.full(len(normals), _AMBIENT)
    for direction, strength in _LIGHTS:
        d = np.array(direction) / np.linalg.norm(direction)
        wrapped = np.clip((normals @ d + 0.25) / 1.25, 0, 1)  # slightly beyond the terminator
        out += strength * wrapped
    half = np.array([-0.25, -0.38, 0.89])
    out += 0.16 * np.clip(normals @ half, 0, 1) ** 24
    out += 0.10 * (1 - np.clip(normals[:, 2], 0, 1)) ** 3
    return np.clip(0.94 * out, 0, 255 / CLAY.max()).astype(np.float32)


@lru_cache(maxsize=2)
def edge_opacity(uv: UVLayout) -> NDArray[np.float32]:
    """(V,) 1 inside, fading out at the border of the UV mask, to hide the jagged rim."""
    padded = np.pad(uv.mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    return uv.from_map(np.clip((distance - 1) / 5, 0, 1)).astype(np.float32)


def _scaled(points: Any, ratio: float) -> NDArray[np.float64]:
    """Photo pixels -> pixels of the photo resized by ``ratio``; depths are multiplied by it."""
    out = np.asarray(points, np.float64) * ratio
    out[..., :2] = resized(np.asarray(points, np.float64)[..., :2], ratio)
    return out


def _drawable(landmarks: FloatArray) -> NDArray[np.float64]:
    """x, y of landmarks, clipped to OpenCV's range."""
    return np.clip(np.asarray(landmarks, float)[:, :2], -1e4, 1e5)


def _fixed(x: float, y: float) -> tuple[int, int]:
    a, b = (round(min(max(float(v), -1e6), 1e6) * (1 << _SHIFT)) for v in (x, y))
    return a, b


def _discs(
    canvas: NDArray[np.uint8],
    centers: NDArray[np.float64],
    inner: float,
    outer: float,
    color: tuple[int, int, int],
    opacity: float = 1.0,
) -> None:
    """Discs or rings between two radii around ``centers`` (N, 2), antialiased by their distance
    (OpenCV's small circles are diamonds)."""
    height, width = canvas.shape[:2]
    reach = np.arange(-int(outer) - 1, int(outer) + 3)
    x, y = (np.floor(c).astype(np.int64)[:, None] + reach for c in centers.T)
    from_x, from_y = x - centers[:, :1], y - centers[:, 1:]
    distance = np.hypot(from_x[:, None, :], from_y[:, :, None])
    alpha = np.clip(outer - distance + 0.5, 0, 1) * opacity
    if inner > 0:
        alpha *= np.clip(distance - inner + 0.5, 0, 1)
    inside = ((x >= 0) & (x < width))[:, None, :] & ((y >= 0) & (y < height))[:, :, None]
    some = inside & (alpha > 0)
    places, number = np.unique((y[:, :, None] * width + x[:, None, :])[some], return_inverse=True)
    clear = np.ones(len(places))
    np.multiply.at(clear, number, 1 - alpha[some])
    row, column = np.divmod(places, width)
    mixed = canvas[row, column] * clear[:, None] + np.array(color) * (1 - clear)[:, None]
    canvas[row, column] = np.rint(mixed).astype(np.uint8)
