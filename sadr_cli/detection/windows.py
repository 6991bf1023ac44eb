"""The parts of a picture that a network looks at, so that neither memory nor time grow with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MULTIPLE = 32  # pixels: sides of a network's input, which it halves five times
# OpenCV keeps 230 bytes per pixel: large pictures are looked at in strips. Each strip sees so much
# beyond its own rows; larger faces are left to the look before.
STRIP_PIXELS = 1_700_000
STRIP_MARGIN = 96
SIDE = 160  # pixels of a window: one size, for which a network is made ready once
MARGIN = 32  # of its pixels, where faces may be cut
_MOST = 0.5  # of the picture: where windows would cover more it is looked at as a whole


class Window(NamedTuple):
    """rows, columns: what is looked at; own: (x0, y0, x1, y1) where the middles of faces count."""

    rows: slice
    columns: slice
    own: tuple[float, float, float, float]

    def counts(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether ``boxes`` (N, 4) of the picture are this window's to tell."""
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        x0, y0, x1, y1 = self.own
        return np.asarray((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1))


def strips(height: int, width: int) -> list[Window]:
    """The whole picture, from top to bottom."""
    count = -(-height * width // STRIP_PIXELS)
    step = -(-height // (count * MULTIPLE)) * MULTIPLE
    out = []
    for top in range(0, height, step):
        rows = slice(max(top - STRIP_MARGIN, 0), min(top + step + STRIP_MARGIN, height))
        first = -np.inf if top == 0 else top
        last = np.inf if top + step >= height else top + step
        out.append(Window(rows, slice(0, width), (-np.inf, first, np.inf, last)))
    return out


def around(hints: NDArray[np.float64], height: int, width: int) -> list[Window] | None:
    """Windows that show the middles of ``hints`` (N, 4), best first; None where the picture is
    better looked at as a whole."""
    if min(height, width) < SIDE:
        return None
    left = (hints[:, :2] + hints[:, 2:]) / 2
    out: list[Window] = []
    while len(left):
        x, y = (
            int(np.clip(round(float(c - SIDE / 2) / MULTIPLE) * MULTIPLE, 0, size - SIDE))
            for c, size in zip(left[0], (width, height), strict=True)
        )
        edges = (x > 0, y > 0, x + SIDE < width, y + SIDE < height)
        sides = (x, y, x + SIDE, y + SIDE)
        inward = (MARGIN, MARGIN, -MARGIN, -MARGIN)
        far = (-np.inf, -np.inf, np.inf, np.inf)
        own = tuple(
            float(side + shift) if cut else end
            for side, shift, cut, end in zip(sides, inward, edges, far, strict=True)
        )
        window = Window(slice(y, y + SIDE), slice(x, x + SIDE), own)  # type: ignore[arg-type]
        out.append(window)
        if len(out) * SIDE**2 > _MOST * height * width:
            return None
        told = window.counts(np.hstack([left, left]))
        told[0] = True
        left = left[~told]
    return out
