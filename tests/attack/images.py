"""Pictures of every kind: read as they are meant, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from . import broken, meant, packed, plain, tiffs
from .cases import Case

LEAST = 605
FAMILIES = (
    tiffs.tiff_arrangements,
    tiffs.tiff_oddities,
    tiffs.tiff_ranges,
    plain.png_depths,
    plain.png_extras,
    plain.portable_maps,
    plain.bitmaps,
    packed.jpegs,
    packed.cut_jpegs,
    packed.gifs,
    packed.modern,
    meant.profiles,
    meant.orientations,
    meant.animations,
    broken.damaged,
    broken.bombs,
)


QUICK = (plain.png_extras, plain.bitmaps, tiffs.tiff_ranges, broken.bombs)


def cases() -> Iterator[Case]:
    for family in FAMILIES:
        yield from family()


def quick() -> Iterator[Case]:
    """Those that are soon made."""
    for family in QUICK:
        yield from family()
