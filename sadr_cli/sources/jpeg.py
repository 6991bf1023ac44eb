"""Truncated JPEG files: interrupted downloads or copies."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image

from sadr_cli.sources.window import WHOLE, Unreadable, Window, open_image

_ORIENTATION_TAG = 0x0112
_END = b"\xff\xd9"  # EOI marker
_SCAN = b"\xff\xda"  # SOS marker
_MOST = 0.5  # share of the rows that must be present
_LAST = 63  # index of a block's highest-frequency coefficient (ITU-T T.81)


def truncated_jpeg(stream: BinaryIO) -> tuple[Image.Image, int, tuple[str, ...]]:
    """The decodable part, its EXIF orientation, and a note on what is missing.

    Raises Unreadable if most of it is missing. With an end marker appended, libjpeg fills the
    missing part with the colour of the last blocks.
    """
    image = open_image(Window(stream, tail=_END), ["JPEG"])
    image.load()
    pixels = np.asarray(image).reshape(image.height, image.width, -1).astype(np.int16)
    seen = np.flatnonzero((pixels.max(1) - pixels.min(1)).max(-1) > 2)
    rows = int(seen[-1]) + 1 if seen.size else 0
    if rows < _MOST * image.height:
        share = 100 * rows // image.height
        raise Unreadable(f"truncated: only the first {share} % of its rows are present")
    if image.info.get("progressive"):
        stream.seek(0)
        if not _has_fine_scan(stream.read(WHOLE)):
            raise Unreadable("truncated: only a coarse version is present")
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    missing = 100 - 100 * rows // image.height
    what = f"the last {missing} % of its rows are missing" if missing else "its end is missing"
    return image, int(orientation), (f"cut short: {what}",)


def _has_fine_scan(data: bytes) -> bool:
    """Whether a progressive file continues after a luminance scan with full detail."""
    place, brightness = 2, -1
    while data[place : place + 2] != _SCAN and place + 4 < len(data):
        if data[place + 1] == 0xC2:  # SOF2: precision, height, width, count, then components
            brightness = data[place + 10]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    while (place := data.find(_SCAN, place)) >= 0:
        count = data[place + 4]
        last = data[place + 6 + 2 * count]
        following = data.find(_SCAN, place + 2)
        if data[place + 5] == brightness and last == _LAST and following > 0:
            return True
        place += 2
    return False
