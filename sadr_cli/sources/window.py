"""Limits on what a decoder may read of a file, and Pillow's global settings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

from PIL import EpsImagePlugin, Image

from sadr_cli.native import Lock

WHOLE = 256 * 1024**2  # bytes of a file that its decoder reads whole: far above any photo
SPARE = 64 * 1024**2  # bytes that a picture may need in addition to its pixels
_CALLS = 100_000  # reads: stops decoders that search through gigabytes of zeros


class Unreadable(Exception):
    """Why a photo cannot be read, without the file's name."""


class Window(io.RawIOBase):
    """The first ``end`` bytes of ``stream``, with a limit on how much is read in total.

    end: for formats that are read whole, see :func:`end_of`. tail: returned by every read at the
    end. Raises Unreadable beyond the limit.
    """

    def __init__(self, stream: BinaryIO, end: int | None = None, tail: bytes = b"") -> None:
        super().__init__()
        size = stream.seek(0, io.SEEK_END)
        self._stream, self._place, self._tail = stream, 0, tail
        self.end = size if end is None else min(end, size)
        self._budget, self._calls = SPARE if end is None else WHOLE, _CALLS

    def allow(self, pixels: int, extra: int = 0) -> None:
        """Reset the limit to what a picture of ``pixels`` can need."""
        self._budget = SPARE + 16 * pixels + extra
        self._calls = _CALLS + pixels // 16

    def read(self, size: int | None = -1) -> bytes:
        left = self.end - self._place
        if left <= 0 and size != 0 and self._tail:
            return self._tail
        count = max(left, 0) if size is None or size < 0 else max(min(size, left), 0)
        self._calls -= 1
        if count > self._budget or self._calls < 0:
            raise Unreadable("damaged (its parts are larger than any photo's)")
        self._stream.seek(self._place)
        data = self._stream.read(count)
        self._budget -= len(data)
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.end}[whence]
        self._place = max(start + offset, 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:  # for libtiff, which maps the file
        return self._stream.fileno()


def open_image(stream: Any, formats: list[str]) -> Image.Image:
    """Reads the header only. Our own size limit replaces Pillow's global one."""
    with _changed(Image, "MAX_IMAGE_PIXELS", None):
        return Image.open(stream, formats=formats)


def without_programs() -> AbstractContextManager[None]:
    """Keeps Pillow from starting Ghostscript (EPS) while another library decodes pictures."""
    return _changed(EpsImagePlugin, "gs_binary", False)


_changing = Lock()  # never held while reading: one file that hangs would stop all threads
_before: dict[str, list[Any]] = {}  # original value of a setting, once for each thread that uses it


@contextmanager
def _changed(module: Any, name: str, value: Any) -> Iterator[None]:
    """Changes a global setting of Pillow until the last thread that needs the change is done."""
    with _changing:
        users = _before.setdefault(name, [])
        users.append(users[0] if users else getattr(module, name))
        setattr(module, name, value)
    try:
        yield
    finally:
        with _changing:
            original = users.pop()
            if not users:
                setattr(module, name, original)


def end_of(stream: BinaryIO) -> int | None:
    """End of a WebP, AVIF or HEIC file according to its header; None for other formats.

    Their decoders read the whole file, which would be gigabytes for a file with a sparse tail.
    """
    start = _at(stream, 0, 12)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return 8 + int.from_bytes(start[4:8], "little")
    if start[4:8] != b"ftyp":
        return None
    return max((end for _, _, end in boxes(stream)), default=0)


def boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the boxes of an MP4, AVIF or HEIC file (ISO 14496-12)."""
    size, place = stream.seek(0, io.SEEK_END), 0
    for _ in range(1000):
        head = _at(stream, place, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or not head[4:8].isalnum() or 0 < length < 8:
            return
        end = size if length == 0 else place + length
        yield head[4:8], place, end
        place = end


def _at(stream: BinaryIO, place: int, count: int) -> bytes:
    stream.seek(place)
    return stream.read(count)
