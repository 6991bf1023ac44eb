"""Detects predictions in a wrong frame: they fit far better when converted to another one.

Points with y up, or in pixels of a crop, raise no error when they are scored; only the figures
are absurd.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError
from sadr_cli.evaluation.data.benchmark import Array, Benchmark, PosedBenchmark, image_size
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import metrics
from sadr_cli.pose import euler_to_matrix, geodesic_distance

ABSURD_NME, ABSURD_ANGLE = 15.0, 20.0  # medians (percent, degrees) that no real method reaches
BETTER = 1 / 3  # a conversion is named if it lowers the error below this share of the given one,
# and below the limits above
SAMPLE = 100  # faces, evenly spread

_UPSIDE_DOWN = "upside down: y must increase downwards from the top of the image"
_MIRRORED = "mirrored: x must increase from the left of the image"
_EXCHANGED = "given as y, x instead of x, y"
_OTHER_PIXELS = "in pixels of a crop or of a resized image: use pixels of the original image"
_Y_DOWN, _CAMERA = np.diag([1.0, -1, 1]), np.diag([1.0, -1, -1])


def doubts(benchmark: Benchmark, predictions: Predictions) -> list[str]:
    """One sentence per suspected error in ``predictions``; none where they are plausible."""
    found = np.flatnonzero(~predictions.missing)
    chosen = found[:: max(len(found) // SAMPLE, 1)]
    if not len(chosen):
        return []
    out = [_points_doubt(benchmark, predictions.landmarks[chosen, :, :2], chosen)]
    if isinstance(benchmark, PosedBenchmark) and predictions.rotation is not None:
        out.append(_rotation_doubt(benchmark.angles[chosen], predictions.rotation[chosen]))
    return [text for text in out if text]


def _points_doubt(benchmark: Benchmark, points: Array, chosen: NDArray[np.intp]) -> str:
    truth = benchmark.landmarks[chosen, :, :2]
    given = _median_nme(points, truth)
    if given < ABSURD_NME:
        return ""
    for text, read in _readings(points, truth, _sizes(benchmark, chosen)):
        error = _median_nme(read, truth)
        if error < min(BETTER * given, ABSURD_NME):
            return (
                f"the landmarks seem to be {text} (mean NME "
                f"{metrics.nme_2d(read, truth).mean():.2f} % if converted, "
                f"{metrics.nme_2d(points, truth).mean():.2f} % as given)"
            )
    return ""


def _readings(points: Array, truth: Array, sizes: Array) -> Iterator[tuple[str, Array]]:
    """Possible errors of points (N, 68, 2), and the points corrected; likely ones first."""
    last = sizes[:, None] - 1  # last column and row; NaN where there is no image
    flips = {_UPSIDE_DOWN: (points * [1, -1], last * [0, 1]),
             _MIRRORED: (points * [-1, 1], last * [1, 0])}  # fmt: skip
    for text, (flipped, shift) in flips.items():
        unknown = truth.mean(1, keepdims=True) - flipped.mean(1, keepdims=True)
        yield text, flipped + np.where(np.isnan(shift), unknown, shift)
    yield _EXCHANGED, points[..., ::-1]
    yield _OTHER_PIXELS, _scaled(points, truth)
    yield f"{_OTHER_PIXELS}, y downwards", _scaled(points * [1, -1], truth)


def _scaled(points: Array, truth: Array) -> Array:
    """Each face with the scale and translation that fit best."""
    p, g = points - points.mean(1, keepdims=True), truth - truth.mean(1, keepdims=True)
    spread = (p**2).sum((1, 2))
    scale = np.maximum((p * g).sum((1, 2)) / np.where(spread > 0, spread, 1), 0)
    return p * scale[:, None, None] + truth.mean(1, keepdims=True)


def _sizes(benchmark: Benchmark, chosen: NDArray[np.intp]) -> Array:
    """(N, 2) width and height of the images, NaN where they are missing."""
    out = np.full((len(chosen), 2), np.nan)
    for row, index in enumerate(chosen):
        path = benchmark.images[index]
        if path is not None:
            try:
                out[row] = image_size(path)[::-1]
            except InputError:
                continue
    return out


def _median_nme(points: Array, truth: Array) -> float:
    return float(np.median(metrics.nme_2d(points, truth)))


def _rotation_doubt(angles: Array, rotation: Array) -> str:
    true = euler_to_matrix(*angles.T)
    readings = {
        "transposed": rotation.swapaxes(-1, -2),
        "of frames with y down": _Y_DOWN @ rotation @ _Y_DOWN,
        "of frames with y down and z away from the viewer": _CAMERA @ rotation @ _CAMERA,
        "of a camera looking along z with y down": _CAMERA @ rotation,
    }
    given = float(np.median(geodesic_distance(rotation, true)))
    if given < ABSURD_ANGLE:
        return ""
    errors = {k: float(np.median(geodesic_distance(r, true))) for k, r in readings.items()}
    text = min(errors, key=lambda k: errors[k])
    if errors[text] > min(BETTER * given, ABSURD_ANGLE):
        return ""
    return (
        f"the rotations seem to be {text} (median geodesic error {errors[text]:.1f} degrees if "
        f"converted, {given:.1f} as given)"
    )
