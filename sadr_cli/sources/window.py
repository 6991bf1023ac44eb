"""What a decoder may see of a file: its size on disk says nothing of how much is in it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

from PIL import EpsImagePlugin, Image

from sadr_cli.native import Lock

WHOLE = 256 * 1024**2  # bytes of a format that its decoder takes whole: far above any photo
_SPARE = 64 * 1024**2  # bytes that a small picture may take beyond its pixels
_CALLS = 100_000  # reads: a decoder that looks for something in gigabytes of zeros is stopped


class Unreadable(Exception):
    """Why a photo cannot be read, without the file's name."""


class Window(io.RawIOBase):
    """The first ``end`` bytes of ``stream``, of which no more is read than is allowed.

    end: given for formats that are taken whole (:func:`end_of`). tail: what follows the end, as
    often as it is asked for. Raises Unreadable beyond what is allowed.
    """

    def __init__(self, stream: BinaryIO, end: int | None = None, tail: bytes = b"") -> None:
        super().__init__()
        size = stream.seek(0, io.SEEK_END)
        self._stream, self._place, self._tail = stream, 0, tail
        self.end = size if end is None else min(end, size)
        self._budget, self._calls = _SPARE if end is None else WHOLE, _CALLS

    def allow(self, pixels: int, extra: int = 0) -> None:
        """Begin a new account: as much as a picture of so many ``pixels`` can take."""
        self._budget = _SPARE + 16 * pixels + extra
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

    def fileno(self) -> int:  # libtiff maps the file, and takes of it what its tags name
        return self._stream.fileno()


def open_image(stream: Any, formats: list[str]) -> Image.Image:
    """Header only. Pillow's own limit of size is a global one; ours is checked in its place."""
    with _changed(Image, "MAX_IMAGE_PIXELS", None):
        return Image.open(stream, formats=formats)


def without_programs() -> AbstractContextManager[None]:
    """While another library opens and decodes pictures: Pillow starts no Ghostscript (EPS)."""
    return _changed(EpsImagePlugin, "gs_binary", False)


_changing = Lock()  # never held while something is read: one file that hangs would stop all
_before: dict[str, list[Any]] = {}  # what a setting of Pillow's was, once for each thread in need


@contextmanager
def _changed(module: Any, name: str, value: Any) -> Iterator[None]:
    """A global setting of Pillow's has another value, until the last thread needs it no more."""
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
    """Where a WebP, AVIF or HEIC file ends by its own account; None: where the file does.

    Their decoders take all there is; a file made longer, with nothing on disk, is gigabytes then.
    """
    start = _at(stream, 0, 12)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return 8 + int.from_bytes(start[4:8], "little")
    if start[4:8] != b"ftyp":
        return None
    return max((end for _, _, end in boxes(stream)), default=0)


def boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, end) of what an MP4, AVIF or HEIC file is made of (ISO 14496-12)."""
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
