"""Faces that the border of the photo cuts, as one Markdown table.

    python benchmarks/border.py --data AFLW2000-3D [--photos 80] [--weights mobile]

Photos, evenly spaced in the folder and with |yaw| up to 40 degrees, are cut so that a share of the
width of the landmarks' box remains, of every other one the right part, and processed as by
`sadr reconstruct`. The face nearest to the true one is compared with the yaw of the ``.mat``.
Warned: of the faces that are more than 10 degrees off, those with a warning. Missed: no face there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import script
from numpy.typing import NDArray
from script import head, row
from turned import is_warned, nearest

from sadr_cli import Reconstructor, read_image
from sadr_cli.evaluation.data.aflw2000 import load

BOUND, MOST_YAW = 10.0, 40.0  # degrees
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def part_of(
    image: NDArray[np.uint8], points: NDArray[np.float64], share: float, right: bool
) -> tuple[NDArray[np.uint8], int]:
    """The photo without what is left, or ``right``, of ``share`` of the face with landmarks
    ``points`` (68, 2), and the columns that are missing on the left."""
    if share >= 1:
        return image, 0
    x0, x1 = points[:, 0].min(), points[:, 0].max()
    if right:
        return np.ascontiguousarray(image[:, : int(x0 + share * (x1 - x0))]), 0
    first = max(int(x1 - share * (x1 - x0)), 0)
    return np.ascontiguousarray(image[:, first:]), first


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=80)
    parser.add_argument("--weights")
    return script.run(parser, table)


def table(options: argparse.Namespace) -> Iterator[str]:
    truth = load(options.data)
    network = Reconstructor(options.weights)
    chosen = np.linspace(0, len(truth) - 1, min(options.photos, len(truth))).astype(int)
    chosen = chosen[np.abs(truth.angles[chosen, 0]) <= MOST_YAW]
    yield from head("of the width", "photos", "median yaw error", "above 10", "warned", "missed")
    for share in SHARES:
        off, warned = [], []
        for count, k in enumerate(chosen):
            points = truth.landmarks[k, :, :2]
            image, first = part_of(read_image(truth.images[k]), points, share, bool(count % 2))
            face = nearest(network.reconstruct(image), points - (first, 0))
            if face is not None:
                off.append(abs(face.euler[0] - truth.angles[k, 0]))
                warned.append(is_warned(face))
        far = np.array(off) > BOUND
        counts = int(far.sum()), int((far & np.array(warned)).sum()), len(chosen) - len(off)
        yield row(f"{share:.0%}", len(chosen), f"{np.median(off):.1f}", *counts)


if __name__ == "__main__":
    sys.exit(main())
