"""Faces reconstructed from photos rotated by any angle, as one Markdown table.

    python benchmarks/turned.py --data AFLW2000-3D [--photos 100] [--weights mobile]

Photos, evenly spaced in the folder, are rotated by a random angle from the full circle (the corners
become black) and processed as by `sadr reconstruct`. The face nearest to the true one is judged.
Right: its vertical axis, in the image, is within 10 degrees of the true axis (of the ``.mat``),
rotated with the photo. Of the others, warned: it has a warning other than that of a profile;
missed: no face there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import script
from numpy.typing import NDArray
from script import head, row

from sadr_cli import Face, Reconstructor, read_image
from sadr_cli.crop import turn
from sadr_cli.evaluation.data.aflw2000 import load
from sadr_cli.pose import euler_to_matrix, in_plane_angle, wrapped

BOUND = 10.0  # degrees
OUTCOMES = ("right", "warned", "unwarned", "missed")
QUARTERS = ("up to 45", "45 to 90", "90 to 135", "135 to 180")


def turned(image: NDArray[np.uint8], angle: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The whole photo rotated clockwise by degrees, and the (2, 3) matrix that maps its pixels."""
    height, width = image.shape[:2]
    size = np.ceil(np.abs(turn(angle)) @ (width, height) - 1e-6).astype(int)
    shift = (size - 1) / 2 - turn(angle) @ ((width - 1) / 2, (height - 1) / 2)
    way = np.column_stack([turn(angle), shift])
    return np.asarray(cv2.warpAffine(image, way, (int(size[0]), int(size[1]))), np.uint8), way


def judge(
    image: NDArray[np.uint8], truth: NDArray[np.float64], axis: float, network: Reconstructor
) -> tuple[str, float]:
    """The outcome, one of :data:`OUTCOMES`, and the error in degrees of the face with landmarks
    ``truth`` (68, 2) and its vertical axis at the angle ``axis``."""
    face = nearest(network.reconstruct(image), truth)
    if face is None:
        return "missed", float("nan")
    off = abs(float(wrapped(face.turn - axis)))
    return "right" if off <= BOUND else "warned" if is_warned(face) else "unwarned", off


def nearest(faces: list[Face], truth: NDArray[np.float64]) -> Face | None:
    """The face at the landmarks ``truth`` (68, 2), if there is one."""

    def away(face: Face) -> float:
        return float(np.linalg.norm(face.landmarks[:, :2].mean(0) - truth.mean(0)))

    face = min(faces, key=away, default=None)
    return None if face is None or away(face) > np.ptp(truth, axis=0).max() / 2 else face


def is_warned(face: Face) -> bool:
    return any(not text.startswith("profile") for text in face.warnings)


def table(results: list[tuple[str, float, float]]) -> Iterator[str]:
    """(outcome, degrees off, angle of the photo) of every photo, as Markdown."""
    yield from head("photos turned by", "photos", *OUTCOMES, "median, degrees")
    rows = [(name, [r for r in results if abs(r[2]) // 45 == k]) for k, name in enumerate(QUARTERS)]
    for name, some in [*rows, ("all", results)]:
        counts = (sum(r[0] == outcome for r in some) for outcome in OUTCOMES)
        offs = [r[1] for r in some if r[0] != "missed"]
        yield row(name, len(some), *counts, f"{np.median(offs):.1f}" if offs else "-")


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights")
    return script.run(parser, work)


def work(options: argparse.Namespace) -> Iterator[str]:
    truth = load(options.data)
    network = Reconstructor(options.weights)
    chosen = np.linspace(0, len(truth) - 1, min(options.photos, len(truth))).astype(int)
    angles = np.random.default_rng(options.seed).uniform(-180, 180, len(chosen))
    results = []
    for k, angle in zip(chosen, angles, strict=True):
        image, way = turned(read_image(truth.images[k]), angle)
        points = truth.landmarks[k, :, :2] @ way[:, :2].T + way[:, 2]
        axis = float(in_plane_angle(euler_to_matrix(*truth.angles[k]))) + angle
        outcome, off = judge(image, points, axis, network)
        results.append((outcome, off, angle))
        if outcome != "right":
            print(f"{truth.names[k]} at {angle:.0f}: {outcome}, {off:.0f} off", file=sys.stderr)
    yield from table(results)


if __name__ == "__main__":
    sys.exit(main())
