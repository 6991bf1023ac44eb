"""Overlays per second: one face, all layers, on one core, by size of the image and of the face.

    python benchmarks/overlay.py [--weights mobile]

CPU time is measured, which other work on the machine does not affect. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import script
from script import head, row

from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.model.checkpoint import find_weights, load_layout
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.overlay import render_overlay
from sadr_cli.uv import UVLayout

SIZES = ((640, 480, 150), (1280, 720, 250), (1920, 1080, 400), (1920, 1080, 900))


def posed(uv: UVLayout, width: int, height: int, size: float) -> Face:
    """The mean face, ``size`` pixels between its outermost landmarks, centred in the image."""
    shape = np.asarray(uv.mean_shape, float)
    rotation = euler_to_matrix(25, -5, 8)
    marks = (shape @ rotation.T)[uv.landmark_indices]
    scale = size / float(np.ptp(marks[:, :2], axis=0).max())
    translation = np.array([width / 2, -height / 2, 0]) - scale * marks.mean(0)
    vertices = (scale * shape @ rotation.T + translation) * (1, -1, 1)
    points = vertices[uv.landmark_indices]
    seen = np.ones(68)
    box = np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])
    face = Face(
        vertices, points, shape, np.ones(len(shape)), seen, seen, np.ones((8, 8)), scale,
        rotation, translation, vertices, Crop(width / 2, height / 2, size), Detection(box),
    )  # fmt: skip
    return replace(face, landmark_visibility=(np.arange(68) > 5).astype(float))


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--weights")
    return script.run(parser, table)


def table(options: argparse.Namespace) -> Iterator[str]:
    cv2.setNumThreads(1)
    uv = load_layout(find_weights(options.weights))
    yield from head("image", "face", "ms", "overlays per second")
    for width, height, size in SIZES:
        image = np.full((height, width, 3), 120, np.uint8)
        face = posed(uv, width, height, size)
        render_overlay(image, [face], uv)
        times = []
        for _ in range(15):
            began = time.process_time()
            render_overlay(image, [face], uv)
            times.append(time.process_time() - began)
        ms = 1e3 * float(np.median(times))
        yield row(f"{width} x {height}", f"{size} px", f"{ms:.1f}", f"{1e3 / ms:.0f}")


if __name__ == "__main__":
    sys.exit(main())
