"""PNG, portable maps and bitmaps of every depth."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from made_pictures import encode
from PIL import Image

from .cases import Case
from .checks import (
    GREY,
    GREY_RGB,
    PHOTO,
    either,
    packed_bits,
    refused,
    same,
)
from .encoders import (
    bmp,
    chunk,
    png,
)


def png_depths() -> Iterator[Case]:
    for interlaced, bits in itertools.product((False, True), (1, 2, 4, 8, 16)):
        way = " interlaced" if interlaced else ""
        top = 2**bits - 1
        values = np.rint(GREY / 255 * top).astype(int)[..., None]
        truth = np.dstack([np.rint(values[..., 0] * 255 / top)] * 3)
        yield same(
            f"png grey {bits}{way}", png(values, bits, 0, interlaced=interlaced), truth, most=1
        )
        hidden = int(values[0, 0, 0])
        clear = chunk(b"tRNS", struct.pack(">H", hidden))
        over = np.where((values == hidden), 255, truth)
        yield same(
            f"png grey {bits} with a clear value{way}",
            png(values, bits, 0, interlaced=interlaced, before=clear),
            over,
            most=1,
        )
        if bits < 16:
            colors = np.arange(2**bits)[:, None] * np.array([3, 40, 11]) % 256
            table = chunk(b"PLTE", colors.astype(np.uint8).tobytes())
            yield same(
                f"png palette {bits}{way}",
                png(values, bits, 3, interlaced=interlaced, before=table),
                colors[values[..., 0]],
                most=0,
            )
            clear = table + chunk(b"tRNS", b"\0")
            over = np.where(values == 0, 255, colors[values[..., 0]])
            yield same(
                f"png palette {bits} with a clear colour{way}",
                png(values, bits, 3, interlaced=interlaced, before=clear),
                over,
                most=0,
            )
        if bits >= 8:
            deep = np.rint(PHOTO / 255 * top).astype(int)
            yield same(
                f"png rgb {bits}{way}", png(deep, bits, 2, interlaced=interlaced), PHOTO, most=1
            )
            clear = chunk(b"tRNS", struct.pack(">3H", *deep[5, 5].tolist()))
            over = np.where((deep == deep[5, 5]).all(2, keepdims=True), 255, PHOTO)
            yield same(
                f"png rgb {bits} with a clear colour{way}",
                png(deep, bits, 2, interlaced=interlaced, before=clear),
                over,
                most=1,
            )
            alpha = np.full((*GREY.shape, 1), top)
            alpha[:20] = 0
            over = np.where(alpha == 0, 255, PHOTO)
            yield same(
                f"png rgba {bits}{way}",
                png(np.concatenate([deep, alpha], 2), bits, 6, interlaced=interlaced),
                over,
                most=1,
            )
            over = np.where(alpha == 0, 255, truth)
            yield same(
                f"png grey alpha {bits}{way}",
                png(np.concatenate([values, alpha], 2), bits, 4, interlaced=interlaced),
                over,
                most=1,
            )


def png_extras() -> Iterator[Case]:
    samples = PHOTO.astype(int)
    extras = {
        "gAMA": chunk(b"gAMA", struct.pack(">I", 45455)),
        "sBIT": chunk(b"sBIT", b"\5\6\5"),
        "sRGB": chunk(b"sRGB", b"\0"),
        "cHRM": chunk(
            b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
        ),
        "an unknown chunk": chunk(b"abCd", b"anything"),
        "a wrong check of a text": struct.pack(">I", 3) + b"tEXta\0b" + b"\0\0\0\0",
        "a broken profile": chunk(b"iCCP", b"x\0\0" + b"not deflated"),
        "a name without an end": chunk(b"tEXt", b"x" * 500),
        "two palettes": chunk(b"PLTE", bytes(6)) + chunk(b"PLTE", bytes(6)),
        "empty text": chunk(b"zTXt", b""),
        "eXIf of nothing": chunk(b"eXIf", b""),
        "eXIf of noise": chunk(b"eXIf", b"II*\0" + b"\xff" * 60),
    }
    for name, extra in extras.items():
        yield either(f"png with {name}", png(samples, 8, 2, before=extra))
    for name in ("gAMA", "sBIT", "sRGB", "cHRM", "an unknown chunk"):
        yield same(f"png read with {name}", png(samples, 8, 2, before=extras[name]), PHOTO, most=0)
    text = b"Comment\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    yield refused("png with a text of 100 MB", png(samples, 8, 2, before=chunk(b"zTXt", text)))
    huge = b"x\0\0" + zlib.compress(bytes(100_000_000), 9)
    yield either("png with a profile of 100 MB", png(samples, 8, 2, before=chunk(b"iCCP", huge)))
    yield refused("png without pixels", png(samples, 8, 2).replace(b"IDAT", b"abCd"))


def portable_maps() -> Iterator[Case]:
    height, width = GREY.shape
    size = b"%d %d\n" % (width, height)
    for top in (1, 15, 255, 1000, 1023, 4095, 65535):
        kind = ">u2" if top > 255 else "u1"
        for letter, values, truth in ((b"5", GREY, GREY_RGB), (b"6", PHOTO, PHOTO)):
            stored = np.rint(values / 255 * top).astype(kind)
            mean = 1.0 if top > 100 else 255 / top / 2
            head = b"P%s\n# a comment\n" % letter + size + b"%d\n" % top
            yield same(f"pnm P{letter.decode()} up to {top}", head + stored.tobytes(), truth, mean)
            plain = b"P%c\n" % (letter[0] - 3) + size + b"%d\n" % top
            text = b" ".join(b"%d" % v for v in stored.reshape(-1))
            yield same(f"pnm P{chr(letter[0] - 3)} up to {top}", plain + text, truth, mean)
    black = GREY < 128
    truth = np.dstack([np.where(black, 0, 255)] * 3)
    yield same("pnm P4", b"P4\n" + size + np.packbits(black, axis=1).tobytes(), truth, most=0)
    yield same(
        "pnm P1", b"P1\n" + size + b" ".join(b"%d" % v for v in black.reshape(-1)), truth, most=0
    )
    values = (GREY[::-1] / 255).astype("<f4")
    yield same("pfm", b"Pf\n" + size + b"-1.0\n" + values.tobytes(), GREY_RGB, most=1)
    yield same(
        "pfm big-endian",
        b"Pf\n" + size + b"1.0\n" + values.astype(">f4").tobytes(),
        GREY_RGB,
        most=1,
    )
    for name, data in {
        "no size": b"P6\n",
        "letters": b"P6\nab cd\n255\n",
        "no pixels": b"P6\n" + size + b"255\n",
        "top of nothing": b"P6\n" + size + b"0\n" + PHOTO.tobytes(),
        "top too high": b"P6\n" + size + b"70000\n" + PHOTO.tobytes(),
        "negative": b"P6\n-5 5\n255\n" + PHOTO.tobytes(),
        "endless number": b"P6\n" + b"9" * 5000 + b" 1\n255\n",
    }.items():
        yield refused(f"pnm {name}", data)


def bitmaps() -> Iterator[Case]:
    height, width = GREY.shape
    lowest_first = PHOTO[::-1, :, ::-1]
    rows = [row.tobytes() for row in lowest_first]
    yield same("bmp 24", bmp(rows, width, height, 24), PHOTO, most=0)
    yield same("bmp 24 top down", bmp(rows[::-1], width, height, 24, top_down=True), PHOTO, most=0)
    four = np.dstack([lowest_first, np.zeros_like(GREY)])
    yield same(
        "bmp 32, fourth byte of no meaning",
        bmp([r.tobytes() for r in four], width, height, 32),
        PHOTO,
        most=0,
    )
    for name, (r, g, b) in {"555": (5, 5, 5), "565": (5, 6, 5)}.items():
        red, green, blue = (
            (PHOTO[::-1, :, k].astype(int) >> (8 - n)) for k, n in enumerate((r, g, b))
        )
        packed = (red << (g + b) | green << b | blue).astype("<u2")
        masks = struct.pack("<3I", (2**r - 1) << (g + b), (2**g - 1) << b, 2**b - 1)
        data = bmp([row.tobytes() for row in packed], width, height, 16, compression=3, masks=masks)
        yield same(f"bmp {name}", data, PHOTO, 6)
    for bits in (1, 4, 8):
        values = (GREY[::-1] >> (8 - bits)).astype(int)
        colors = np.arange(2**bits)[:, None] * np.array([3, 40, 11]) % 256
        table = b"".join(bytes((c[2], c[1], c[0], 0)) for c in colors.astype(np.uint8).tolist())
        data = bmp([packed_bits(row, bits) for row in values], width, height, bits, palette=table)
        yield same(f"bmp palette {bits}", data, colors[values[::-1]], most=0)
    runs = [b"".join(bytes((1, v)) for v in row) + b"\0\0" for row in GREY[::-1].tolist()]
    runs[-1] = runs[-1][:-2] + b"\0\1"
    table = b"".join(bytes((v, v, v, 0)) for v in range(256))
    yield same(
        "bmp run lengths",
        bmp(runs, width, height, 8, compression=1, palette=table),
        GREY_RGB,
        most=0,
    )
    for mode in ("RGB", "L", "P", "1"):
        picture = Image.fromarray(PHOTO).convert(mode)
        truth = np.asarray(picture.convert("RGB"))
        yield same(f"dib {mode}", encode(picture, "DIB"), truth, most=0)
