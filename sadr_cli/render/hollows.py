"""Hollows of the mean face: nostrils, corners of eyes and mouth."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sadr_cli.render.maps import FloatMap, blur, ramp
from sadr_cli.uv import MM_PER_UNIT, UVLayout

_WIDTH = 6.0  # pixels of the UV map: surroundings
_INSIDE = (1.0, 3.0)  # millimetres: a nostril's rim, its inside
_INTO = np.array([0.0, -0.87, 0.5])  # direction to a viewer who looks straight into the nostrils
_OPEN = (0.6, 0.9)  # cosine between that and the view at which they are hidden, fully visible


@lru_cache(maxsize=2)
def hollows(uv: UVLayout) -> FloatMap:
    """(256, 256) depth in millimetres below the smoothed surface of the mean face, at least 0."""
    edge = np.maximum(blur(uv.mask.astype(np.float32), _WIDTH), 1e-6)
    place = uv.to_map(uv.mean_shape * np.float32(MM_PER_UNIT))
    around = blur(place, _WIDTH) / edge[..., None]
    normal = np.cross(np.gradient(around, axis=0), np.gradient(around, axis=1))
    normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-9)
    depth = ((around - place) * normal).sum(2) * uv.mask
    return np.maximum(depth, 0).astype(np.float32)


@lru_cache(maxsize=2)
def _nostrils(uv: UVLayout) -> FloatMap:
    """(256, 256) 1 inside the nostrils, 0 elsewhere."""
    (top, _), (bottom, _) = uv.kpt[30], uv.kpt[33]
    left, right = uv.kpt[31, 1], uv.kpt[35, 1]
    box = np.zeros(uv.mask.shape, np.float32)
    box[top : bottom + 1, left : right + 1] = 1
    return np.asarray(ramp(hollows(uv), *_INSIDE) * box, np.float32)


def nostrils_shown(uv: UVLayout, rotation: NDArray[np.floating]) -> FloatMap:
    """(256, 256) in [0, 1]: 0 inside nostrils that are hidden for a face with ``rotation`` (3, 3);
    the mesh is too coarse to show this."""
    opened = float(ramp(_INTO @ np.asarray(rotation)[2], *_OPEN))
    return 1 - (1 - opened) * _nostrils(uv)
