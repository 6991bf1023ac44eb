"""TIFF in all arrangements, kinds of numbers and ranges."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import numpy as np
from made_pictures import STORED, encode
from PIL import Image

from .cases import Case
from .checks import (
    GREY,
    GREY_RGB,
    LOSSY,
    PHOTO,
    either,
    packed_bits,
    refused,
    same,
    stretched,
)
from .encoders import (
    tiff,
)


def tiff_arrangements() -> Iterator[Case]:
    import tifffile

    layouts = [
        (None, "<", None),
        ((16, 16), ">", "zlib"),
        (None, ">", "lzma"),
        ((32, 16), "<", None),
    ]
    for dtype, channels in itertools.product(
        ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"), (1, 2, 3, 4)
    ):
        colors = GREY[..., None] if channels < 3 else PHOTO
        samples = stretched(colors, dtype)
        if channels % 2 == 0:
            opaque = stretched(np.full((*GREY.shape, 1), 255), dtype)
            samples = np.concatenate([samples, opaque], 2)
        for planar, (tile, order, packing) in itertools.product(
            ("contig", "separate")[: 1 + (channels > 2)], layouts
        ):
            stored = samples if planar == "contig" else np.moveaxis(samples, 2, 0)
            stream = io.BytesIO()
            tifffile.imwrite(
                stream,
                stored[..., 0] if channels == 1 else stored,
                photometric="rgb" if channels > 2 else "minisblack",
                planarconfig=planar if channels > 1 else None,
                extrasamples=["unassalpha"] if channels % 2 == 0 else None,
                tile=tile,
                rowsperstrip=None if tile else 7,
                compression=packing,
                byteorder=order,
                bigtiff=packing == "lzma",
            )
            name = f"tiff {dtype} {channels} {planar} {order} {tile} {packing}"
            yield same(name, stream.getvalue(), GREY_RGB if channels < 3 else PHOTO, most=1)


def tiff_oddities() -> Iterator[Case]:
    height, width = GREY.shape
    size = {256: width, 257: height, 278: height}
    for order in "<>":
        for bits in (1, 2, 4):  # packed grey, both ways round
            values = (GREY >> (8 - bits)).astype(int)
            truth = np.dstack([np.rint(values * 255 / (2**bits - 1))] * 3)
            rows = b"".join(packed_bits(row, bits) for row in values)
            tags = {**size, 258: bits, 259: 1, 277: 1}
            yield same(
                f"tiff {bits} bits {order}",
                tiff(rows, {**tags, 262: 1}, order=order),
                truth,
                most=1,
            )
            yield same(
                f"tiff {bits} bits white is zero {order}",
                tiff(rows, {**tags, 262: 0}, order=order),
                255 - truth,
                most=1,
            )
            colors = np.arange(2**bits)[:, None] * np.array([3, 40, 11]) % 256
            palette = (colors * 257).T.reshape(-1).tolist()
            yield same(
                f"tiff palette {bits} {order}",
                tiff(rows, {**tags, 262: 3, 320: palette}, order=order),
                colors[values],
                most=1,
            )
        dark = [v // 257 for v in palette]  # 8-bit entries, which some programs write
        yield either(
            f"tiff palette of 8-bit colours {order}",
            tiff(rows, {**tags, 262: 3, 320: dark}, order=order),
        )
        twelve = b"".join(packed_bits(row.astype(int) * 4095 // 255, 12) for row in GREY)
        yield either(
            f"tiff 12 bits packed {order}",
            tiff(twelve, {**size, 258: 12, 259: 1, 262: 1, 277: 1}, order=order),
        )
        deep = (PHOTO.astype(np.uint16) * 257).astype(f"{order}u2").tobytes()
        rgb = {**size, 258: [16] * 3, 259: 1, 262: 2, 277: 3}
        for orientation in range(1, 9):
            turned = np.ascontiguousarray(STORED[orientation](PHOTO))
            data = (turned.astype(np.uint16) * 257).astype(f"{order}u2").tobytes()
            tags = {
                **rgb,
                256: turned.shape[1],
                257: turned.shape[0],
                278: turned.shape[0],
                274: orientation,
            }
            yield same(
                f"tiff 16 bits orientation {orientation} {order}",
                tiff(data, tags, order=order),
                PHOTO,
                most=1,
            )
        del rgb[278]
        yield same(
            f"tiff without RowsPerStrip {order}", tiff(deep, rgb, order=order), PHOTO, most=1
        )
        yield either(
            f"tiff of mixed depths {order}", tiff(deep, {**rgb, 258: [16, 8, 16]}, order=order)
        )
        yield refused(f"tiff cut short {order}", tiff(deep[:1000], rgb, order=order))
        yield refused(
            f"tiff without a width {order}",
            tiff(deep, {k: v for k, v in rgb.items() if k != 256}, order=order),
        )
        yield refused(f"tiff of no rows {order}", tiff(deep, {**rgb, 257: 0}, order=order))
        yield either(
            f"tiff of unknown compression {order}", tiff(deep, {**rgb, 259: 9999}, order=order)
        )
        yield either(
            f"tiff of unknown colours {order}", tiff(deep, {**rgb, 262: 32845}, order=order)
        )
        yield refused(
            f"tiff of complex numbers {order}",
            tiff(deep, {**size, 258: 32, 259: 1, 262: 1, 277: 1, 339: 6}, order=order),
        )
    reverse = {k: int(f"{k:08b}"[::-1], 2) for k in range(256)}
    flipped = bytes(reverse[b] for b in PHOTO.tobytes())
    yield same(
        "tiff bits the other way round",
        tiff(flipped, {**size, 258: [8] * 3, 259: 1, 262: 2, 266: 2, 277: 3}),
        PHOTO,
        most=0,
    )
    image = Image.fromarray(PHOTO)
    for packing in (
        "tiff_lzw",
        "tiff_adobe_deflate",
        "tiff_deflate",
        "packbits",
        "zstd",
        "lzma",
        "raw",
    ):
        yield same(f"tiff {packing}", encode(image, "TIFF", compression=packing), PHOTO, most=0)
    yield same(
        "tiff jpeg inside", encode(image, "TIFF", compression="jpeg", quality=95), PHOTO, LOSSY
    )
    bilevel = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
    black = np.dstack([np.asarray(bilevel).astype(np.uint8) * 255] * 3)
    for packing in ("group3", "group4", "tiff_ccitt", "tiff_lzw"):
        yield same(
            f"tiff fax {packing}", encode(bilevel, "TIFF", compression=packing), black, most=0
        )
    for mode in ("LAB", "YCbCr", "CMYK", "LA", "RGBA", "P", "PA", "I", "F", "I;16"):
        grey = mode in ("LA", "I", "F", "I;16")
        with_values = Image.fromarray(GREY).convert("I") if mode in ("I", "I;16") else image
        picture = (Image.fromarray(GREY) if mode in ("LA", "F") else with_values).convert(mode)
        for packing in ("raw", "tiff_lzw"):
            try:
                data = encode(picture, "TIFF", compression=packing)
            except (OSError, ValueError, KeyError):
                continue
            truth = (
                GREY_RGB
                if grey
                else np.asarray(picture.convert("RGB"))
                if mode[0] == "P"
                else PHOTO
            )
            yield same(f"tiff of {mode} {packing}", data, truth, 12 if mode == "LAB" else 2)


def tiff_ranges() -> Iterator[Case]:
    import tifffile

    ranges = {
        "f4 0-255": GREY.astype(np.float32),
        "f8 0-255": GREY.astype(np.float64),
        "f4 0-65535": GREY.astype(np.float32) * 257,
        "f4 0-4095": GREY.astype(np.float32) * 4095 / 255,
        "f2 0-1": (GREY / 255).astype(np.float16),
        "f4 -1-1": GREY.astype(np.float32) / 127.5 - 1,
        "f4 with nan": np.where(GREY == 7, np.nan, GREY / 255).astype(np.float32),
        "f4 with inf": np.where(GREY == 250, np.inf, GREY / 255).astype(np.float32),
        "i4 0-255": GREY.astype(np.int32),
        "u4 0-255": GREY.astype(np.uint32),
        "i2 0-255": GREY.astype(np.int16),
        "u2 0-255": GREY.astype(np.uint16),
        "u2 10 bits": (GREY.astype(np.uint32) * 1023 // 255).astype(np.uint16),
        "u2 12 bits": (GREY.astype(np.uint16) * 16).astype(np.uint16),
        "u2 14 bits": (GREY.astype(np.uint32) * 16383 // 255).astype(np.uint16),
        "i4 12 bits": GREY.astype(np.int32) * 16,
        "i2 0-32767": (GREY.astype(np.int32) * 32767 // 255).astype(np.int16),
        "u8 0-255": GREY.astype(np.uint64),
        "i8 0-255": GREY.astype(np.int64),
    }
    for name, values in ranges.items():
        for order in "<>":
            stream = io.BytesIO()
            tifffile.imwrite(stream, values, photometric="minisblack", byteorder=order)
            yield same(f"tiff range {name} {order}", stream.getvalue(), GREY_RGB, 1.2)
