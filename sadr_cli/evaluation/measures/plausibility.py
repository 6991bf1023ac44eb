"""Predictions in another frame than asked for, found by how much better they fit when read so.

A position map whose y counts upwards, or points left in pixels of a crop, score without any
error: only the figures are absurd.
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

ABSURD_NME, ABSURD_ANGLE = 15.0, 20.0  # median percent and degrees that no method has
BETTER = 1 / 3  # of the error as given: what another reading must stay below to be named,
# and below the limits above as well
SAMPLE = 100  # faces, spread over all

_UPSIDE_DOWN = "upside down: y must count downwards from the top of the picture"
_MIRRORED = "mirrored: x must count from the left of the picture"
_EXCHANGED = "given as y, x instead of x, y"
_OTHER_PIXELS = "in pixels of a crop or of a resized picture: give those of the picture itself"
_Y_DOWN, _CAMERA = np.diag([1.0, -1, 1]), np.diag([1.0, -1, -1])


def doubts(benchmark: Benchmark, predictions: Predictions) -> list[str]:
    """What must be wrong with ``predictions``, a sentence each; none where they are plausible."""
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
                f"the landmarks seem to be {text} (a mean NME of "
                f"{metrics.nme_2d(read, truth).mean():.2f} % when read so, "
                f"{metrics.nme_2d(points, truth).mean():.2f} % as they are)"
            )
    return ""


def _readings(points: Array, truth: Array, sizes: Array) -> Iterator[tuple[str, Array]]:
    """What the points (N, 68, 2) could be, and they themselves when read so; likely ones first."""
    last = sizes[:, None] - 1  # of the rows and columns; NaN where there is no picture
    flips = {_UPSIDE_DOWN: (points * [1, -1], last * [0, 1]),
             _MIRRORED: (points * [-1, 1], last * [1, 0])}  # fmt: skip
    for text, (flipped, shift) in flips.items():
        unknown = truth.mean(1, keepdims=True) - flipped.mean(1, keepdims=True)
        yield text, flipped + np.where(np.isnan(shift), unknown, shift)
    yield _EXCHANGED, points[..., ::-1]
    yield _OTHER_PIXELS, _scaled(points, truth)
    yield f"{_OTHER_PIXELS}, y downwards", _scaled(points * [1, -1], truth)


def _scaled(points: Array, truth: Array) -> Array:
    """Each face with the scale and the shift that fit best."""
    p, g = points - points.mean(1, keepdims=True), truth - truth.mean(1, keepdims=True)
    spread = (p**2).sum((1, 2))
    scale = np.maximum((p * g).sum((1, 2)) / np.where(spread > 0, spread, 1), 0)
    return p * scale[:, None, None] + truth.mean(1, keepdims=True)


def _sizes(benchmark: Benchmark, chosen: NDArray[np.intp]) -> Array:
    """(N, 2) width and height of the pictures, NaN where they are not there."""
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
        "of a camera that looks along z with y down": _CAMERA @ rotation,
    }
    given = float(np.median(geodesic_distance(rotation, true)))
    if given < ABSURD_ANGLE:
        return ""
    errors = {k: float(np.median(geodesic_distance(r, true))) for k, r in readings.items()}
    text = min(errors, key=lambda k: errors[k])
    if errors[text] > min(BETTER * given, ABSURD_ANGLE):
        return ""
    return (
        f"the rotations seem to be {text} (a median geodesic error of {errors[text]:.1f} degrees "
        f"when read so, {given:.1f} as they are)"
    )
