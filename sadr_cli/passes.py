"""The second pass: crop again around the landmarks of the first, keep the more confident face.

It costs as much as the first pass, so it is used only where the first crop was far off. On 400
AFLW2000-3D photos, the balanced 2-D NME of the weights ``mobile`` is 2.98 after one pass from the
detector's crop, 2.97 after two for every face, 2.95 with the true crop (``benchmarks/passes.py``).

Faces of low confidence, and those of unknown in-plane rotation, are also tried in other quarter
turns: for 59 of 60 faces rotated by any angle, the right rotation had the highest confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from sadr_cli.crop import UPRIGHT, crop_from_landmarks, turn
from sadr_cli.errors import InputError
from sadr_cli.faces import LOW_CONFIDENCE, Crop, Detection, Face
from sadr_cli.pose import wrapped

Failure = TypeVar("Failure")

# A second crop outside this range, in multiples of the first one's side, is of another face.
_SMALLEST, _LARGEST = 0.4, 2.5
# A first crop is near enough if the second one's side is within this factor of its own, or its
# centre within this share of it, see `far_off`: training includes crops with such deviations.
NEAR_FACTOR, NEAR_SHIFT = 1.2, 0.1
# An upright crop of an upside-down face reached a confidence of 0.83.
UPSIDE_DOWN = 0.85
NEAR_ANGLE = 45.0  # degrees; training includes up to 60


def second_pass(
    faces: Sequence[Face | Failure],
    reconstruct: Callable[[list[int], list[Crop]], Sequence[Face | Failure]],
    unknown: Iterable[int] | None = None,
    shift: float = NEAR_SHIFT,
) -> list[Face | Failure]:
    """Each of ``faces``, or the face of another crop if that is more confident.

    Faces whose crop was far off, see :func:`far_off`, get a second one. Those that still have a low
    confidence are tried in the three other quarter turns.

    faces: results of the first pass. Items that are not a Face are returned unchanged.
    reconstruct: called with indices into ``faces`` and one crop of the same photo for each, with
        repeated indices for several crops (not called without crops); returns the results in
        the same order.
    unknown: indices of faces of unknown in-plane rotation; the others keep theirs. None: all.
    shift: as for :func:`far_off`.
    """

    def nearer_crops(face: Face) -> list[Crop]:
        crop = second_crop(face)
        return [crop] if crop is not None and far_off(face, crop, shift) else []

    unknown = range(len(faces)) if unknown is None else unknown
    nearer = _best_of(faces, range(len(faces)), nearer_crops, reconstruct)
    turned = _best_of(nearer, unknown, _turned_crops, reconstruct)
    changed = [k for k, face in enumerate(turned) if face is not nearer[k]]
    return _best_of(turned, changed, nearer_crops, reconstruct)


def _best_of(
    faces: Sequence[Face | Failure],
    which: Iterable[int],
    crops_of: Callable[[Face], list[Crop]],
    reconstruct: Callable[[list[int], list[Crop]], Sequence[Face | Failure]],
) -> list[Face | Failure]:
    """``faces``, with those of ``which`` replaced by more confident results of other crops."""
    out = list(faces)
    pairs = [(k, out[k]) for k in which]
    tasks = [(k, crop) for k, face in pairs if isinstance(face, Face) for crop in crops_of(face)]
    results = reconstruct([k for k, _ in tasks], [crop for _, crop in tasks]) if tasks else []
    for (k, crop), other in zip(tasks, results, strict=True):
        best = out[k]
        # A confidence that is not a number never wins.
        if isinstance(best, Face) and isinstance(other, Face):
            turned = abs(wrapped(crop.angle - best.crop.angle)) > NEAR_ANGLE
            least = max(best.confidence, LOW_CONFIDENCE) if turned else best.confidence
            out[k] = other if other.confidence >= least else best
    return out


def _turned_crops(face: Face) -> list[Crop]:
    """Crops in other quarter turns, for a face of doubtful in-plane rotation."""
    quarters: tuple[float, ...] = ()
    if face.confidence < LOW_CONFIDENCE:
        quarters = 90.0, 180.0, -90.0
    elif face.confidence < UPSIDE_DOWN and _is_of_unknown_turn(face.detection):
        quarters = (180.0,)
    return [turned_crop(face, quarter) for quarter in quarters]


def _is_of_unknown_turn(detection: Detection | None) -> bool:
    return detection is not None and detection.angle is None and detection.points is None


def turned_crop(face: Face, angle: float) -> Crop:
    """The crop of ``face``, rotated by ``angle`` degrees about the centre of the detector's box:
    the crop of a face with that rotation."""
    crop = face.crop
    center = np.array([crop.center_x, crop.center_y])
    if face.detection is not None:
        middle = np.asarray(face.detection.box, float).reshape(2, 2).mean(0)
        center = middle + turn(angle) @ (center - middle)
    return Crop(float(center[0]), float(center[1]), crop.size, wrapped(crop.angle + angle))


def far_off(face: Face, crop: Crop, shift: float = NEAR_SHIFT) -> bool:
    """Whether the crop of ``face`` differs from ``crop`` enough for a second pass.

    That is if its centre differs by a share ``shift`` of its side, its side by ``NEAR_FACTOR``, or
    both by less, where the root of the summed squares in these units is 1; or its angle by
    ``NEAR_ANGLE``.
    """
    first = face.crop
    away = np.hypot(crop.center_x - first.center_x, crop.center_y - first.center_y) / first.size
    grown = np.log(crop.size / first.size) / np.log(NEAR_FACTOR)
    turned = abs(wrapped(crop.angle - first.angle)) > NEAR_ANGLE
    return bool(np.hypot(away / shift, grown) >= 1 or turned)


def second_crop(face: Face) -> Crop | None:
    """The crop around the landmarks of ``face``; None if they are unusable.

    That is, if they are not finite, have no extent, or the crop is less than 0.4 or more than
    2.5 times as large as the one from which ``face`` was computed. It is rotated like the first
    one, or with the face if that differs by more than 30 degrees.
    """
    angle = face.crop.angle
    roll = face.turn
    if abs(wrapped(roll - angle)) > UPRIGHT:
        angle = roll if abs(roll) > UPRIGHT else 0.0
    try:
        crop = crop_from_landmarks(face.landmarks, angle=angle)
    except InputError:
        return None
    return crop if _SMALLEST < crop.size / face.crop.size < _LARGEST else None
