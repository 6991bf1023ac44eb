"""What a file says of its picture: colours, the way up, several pictures."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from hostile import FORMATS
from made_pictures import QUARTERS, STORED, encode, photo
from PIL import Image, features

from .cases import Case
from .checks import (
    either,
    same,
)
from .encoders import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    chunk,
    in_space,
    png,
    profile,
)

HEIF = "HEIF" in FORMATS
_D50 = (0.3457, 0.3585)


def profiles() -> Iterator[Case]:
    """The same colours in spaces of other primaries: all must look alike."""
    soft = (90 + photo(40, 60) * 0.35).astype(np.uint8)  # within all of these spaces
    spaces = {
        "sRGB 2.2": (SRGB, 2.2, (0.3127, 0.3290)),
        "Adobe RGB": (ADOBE_RGB, 563 / 256, (0.3127, 0.3290)),
        "Display P3": (DISPLAY_P3, 2.2, (0.3127, 0.3290)),
        "ProPhoto": (PROPHOTO, 1.8, _D50),
        "linear": (SRGB, 1.0, (0.3127, 0.3290)),
    }
    lossless = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
    for name, (primaries, gamma, white) in spaces.items():
        values = in_space(soft, primaries, gamma, white)
        icc = profile(primaries, gamma, white)
        eight = np.rint(values * 255).astype(np.uint8)
        for format, options in lossless.items():
            yield same(
                f"{format} in {name}", encode(eight, format, icc_profile=icc, **options), soft, 2
            )
        lossy = ["JPEG"] + ["AVIF"] * features.check("avif") + ["HEIF"] * HEIF
        for format in lossy:
            yield same(
                f"{format} in {name}", encode(eight, format, icc_profile=icc, quality=98), soft, 5
            )
        opaque = np.dstack([eight, np.full(eight.shape[:2], 255, np.uint8)])
        yield same(f"PNG with alpha in {name}", encode(opaque, icc_profile=icc), soft, 2)
        embedded = chunk(b"iCCP", b"a\0\0" + zlib.compress(icc))
        deep = np.rint(values * 65535).astype(int)
        yield same(f"PNG of 16 bits in {name}", png(deep, 16, 2, before=embedded), soft, 2)
        import tifffile

        for kind in ("u2", "f4"):
            stream = io.BytesIO()
            stored = values.astype(np.float32) if kind == "f4" else deep.astype(np.uint16)
            tifffile.imwrite(
                stream,
                np.moveaxis(stored, 2, 0),
                photometric="rgb",
                planarconfig="separate",
                iccprofile=icc,
            )
            yield same(f"planar TIFF {kind} in {name}", stream.getvalue(), soft, 2)
    for gamma in (1.0, 1.8, 2.2):
        grey = soft[..., 0]
        share = in_space(np.dstack([grey] * 3), SRGB, gamma)[..., 0]
        eight = np.rint(share * 255).astype(np.uint8)
        truth = np.dstack([grey] * 3)
        for format in ("PNG", "TIFF", "JPEG"):
            yield same(
                f"grey {format} of gamma {gamma}",
                encode(
                    eight,
                    format,
                    icc_profile=profile(None, gamma),
                    **({"quality": 98} if format == "JPEG" else {}),
                ),
                truth,
                3,
            )
    for size in (0, 1, 127, 128, 200, 400):
        cut = profile(DISPLAY_P3, 2.2)[:size]
        yield same(f"profile cut at {size}", encode(soft, icc_profile=cut or b"x"), soft, most=0)
        yield same(
            f"profile of noise, {size}",
            encode(soft, icc_profile=bytes(range(256)) * 2 + cut),
            soft,
            most=0,
        )


def orientations() -> Iterator[Case]:
    """EXIF 2.32 in both byte orders, and values that are none."""
    kinds = ["JPEG", "PNG", "WEBP"] + ["AVIF"] * features.check("avif") + ["HEIF"] * HEIF
    for format, order, value in itertools.product(kinds, "<>", (*range(10), 65535)):
        stored = STORED.get(value, STORED[1])(QUARTERS)
        head = b"II*\0" if order == "<" else b"MM\0*"
        exif = b"Exif\0\0" + head + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, value, 0, 0)
        options = {"quality": 95} if format != "PNG" else {}
        yield same(
            f"{format} orientation {value} {order}",
            encode(stored, format, exif=exif, **options),
            QUARTERS,
            8,
        )


def animations() -> Iterator[Case]:
    blank, shown = Image.new("RGB", (60, 40), (4, 4, 4)), Image.fromarray(QUARTERS)
    white = Image.new("RGB", (60, 40), "white")
    kinds = {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}}
    if features.check("avif"):
        kinds["AVIF"] = {"quality": 95}
    for format, before in itertools.product(kinds, ([], [blank], [blank, white], [white] * 3)):
        first, *rest = [*before, shown, shown]
        data = encode(
            first, format, save_all=True, append_images=rest, duration=100, **kinds[format]
        )
        yield same(f"animated {format}, {len(before)} blank", data, QUARTERS, 8)
        yield either(f"animated {format}, {len(before)} blank, cut", data[: len(data) // 2])
    clear = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    for format in kinds:
        data = encode(
            clear,
            format,
            save_all=True,
            append_images=[shown.convert("RGBA")],
            duration=100,
            **kinds[format],
        )
        yield same(f"animated {format} that begins with nothing", data, QUARTERS, 8)
    pages = encode(blank, "TIFF", save_all=True, append_images=[shown])
    yield same("pages of a tiff", pages, QUARTERS, most=0)
