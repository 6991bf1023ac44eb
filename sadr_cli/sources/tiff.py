"""All TIFF layouts: planes, tiles, more than 8 bits, floating point, white as zero.

Pillow parses the tags and lets libtiff decompress, but decodes the pixels of some layouts wrongly
without an error. Layout of strips, tiles and planes: TIFF 6.0; floating-point predictor: Adobe's
TIFF Technical Note 3.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from sadr_cli.sources.color import full_scale, to_bytes
from sadr_cli.sources.window import SPARE, Unreadable, Window, open_image

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_PAGES = 1000
_MOST_SAMPLES = 32  # channels of a photo
_PACKED = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate, PackBits, LZMA, Zstandard
_GREY_INVERTED, _GREY, _RGB, _CMYK, _LAB = 0, 1, 2, 5, 8
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # SampleFormat
_ASSOCIATED = 1  # ExtraSamples: colours are premultiplied by alpha
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], 1)


@dataclass(frozen=True)
class Page:
    """One picture of a file, described by its tags; byte ``order`` is "<" or ">"."""

    index: int
    tags: Mapping[int, Any]
    order: str
    width: int
    height: int
    samples: int
    photometric: int
    compression: int
    predictor: int
    planar: int
    fill_order: int
    orientation: int
    rows: int
    tile_width: int
    tile_height: int
    is_photo: bool

    @classmethod
    def of(cls, index: int, tags: Mapping[int, Any], order: str) -> Page:
        """Raises ValueError if a required tag is missing or not a number."""
        numbers = {name: _number(tags, tag, default) for name, (tag, default) in _NUMBERS.items()}
        # Whether it is a reduced copy or a mask of another page (NewSubfileType, SubfileType).
        smaller = _number(tags, 254, 0) & 5 or _number(tags, 255, 0) == 2
        return cls(index, tags, order, is_photo=not smaller, **numbers)

    @property
    def profile(self) -> bytes | None:
        """The ICC colour profile."""
        value = self.tags.get(34675)
        return value if isinstance(value, bytes) else None

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each channel."""
        return _all(self.tags, 258, 1)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of a stored sample; None for packed or mixed types."""
        bits, formats = self.bits, _all(self.tags, 339, 1)
        kind = _KINDS.get(formats[0])
        good = bits[0] in ((16, 32, 64) if kind == "f" else (8, 16, 32, 64))
        if kind is None or not good or len(set(bits)) > 1 or len(set(formats)) > 1:
            return None
        return np.dtype(f"{self.order}{kind}{bits[0] // 8}")

    @property
    def range(self) -> tuple[float, float] | None:
        """Lowest and highest value, if the file states them."""
        for low, high in ((340, 341), (280, 281)):
            if low in self.tags and high in self.tags:
                return float(min(_all(self.tags, low, 0))), float(max(_all(self.tags, high, 0)))
        return None

    @property
    def extra(self) -> tuple[int, ...]:
        """Kinds of the channels after the colours."""
        return _all(self.tags, 338, None)

    def segments(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Offsets and lengths of strips or tiles; the lengths may be missing."""
        offsets, counts = (324, 325) if 322 in self.tags else (273, 279)
        return _all(self.tags, offsets, None), _all(self.tags, counts, None)

    def __str__(self) -> str:
        bits = "/".join(map(str, dict.fromkeys(self.bits)))
        return (
            f"TIFF with photometric {self.photometric}, {self.samples} samples of {bits} bits, "
            f"format {_all(self.tags, 339, 1)[0]}, compression {self.compression}"
        )


_NUMBERS: dict[str, tuple[int, int | None]] = {  # field -> tag, default
    "width": (256, None),
    "height": (257, None),
    "compression": (259, 1),
    "photometric": (262, _GREY),
    "fill_order": (266, 1),
    "orientation": (274, 1),
    "samples": (277, 1),
    "rows": (278, 2**32 - 1),
    "planar": (284, 1),
    "predictor": (317, 1),
    "tile_width": (322, 0),
    "tile_height": (323, 0),
}


def _number(tags: Mapping[int, Any], tag: int, default: int | None) -> int:
    value = next(iter(_all(tags, tag, default)), None)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"its tag {tag} is missing or not a number")
    return value


def _all(tags: Mapping[int, Any], tag: int, default: Any) -> tuple[Any, ...]:
    value = tags.get(tag, default)
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def read_pages(file: Window) -> list[Page]:
    """The pages that are photos, or else the first page; ValueError if there are no pages."""
    file.seek(0)
    head = file.read(8)
    if head[2:4] in (b"+\0", b"\0+"):
        # Pillow recognises BigTIFF by its third byte, in either byte order.
        head = head[:2] + b"+\0" + head[4:] + file.read(8)
    start = b"II" + head[2:] if head[2:4] == b"+\0" else head
    directory = TiffImagePlugin.ImageFileDirectory_v2(start, prefix=head[:2])
    order = "<" if head[:2] == b"II" else ">"
    pages: list[Page] = []
    place, met = directory.next, set[int]()
    while place and place not in met and len(pages) < _MOST_PAGES:
        met.add(place)
        file.seek(place)
        directory.load(cast(IO[bytes], file))
        try:
            pages.append(Page.of(len(pages), dict(directory), order))
        except ValueError:
            if not pages:
                raise
            break
        place = directory.next
    if not pages:
        raise ValueError("it has no picture")
    return [page for page in pages if page.is_photo] or pages[:1]


