"""The second pass: crop again around the landmarks of the first, keep the more confident face.

It costs as much as the first pass, so it is used only where the first crop was far off. On 400
AFLW2000-3D photos, the balanced 2-D NME of the weights ``mobile`` is 2.98 after one pass from the
detector's crop, 2.97 after two for every face, 2.95 with the true crop (``benchmarks/passes.py``).

Faces of low confidence, and those of doubtful in-plane rotation, are also tried in other quarter
turns: for 59 of 60 faces rotated by any angle, the right rotation had the highest confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from sadr_cli.crop import UPRIGHT, crop_from_landmarks, turn
from sadr_cli.errors import InputError
from sadr_cli.faces import LOW_CONFIDENCE, Crop, Face
from sadr_cli.landmarks import five_points
from sadr_cli.pose import wrapped

Failure = TypeVar("Failure")

# A second crop outside this range, in multiples of the first one's side, is of another face.
_SMALLEST, _LARGEST = 0.4, 2.5
# A first crop is near enough if the second one's side is within this factor of its own, or its
# centre within this share of it, see `far_off`: training includes crops with such deviations.
NEAR_FACTOR, NEAR_SHIFT = 1.2, 0.1
_STEPS, _STANDS = 4, 0.25  # most passes after the first; share of these at which it stands
# An upright crop of an upside-down face reached a confidence of 0.83.
UPSIDE_DOWN = 0.85
NEAR_ANGLE = 45.0  # degrees; training includes up to 60
# Mean distance of the detector's points from the landmarks, as a share of the landmarks' box, from
# which a detector may have taken a mouth for the eyes. Of AFLW2000-3D photos rotated by any angle,
# 9 of 100 right results have more, and all those that are upside down have more than 0.1.
_APART = 0.09
_CLOSE = 0.1  # difference of two confidences that does not tell which of two rotations is right
_EITHER_WAY = "doubtful rotation: the face fits nearly as well in another quarter turn"


def second_pass(
    faces: Sequence[Face | Failure],
    reconstruct: Callable[[list[int], list[Crop]], Sequence[Face | Failure]],
    unknown: Iterable[int] | None = None,
    shift: float = NEAR_SHIFT,
) -> list[Face | Failure]:
    """Each of ``faces``, or the face of another crop if that is more confident.

    Faces whose crop was far off, see :func:`far_off`, get a second one, and further ones until it
    stands: a face that the border cuts, of which the detector boxes the visible part, is approached
    in steps. Those that still have a low confidence are tried in the three other quarter turns;
    those below ``UPSIDE_DOWN`` upside down, if the detector's points are unknown or far from the
    landmarks. If that does not decide it, the face gets a warning.

    faces: results of the first pass. Items that are not a Face are returned unchanged.
    reconstruct: called with indices into ``faces`` and one crop of the same photo for each, with
        repeated indices for several crops (not called without crops); returns the results in
        the same order.
    unknown: indices of faces of unknown in-plane rotation; the others keep theirs. None: all.
    shift: as for :func:`far_off`.
    """

    def nearer_crops(face: Face, shift: float = NEAR_SHIFT, share: float = _STANDS) -> list[Crop]:
        crop = second_crop(face)
        return [crop] if crop is not None and far_off(face, crop, shift, share) else []

    def closed_in(before: Sequence[Face | Failure], which: Iterable[int]) -> list[Face | Failure]:
        """Second passes; further ones while the crop moves and the confidence grows."""
        crops: Callable[[Face], list[Crop]] = partial(nearer_crops, shift=shift, share=1.0)
        for _ in range(_STEPS):
            after = _best_of(before, which, crops, reconstruct)
            which = [k for k, pair in enumerate(zip(before, after, strict=True)) if _surer(*pair)]
            before, crops = after, nearer_crops
        return list(before)

    unknown = range(len(faces)) if unknown is None else unknown
    doubtful: set[int] = set()
    nearer = closed_in(faces, range(len(faces)))
    turned = _best_of(nearer, unknown, _turned_crops, reconstruct, doubtful)
    out = closed_in(turned, [k for k, face in enumerate(turned) if face is not nearer[k]])
    for k in doubtful:
        face = out[k]
        if isinstance(face, Face) and _EITHER_WAY not in face.warnings:
            out[k] = replace(face, warnings=(*face.warnings, _EITHER_WAY))
    return out


def _surer(before: Face | Failure, after: Face | Failure) -> bool:
    if not (isinstance(before, Face) and isinstance(after, Face)):
        return False
    return after.confidence > before.confidence


def _best_of(
    faces: Sequence[Face | Failure],
    which: Iterable[int],
    crops_of: Callable[[Face], list[Crop]],
    reconstruct: Callable[[list[int], list[Crop]], Sequence[Face | Failure]],
    close: set[int] | None = None,
) -> list[Face | Failure]:
    """``faces``, with those of ``which`` replaced by more confident results of other crops.

    close: receives the indices of faces that were nearly as confident in another crop.
    """
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
            if close is not None and abs(other.confidence - best.confidence) < _CLOSE:
                close.add(k)
    return out


def _turned_crops(face: Face) -> list[Crop]:
    """Crops in other quarter turns, for a face of doubtful in-plane rotation."""
    quarters: tuple[float, ...] = ()
    if face.confidence < LOW_CONFIDENCE:
        quarters = 90.0, 180.0, -90.0
    elif face.confidence < UPSIDE_DOWN and _is_of_doubtful_turn(face):
        quarters = (180.0,)
    return [turned_crop(face, quarter) for quarter in quarters]


def _is_of_doubtful_turn(face: Face) -> bool:
    detection = face.detection
    if detection is None or detection.angle is not None:
        return False
    if detection.points is None:
        return True
    apart = np.linalg.norm(five_points(face.landmarks) - detection.points, axis=1).mean()
    x0, y0, x1, y1 = face.box
    return bool(apart > _APART * np.sqrt((x1 - x0) * (y1 - y0)))


def turned_crop(face: Face, angle: float) -> Crop:
    """The crop of ``face``, rotated by ``angle`` degrees about the centre of the detector's box:
    the crop of a face with that rotation."""
    crop = face.crop
    center = np.array([crop.center_x, crop.center_y])
    if face.detection is not None:
        middle = np.asarray(face.detection.box, float).reshape(2, 2).mean(0)
        center = middle + turn(angle) @ (center - middle)
    return Crop(float(center[0]), float(center[1]), crop.size, wrapped(crop.angle + angle))


def far_off(face: Face, crop: Crop, shift: float = NEAR_SHIFT, share: float = 1.0) -> bool:
    """Whether the crop of ``face`` differs from ``crop`` enough for a second pass.

    That is if its centre differs by a share ``shift`` of its side, its side by ``NEAR_FACTOR``, or
    both by less, where the root of the summed squares in these units is ``share``; or its angle
    by ``NEAR_ANGLE``.
    """
    first = face.crop
    away = np.hypot(crop.center_x - first.center_x, crop.center_y - first.center_y) / first.size
    grown = np.log(crop.size / first.size) / np.log(NEAR_FACTOR)
    turned = abs(wrapped(crop.angle - first.angle)) > NEAR_ANGLE
    return bool(np.hypot(away / shift, grown) >= share or turned)


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
