"""The second pass: crop again around the first pass's landmarks, keep the more confident face.

It costs as much as the first one, so it is taken where the first crop was far off alone. On 400
AFLW2000-3D photos the balanced 2-D NME of the weights ``mobile`` is 2.99 after one pass from the
detector's crop, 3.00 after two for every face, 2.95 with the true crop (``benchmarks/passes.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sadr_cli.crop import crop_from_landmarks
from sadr_cli.errors import InputError
from sadr_cli.faces import Crop, Face

Failure = TypeVar("Failure")

# A second crop beyond these multiples of the first one's side is not of the same face.
_SMALLEST, _LARGEST = 0.4, 2.5
# A first crop is near enough when the second one's side is within this factor of its own and its
# centre within this share of it: crops as far off as that took part in the training.
NEAR_FACTOR, NEAR_SHIFT = 1.2, 0.1


def second_pass(
    faces: Sequence[Face | Failure],
    reconstruct: Callable[[list[int], list[Crop]], Sequence[Face | Failure]],
) -> list[Face | Failure]:
    """Each of ``faces``, or the face of its second crop if that is at least as confident.

    Only faces whose first crop was far off, see :func:`far_off`, get a second one.

    faces: results of the first pass. Whatever is not a Face stays as it is.
    reconstruct: called with indices into ``faces`` and a crop of the same photo for each (not
        at all when there is none); returns the results for these crops, in their order.
    """
    out = list(faces)
    crops: dict[int, Crop] = {}
    for k, face in enumerate(faces):
        crop = second_crop(face) if isinstance(face, Face) else None
        if isinstance(face, Face) and crop is not None and far_off(face, crop):
            crops[k] = crop
    if not crops:
        return out
    results = reconstruct(list(crops), list(crops.values()))
    for k, first, second in zip(crops, [faces[k] for k in crops], results, strict=True):
        # A confidence that is not a number never wins.
        if isinstance(first, Face) and isinstance(second, Face):
            out[k] = second if second.confidence >= first.confidence else first
    return out


def far_off(face: Face, crop: Crop) -> bool:
    """Whether the crop of ``face`` is so far from ``crop`` that another look at it pays."""
    first = face.crop
    ratio = crop.size / first.size
    shift = max(abs(crop.center_x - first.center_x), abs(crop.center_y - first.center_y))
    return not (1 / NEAR_FACTOR < ratio < NEAR_FACTOR and shift < NEAR_SHIFT * first.size)


def second_crop(face: Face) -> Crop | None:
    """The crop around the landmarks of ``face``; None where they are no use for one.

    That is when they are not finite, have no extent, or the crop is less than 0.4 or more than
    2.5 times as large as the one that ``face`` was computed from.
    """
    try:
        crop = crop_from_landmarks(face.landmarks)
    except InputError:
        return None
    return crop if _SMALLEST < crop.size / face.crop.size < _LARGEST else None
