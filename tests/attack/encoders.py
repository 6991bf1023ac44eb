"""Picture files that the usual libraries do not write: by their specifications, from samples."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# CIE xy of red, green, blue and white.
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


# PNG (W3C) ---------------------------------------------------------------------------------------

_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: np.ndarray, bits: int, color: int, *, interlaced: bool = False, before: bytes = b""
) -> bytes:
    """(H, W, S) samples below 2^bits; color: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.

    before: chunks between header and pixels.
    """
    height, width = samples.shape[:2]
    passes = [(y, x, dy, dx) for y, x, dy, dx in (_ADAM7 if interlaced else ((0, 0, 1, 1),))]
    rows = b""
    for y, x, dy, dx in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            rows += b"".join(b"\0" + _packed(row.reshape(-1), bits) for row in part)
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    body = chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _packed(values: np.ndarray, bits: int) -> bytes:
    """Samples of ``bits`` each, the highest first."""
    if bits == 16:
        return values.astype(">u2").tobytes()
    if bits == 8:
        return values.astype(np.uint8).tobytes()
    spread = (values[:, None].astype(np.uint16) >> np.arange(bits)[::-1]) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1)).tobytes()


# BMP (Microsoft) ---------------------------------------------------------------------------------


def bmp(
    rows: Sequence[bytes],
    width: int,
    height: int,
    bits: int,
    *,
    compression: int = 0,
    palette: bytes = b"",
    masks: bytes = b"",
    top_down: bool = False,
) -> bytes:
    """rows: as stored, the lowest first unless ``top_down``; each is filled to four bytes."""
    data = (
        b"".join(row + bytes(-len(row) % 4) for row in rows) if compression != 1 else b"".join(rows)
    )
    offset = 14 + 40 + len(masks) + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII",
        40,
        width,
        -height if top_down else height,
        1,
        bits,
        compression,
        len(data),
        2835,
        2835,
        len(palette) // 4,
        0,
    )
    head = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
    return head + info + masks + palette + data


# TIFF 6.0 ----------------------------------------------------------------------------------------


def tiff(data: bytes, tags: Mapping[int, int | Sequence[int]], *, order: str = "<") -> bytes:
    """One page, one strip; tags: number -> value or values (16 or 32 bits by their size)."""
    everything: dict[int, Sequence[int]] = {273: [8], 279: [len(data)]}
    everything.update({k: [v] if isinstance(v, int) else v for k, v in tags.items()})
    place = 8 + len(data) + len(data) % 2
    out, values = struct.pack(order + "H", len(everything)), b""
    beyond = place + 2 + 12 * len(everything) + 4
    for tag, numbers in sorted(everything.items()):
        small = tag not in (273, 279) and max(numbers) < 65536
        packed = struct.pack(f"{order}{len(numbers)}{'H' if small else 'I'}", *numbers)
        out += struct.pack(order + "HHI", tag, 3 if small else 4, len(numbers))
        if len(packed) <= 4:
            out += packed.ljust(4, b"\0")
        else:
            out += struct.pack(order + "I", beyond + len(values))
            values += packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    return head + data + bytes(len(data) % 2) + out + bytes(4) + values


# ICC.1 colour profiles ---------------------------------------------------------------------------


def profile(
    primaries: Sequence[tuple[float, float]] | None, gamma: float, white: tuple[float, float] = _D65
) -> bytes:
    """Matrix profile of RGB, or of grey without ``primaries``; values are light^(1/gamma)."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        b"desc": _description(),
        b"cprt": b"text" + bytes(4) + b"none\0\0\0\0",
        b"wtpt": _xyz(_of(_D50)),
    }
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        columns = to_d50(primaries, white)
        for name, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
            tags[name + b"XYZ"], tags[name + b"TRC"] = _xyz(column), curve
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(128)
    head[:4] = struct.pack(">I", place + len(body))
    head[8:12], head[12:16] = bytes((2, 0x40, 0, 0)), b"mntr"
    head[16:20], head[20:24] = (b"GRAY" if primaries is None else b"RGB "), b"XYZ "
    head[36:40], head[68:80] = b"acsp", _xyz(_of(_D50))[8:]
    return bytes(head) + table + body


def to_d50(primaries: Sequence[tuple[float, float]], white: tuple[float, float]) -> np.ndarray:
    """(3, 3) linear RGB -> XYZ under D50 (Bradford)."""
    matrix = np.array([_of(p) for p in primaries]).T
    matrix = matrix * np.linalg.solve(matrix, _of(white))
    change = np.diag(_BRADFORD @ _of(_D50) / (_BRADFORD @ _of(white)))
    return np.linalg.inv(_BRADFORD) @ change @ _BRADFORD @ matrix


def in_space(
    srgb: np.ndarray,
    primaries: Sequence[tuple[float, float]],
    gamma: float,
    white: tuple[float, float] = _D65,
) -> np.ndarray:
    """(H, W, 3) uint8 sRGB -> the numbers of the same colours in another space, in [0, 1]."""
    share = srgb / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    other = np.linalg.solve(to_d50(primaries, white), to_d50(SRGB, _D65))
    return (light @ other.T).clip(0, 1) ** (1 / gamma)


def _of(xy: tuple[float, float]) -> np.ndarray:
    x, y = xy
    return np.array([x / y, 1, (1 - x - y) / y])


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _description() -> bytes:
    text = b"made for a test\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