def readable(page: Page) -> bool:
    """Whether :func:`read_page` handles this page; Pillow reads the others."""
    return (
        page.compression in _PACKED
        and page.photometric in (_GREY_INVERTED, _GREY, _RGB, _CMYK, _LAB)
        and page.dtype is not None
        and (page.photometric != _LAB or page.dtype == np.uint8)
        and page.predictor in (1, 2, 3)
    )


def read_page(file: Window, page: Page) -> tuple[Image.Image, str | None]:
    """The page's picture, 8 bits per channel, before orientation, and a note or None."""
    if page.samples > _MOST_SAMPLES:
        raise Unreadable(f"has {page.samples} channels: not a photo")
    colors, alpha = _split(page, _samples(file, page))
    note = None
    if colors.dtype != np.uint8:
        if page.photometric == _CMYK and colors.dtype.kind == "u":  # low values are pale ink
            low, high = 0.0, float(np.iinfo(colors.dtype).max)
        else:
            low, high, note = full_scale(colors, page.range)
        colors = to_bytes(colors, low, high)
    if page.photometric == _GREY_INVERTED:
        colors = 255 - colors
    if alpha is not None and page.photometric in (_GREY_INVERTED, _GREY, _RGB):
        colors = _with_alpha(colors, alpha, page.extra[:1] == (_ASSOCIATED,))
    size, data = (page.width, page.height), np.ascontiguousarray(colors).tobytes()
    if page.photometric == _LAB:
        return Image.frombytes("LAB", size, data, "raw", "LAB"), note
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[colors.shape[2]]
    return Image.frombytes("CMYK" if page.photometric == _CMYK else mode, size, data), note


