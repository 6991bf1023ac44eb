"""Damaged pictures, and such as claim to be huge."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from hostile import FORMATS, encoded, png_header
from made_pictures import encode
from PIL import Image

from .cases import Case
from .checks import (
    GREY,
    PHOTO,
    either,
    refused,
)
from .encoders import (
    bmp,
    tiff,
)


def damaged() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for format in FORMATS:
        data = encoded(format, Image.fromarray(PHOTO))
        for share in (0.02, 0.2, 0.5, 0.8, 0.98):
            yield either(f"{format} cut at {share:.0%}", data[: int(len(data) * share)])
        for number in range(6):
            broken = bytearray(data)
            for place in rng.integers(
                0, min(len(data), 400 if number % 2 else len(data)), 1 + 6 * number
            ):
                broken[place] = rng.integers(256)
            yield either(f"{format} with bytes changed, {number}", bytes(broken))
    for name, data in {
        "nothing": b"",
        "zeros": bytes(5000),
        "a web page": b"<html>404 not found</html>" * 9,
        "an archive": b"PK\3\4" + rng.bytes(500),
        "a program": b"\x7fELF" + rng.bytes(500),
        "a script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "a document": b"%PDF-1.7\n" + rng.bytes(500),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "a Photoshop file": b"8BPS\0\1" + rng.bytes(500),
        "an icon": b"\0\0\1\0\1\0\x10\x10" + rng.bytes(500),
        "raw of a camera": b"FUJIFILMCCD-RAW " + rng.bytes(500),
        "noise": rng.bytes(5000),
    }.items():
        yield refused(name, data)


def bombs() -> Iterator[Case]:
    for width, height in ((60000, 60000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (0, 9), (9, 0)):
        yield refused(f"png of {width} x {height}", png_header(width, height))
    jpeg = encode(PHOTO, "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield refused("jpeg of 65535 x 65535", jpeg[:at] + b"\xff" * 4 + jpeg[at + 4 :], "too large")
    yield refused("jpeg of no height", jpeg[:at] + b"\0\0" + jpeg[at + 2 :])
    gif = encode(Image.fromarray(GREY), "GIF")
    yield refused("gif of 65535 x 65535", gif[:6] + b"\xff" * 4 + gif[10:], "too large")
    for size in (2**30, -(2**30), 2**31 - 1):
        data = bmp([bytes(9)], size, size, 24)
        yield refused(f"bmp of {size}", data)
    for width, height in ((2**31, 2**31), (100_000, 100_000)):
        for packing in (1, 5, 8):
            tags = {
                256: width,
                257: height,
                258: [8] * 3,
                259: packing,
                262: 2,
                277: 3,
                278: height,
            }
            yield refused(
                f"tiff of {width} x {height}, {packing}", tiff(bytes(99), tags), "too large"
            )
    many = {256: 9, 257: 9, 258: [8] * 500, 259: 1, 262: 1, 277: 500, 278: 9}
    yield refused("tiff of 500 channels", tiff(bytes(9 * 9 * 500), many), "500 channels")
    yield refused("pnm of 99999 x 99999", b"P6\n99999 99999\n255\n", "too large")
    for format in ("WEBP", "AVIF", "HEIF", "JPEG2000"):
        if format in FORMATS:
            large = encoded(format, Image.new("L" if format == "JPEG2000" else "RGB", (1200, 900)))
            yield refused(f"{format} above the limit", large, "too large")
    turned = cv2.imencode(".png", np.zeros((1001, 1000), np.uint8))[1].tobytes()
    yield refused("png a little above the limit", turned, "too large")
