"""Faces cut by the border of a photo: the parts outside are not visible, and there is a warning.

Of 61 faces of AFLW2000-3D, each cut to 80, 70, 60 and 50 % of its width, the yaw of 20 of the 244
results is more than 10 degrees off; all of these have more than ``CUT`` of their landmarks outside
the photo, or another warning (``benchmarks/border.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face, FloatArray
from sadr_cli.pixels import image_box

Other = TypeVar("Other")

CUT = 0.08  # share of the landmarks


def with_border(faces: Sequence[Face | Other], photo: tuple[int, int]) -> list[Face | Other]:
    """``faces`` of a photo (height, width) in pixels, with nothing visible outside it.

    Visibilities become 0 there, ``landmark_confidence`` decreases with them (see ``Face``), and a
    face with more than ``CUT`` of its landmarks outside gets a warning. Items that are not faces
    are returned unchanged.
    """
    return [_seen_in(face, photo) if isinstance(face, Face) else face for face in faces]


def _seen_in(face: Face, photo: tuple[int, int]) -> Face:
    hidden = _outside(face.vertices, photo)
    marks = _outside(face.landmarks, photo)
    if not hidden.any() and not marks.any():
        return face
    seen = np.where(marks, 0, face.landmark_visibility)
    warnings = face.warnings
    if marks.mean() > CUT:
        share = f"{100 * marks.mean():.0f} % of the landmarks lie outside the photo"
        warnings = (*warnings, f"cut by the border: {share}, and the pose may be wrong")
    return replace(
        face,
        visibility=np.where(hidden, 0, face.visibility),
        landmark_visibility=seen,
        landmark_confidence=face.landmark_confidence
        * ((0.5 + 0.5 * seen) / (0.5 + 0.5 * face.landmark_visibility)),
        warnings=warnings,
    )


def _outside(points: FloatArray, photo: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) whether ``points`` (N, 3) in pixels lie beyond the edges of the photo."""
    x0, y0, x1, y1 = image_box(*photo)
    x, y = points[:, 0], points[:, 1]
    if x0 <= x.min() and x.max() <= x1 and y0 <= y.min() and y.max() <= y1:  # faster
        return np.zeros(len(points), bool)
    return np.asarray((x < x0) | (x > x1) | (y < y0) | (y > y1))