def _split(page: Page, samples: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """(H, W, S) samples -> the colours, and the alpha channel if there is one."""
    channels = samples.shape[2]
    count = {_RGB: 3, _CMYK: 4, _LAB: 3}.get(page.photometric, 1)
    if count == 1 and channels >= 3:
        count = 3  # undeclared channels are shown as red, green and blue
    if channels < count:
        raise ValueError(f"{channels} channels are too few for its colours")
    unnamed = channels == count + 1 and not page.extra  # alpha by convention
    has_alpha = channels > count and (unnamed or page.extra[:1] in ((1,), (2,), (999,)))
    return samples[..., :count], samples[..., count] if has_alpha else None


def _with_alpha(
    colors: NDArray[np.uint8], alpha: NDArray[Any], associated: bool
) -> NDArray[np.uint8]:
    if alpha.dtype == np.uint8:
        share = alpha
    else:
        share = to_bytes(alpha, *full_scale(alpha)[:2])
    if associated:
        whole = colors.astype(np.uint16) * 255 // np.maximum(share, 1)[..., None]
        colors = whole.clip(0, 255).astype(np.uint8)
    return np.concatenate([colors, share[..., None]], 2)


# --- samples --------------------------------------------------------------------------------


def _samples(file: Window, page: Page) -> NDArray[Any]:
    """(H, W, S) in native byte order."""
    planes = page.samples if page.planar == 2 else 1
    offsets, counts = page.segments()
    if not offsets or len(offsets) % planes:
        raise ValueError("its tags give no valid strips")
    share = len(offsets) // planes
    parts = []
    for plane in range(planes):
        part = slice(plane * share, (plane + 1) * share)
        parts.append(_plane(file, page, offsets[part], counts[part], page.samples // planes))
    return parts[0] if planes == 1 else np.concatenate(parts, 2)


def _plane(
    file: Window, page: Page, offsets: Sequence[int], counts: Sequence[int], samples: int
) -> NDArray[Any]:
    """(H, W, samples) of one plane."""
    dtype = page.dtype
    assert dtype is not None
    layout = _Layout(page, samples * dtype.itemsize)
    if len(offsets) < layout.segments:
        raise ValueError("strips are missing")
    if layout.nbytes > 4 * page.width * page.height * samples * dtype.itemsize + SPARE:
        raise ValueError("its tiles are far larger than the picture")
    file.allow(page.width * page.height, layout.nbytes + sum(counts))
    if page.compression == 1:
        stored = _plain_bytes(file, page, layout, offsets)
    else:
        stored = _unpacked_bytes(file, page, layout, offsets, counts)
    # Axes: rows, tiles side by side, bytes of a tile's row.
    rows = stored.reshape(len(stored), layout.across, layout.width * samples * dtype.itemsize)
    native = dtype.newbyteorder("=")
    if page.predictor == 3 and dtype.kind == "f":
        values = _floating_point_predictor(rows, samples, dtype.itemsize).astype(native)
    else:
        values = rows.view(dtype).astype(native)
        if page.predictor == 2:
            whole = values.view(f"u{dtype.itemsize}")
            steps = whole.reshape(*rows.shape[:2], layout.width, samples)
            steps = np.cumsum(steps, axis=2, dtype=whole.dtype)
            values = steps.reshape(whole.shape).view(native)
    return values.reshape(len(rows), -1, samples)[: page.height, : page.width]


def _floating_point_predictor(rows: NDArray[np.uint8], samples: int, itemsize: int) -> NDArray[Any]:
    """Undo it: bytes of a row are stored by significance, highest first, as differences."""
    apart = rows.reshape(*rows.shape[:2], -1, samples).cumsum(axis=2, dtype=np.uint8)
    by_byte = apart.reshape(*rows.shape[:2], itemsize, -1)
    return np.ascontiguousarray(np.moveaxis(by_byte, 2, 3)).view(f">f{itemsize}")[..., 0]


class _Layout:
    """Positions of the segments of a plane; strips are tiles as wide as the picture.

    width, height: size of a segment in pixels; across, down: number of segments.
    """

    def __init__(self, page: Page, pixel: int) -> None:
        self.tiled = page.tile_width > 0 and page.tile_height > 0
        self.width = page.tile_width if self.tiled else page.width
        self.height = page.tile_height if self.tiled else min(page.rows, page.height) or 1
        self.across = math.ceil(page.width / self.width)
        self.down = math.ceil(page.height / self.height)
        self.segments = self.across * self.down
        # Tiles are stored whole, the last strip only up to the picture's end.
        self.rows = self.down * self.height if self.tiled else page.height
        self.row_bytes = self.width * pixel
        self.nbytes = self.rows * self.across * self.row_bytes

    def boxes(self) -> Iterator[tuple[slice, slice]]:
        """Rows and byte columns of each segment in the plane, in file order."""
        for y in range(self.down):
            for x in range(self.across):
                rows = slice(y * self.height, min((y + 1) * self.height, self.rows))
                yield rows, slice(x * self.row_bytes, (x + 1) * self.row_bytes)


def _plain_bytes(
    file: Window, page: Page, layout: _Layout, offsets: Sequence[int]
) -> NDArray[np.uint8]:
    stored = np.empty((layout.rows, layout.across * layout.row_bytes), np.uint8)
    for (rows, columns), offset in zip(layout.boxes(), offsets, strict=False):
        count = (rows.stop - rows.start) * layout.row_bytes
        file.seek(offset)
        data = file.read(count)
        if len(data) < count:
            raise ValueError("cut short")
        stored[rows, columns] = np.frombuffer(data, np.uint8).reshape(-1, layout.row_bytes)
    return _REVERSED[stored, 0] if page.fill_order == 2 else stored


def _unpacked_bytes(
    file: Window, page: Page, layout: _Layout, offsets: Sequence[int], counts: Sequence[int]
) -> NDArray[np.uint8]:
    """Decompress: libtiff reads the same segments as a grey picture of bytes."""
    if len(counts) < len(offsets):
        raise ValueError("its strips have no lengths")
    parts, places, place = [], [], 8
    for offset, count in zip(offsets, counts, strict=False):
        file.seek(offset)
        parts.append(file.read(count))
        places.append(place)
        place += len(parts[-1])
    lengths = [len(part) for part in parts]
    tags = {
        256: [layout.across * layout.row_bytes],
        257: [layout.rows],
        258: [8],
        259: [page.compression],
        262: [_GREY],
        266: [page.fill_order],
        277: [1],
    }
    if layout.tiled:
        tags |= {322: [layout.row_bytes], 323: [layout.height], 324: places, 325: lengths}
    else:
        tags |= {273: places, 278: [layout.height], 279: lengths}
    head = struct.pack("<2sHI", b"II", 42, place)
    data = b"".join([head, *parts, _directory(tags, place)])
    with open_image(io.BytesIO(data), ["TIFF"]) as image:
        return np.asarray(image)


def _directory(tags: Mapping[int, Sequence[int]], place: int) -> bytes:
    """A TIFF directory of 32-bit numbers for the file offset ``place``."""
    beyond = place + 2 + 12 * len(tags) + 4
    entries, values = [struct.pack("<H", len(tags))], b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        where = packed if len(numbers) == 1 else struct.pack("<I", beyond + len(values))
        values += b"" if len(numbers) == 1 else packed
        entries.append(struct.pack("<HHI", tag, 4, len(numbers)) + where)
    return b"".join([*entries, bytes(4), values])
