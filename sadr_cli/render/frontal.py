"""Renderings of a mesh alone from any side, in orthographic projection."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.pixels import from_edge
from sadr_cli.render.overlay import CLAY, shade
from sadr_cli.render.rasterize import covered, vertex_normals

_FINER = 2  # supersampling in each direction
_FILLED = 0.94  # share of the picture's side that the mesh fills
_INSIDE = (0.25, 20.0)  # back sides: this share of their colour, plus some grey


class View:
    """A mesh that can be rendered from any side.

    vertices: (V, 3) x right, y up, z to the viewer, in any unit; triangles: (T, 3)
    counter-clockwise from outside. colors: (V, 3) uint8 sRGB; or uv: (V, 2), v up, and texture:
    (H, W, 3) uint8 sRGB, top row v = 1; without colours it looks like clay. edge: (V,) opacity.
    turns: leave room for any rotation about the vertical axis.
    """

    def __init__(
        self,
        vertices: NDArray[Any],
        triangles: NDArray[Any],
        colors: NDArray[np.uint8] | None = None,
        uv: NDArray[Any] | None = None,
        texture: NDArray[np.uint8] | None = None,
        edge: NDArray[Any] | None = None,
        turns: bool = False,
    ) -> None:
        vertices = np.asarray(vertices, np.float64)
        low, high = vertices.min(0), vertices.max(0)
        self._vertices = vertices - (low + high) / 2
        self._triangles = np.asarray(triangles)
        self._normals = vertex_normals(self._vertices, self._triangles)
        self._colors, self._uv, self._texture = colors, uv, texture
        self._edge = np.ones(len(vertices)) if edge is None else np.asarray(edge, float)
        across = self._vertices[:, [0, 2]] if turns else self._vertices[:, :1]
        reach = max(np.linalg.norm(across, axis=1).max(), np.abs(self._vertices[:, 1]).max())
        self._reach = max(float(reach), 1e-9)

    def render(
        self, side: int, rotation: NDArray[Any] | None = None, light: float = 0.3
    ) -> NDArray[np.uint8]:
        """(side, side, 4) uint8 RGBA of the mesh rotated by ``rotation`` (3, 3).

        light: strength of an added light; the colours already contain that of the photo.
        """
        turn = np.eye(3) if rotation is None else np.asarray(rotation, float)
        size = side * _FINER
        scale = _FILLED * size / (2 * self._reach)
        local = self._vertices @ turn.T * (scale, -scale, scale)
        local[:, :2] += from_edge(size / 2)
        seen = covered(local, self._triangles, size, size)
        corners = self._triangles[seen.triangle].T  # (3, N)
        weights = seen.weights
        normals = np.stack([(weights * n[corners]).sum(0) for n in (self._normals @ turn.T).T], 1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        facing = normals[:, 2] >= 0
        bright = shade(np.where(facing[:, None], normals, -normals) * (1, -1, 1))
        color = self._color(corners, weights, bright, light)
        share, grey = _INSIDE
        color[~facing] = share * color[~facing] + grey
        alpha = (weights * self._edge[corners]).sum(0)
        layer = np.zeros((size * size, 4), np.float32)
        layer[seen.pixels] = np.c_[color * alpha[:, None], alpha]
        layer = cv2.resize(layer.reshape(size, size, 4), (side, side), interpolation=cv2.INTER_AREA)
        out = np.empty((side, side, 4), np.uint8)
        out[..., :3] = np.rint(np.clip(layer[..., :3] / np.maximum(layer[..., 3:], 1e-6), 0, 255))
        out[..., 3] = np.rint(255 * np.clip(layer[..., 3], 0, 1))
        return out

    def _color(
        self, corners: NDArray[Any], weights: NDArray[Any], bright: NDArray[Any], light: float
    ) -> NDArray[np.float32]:
        """(N, 3) in [0, 255]."""
        if self._texture is not None and self._uv is not None:
            u, v = ((weights * c[corners]).sum(0) for c in np.asarray(self._uv, float).T)
            height, width = self._texture.shape[:2]
            color = _sample(self._texture, from_edge(u * width), from_edge((1 - v) * height))
        elif self._colors is not None:
            columns = self._colors.T.astype(np.float32)
            color = np.stack([(weights * c[corners]).sum(0) for c in columns], 1)
        else:
            return (CLAY * bright[:, None]).astype(np.float32)
        lit = 1 + light * (bright + 0.12 - 1)
        return (color * lit[:, None]).clip(0, 255).astype(np.float32)


def on_background(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) of an RGBA picture composited over ``color``."""
    alpha = picture[..., 3:] / np.float32(255)
    ground = np.array(color, np.float32)
    return np.rint(picture[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)


def _sample(texture: NDArray[np.uint8], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 3) bilinear colours at pixels ``x``, ``y``."""
    # remap allows at most 32,767 points per row.
    rows = -(-len(x) // 1024)
    points = np.resize(np.stack([x, y], 1).astype(np.float32), (rows, 1024, 2))
    out = cv2.remap(
        texture, points, None, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return out.reshape(-1, 3)[: len(x)].astype(np.float32)
