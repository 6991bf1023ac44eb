"""Makes ``overview.jpg``, the picture of the README, from the photos in ``photos/``.

    python examples/make_overview.py

One column per photo: what goes in, what comes out, and the mesh with the photo's colours turned by
35 degrees to either side.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli import Reconstructor
from sadr_cli.faces import Face
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.overlay import render_overlay
from sadr_cli.render.rasterize import interpolate, rasterize, vertex_normals
from sadr_cli.render.texture import vertex_colors
from sadr_cli.uv import UVLayout
from sadr_cli.writers.rim import layout_rim

HERE = Path(__file__).parent
PHOTOS = ("astronaut", "astronaut_occluded", "hopper", "hopper_turned")
TILE, GAP = 240, 6
PAPER = np.array([250, 250, 248], np.uint8)


def around(image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The square of the photo around the face, TILE pixels wide."""
    side = 1.15 * face.crop.size
    x, y = face.crop.center_x - side / 2, face.crop.center_y - side / 2
    matrix = np.array([[TILE / side, 0, -x * TILE / side], [0, TILE / side, -y * TILE / side]])
    return cv2.warpAffine(
        image, matrix, (TILE, TILE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )


def turned(face: Face, colors: NDArray[np.uint8], uv: UVLayout, yaw: float) -> NDArray[np.uint8]:
    """The pose-free shape with its colours from another side, softly lit."""
    points = layout_rim(uv).straighten(face.shape) @ euler_to_matrix(yaw, -8.0, 0.0).T * (1, -1, 1)
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) * (0.86 * TILE / (high - low)[:2].max())
    points[:, :2] += (TILE - 1) / 2
    triangles = uv.triangles[:, ::-1]
    light = 0.72 + 0.32 * np.clip(vertex_normals(points, triangles) @ (-0.35, -0.45, 0.82), 0, 1)
    big = points * 2  # supersampled
    index, weights, _ = rasterize(big, triangles, 2 * TILE, 2 * TILE, cull_backfaces=True)
    values = np.concatenate([colors * light[:, None], np.ones((len(colors), 1))], 1)
    layer = interpolate(values.astype(np.float32), triangles, index, weights)
    layer = cv2.resize(layer, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return np.clip(layer[..., :3] + (1 - layer[..., 3:]) * PAPER, 0, 255).astype(np.uint8)


def main() -> None:
    reconstructor = Reconstructor()
    columns = []
    for name in PHOTOS:
        image = cv2.cvtColor(cv2.imread(str(HERE / "photos" / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
        face = reconstructor.reconstruct(image)[0]
        uv = reconstructor.uv
        overlay = render_overlay(image, [face], uv, layers=("mesh", "landmarks", "axes"))
        colors = vertex_colors(image, face, uv)
        tiles = [around(image, face), around(overlay, face)]
        tiles += [turned(face, colors, uv, yaw) for yaw in (35.0, -35.0)]
        columns.append(np.concatenate([_framed(t) for t in tiles], 0))
    picture = _framed(np.concatenate(columns, 1))
    cv2.imwrite(str(HERE / "overview.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _framed(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    half = GAP // 2
    return cv2.copyMakeBorder(
        tile, half, half, half, half, cv2.BORDER_CONSTANT, value=[int(v) for v in PAPER]
    )


if __name__ == "__main__":
    main()
