"""Colours of a photo at points between its pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.pixels import resized
from sadr_cli.render.rasterize import bounds
from sadr_cli.uv import SIZE


def sample(
    image: NDArray[np.uint8], vertices: NDArray[Any], across: int = 2 * SIZE
) -> NDArray[np.float32]:
    """(V, 3) bilinear colours of ``image`` at the x, y of ``vertices``, clamped to its edge.

    If the face is larger than ``across`` pixels, the photo is averaged first, to avoid aliasing.
    """
    xy = np.asarray(vertices, np.float32)[:, :2]
    lowest, highest = bounds(xy)
    low = np.clip(np.floor(lowest).astype(int) - 2, 0, None)
    high = np.ceil(highest).astype(int) + 3
    part = image[low[1] : high[1], low[0] : high[0]]
    if part.size == 0:
        return np.full((len(xy), 3), 127, np.float32)
    x, y = (np.subtract(xy[:, axis], low[axis], dtype=np.float32) for axis in (0, 1))
    step = float((highest - lowest).max()) / across
    if step > 1:
        size = (max(int(part.shape[1] / step), 1), max(int(part.shape[0] / step), 1))
        x = resized(x, size[0] / part.shape[1])
        y = resized(y, size[1] / part.shape[0])
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # remap takes at most 32,767 points per row.
    points = np.zeros((-(-len(xy) // 256), 256, 2), np.float32)
    for axis, values in enumerate((x, y)):
        points.reshape(-1, 2)[: len(xy), axis] = values
    out = cv2.remap(
        part, points, None, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return out.reshape(-1, 3)[: len(xy)].astype(np.float32)
