"""The mark in every picture and video made by sadr, so that they are never taken for photos.

A PNG text, a JPEG or GIF comment, a WebP chunk, or a free box in an MP4; the pixels do not change.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from pathlib import Path

PICTURE, CROP = "picture", "crop"
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_GIF, _RIFF = b"GIF8", b"RIFF"
_HEAD = 33  # bytes of a PNG's signature and its first chunk
_START, _END = 512, 64  # bytes of a file that are searched


def marked(data: bytes, kind: str = PICTURE) -> bytes:
    """A PNG, JPEG, GIF or WebP file with the mark; ``kind`` is PICTURE, or CROP of a photo."""
    text = _text(kind)
    if data.startswith(_GIF):  # before the final byte
        return data[:-1] + b"\x21\xfe" + bytes([len(text)]) + text + b"\0" + data[-1:]
    if data.startswith(_RIFF):
        chunk = b"MARK" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        return data[:4] + struct.pack("<I", len(data) + len(chunk) - 8) + data[8:] + chunk
    if data.startswith(_PNG):
        chunk = b"tEXt" + text
        check = struct.pack(">I", zlib.crc32(chunk))
        return data[:_HEAD] + struct.pack(">I", len(text)) + chunk + check + data[_HEAD:]
    # After the JFIF segment, which must be the first.
    place = 4 + int.from_bytes(data[4:6], "big") if data[2:4] == b"\xff\xe0" else 2
    return data[:place] + b"\xff\xfe" + struct.pack(">H", 2 + len(text)) + text + data[place:]


def mark_video(path: Path) -> None:
    """Append the mark to a finished MP4 file."""
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(_text(PICTURE)), b"free") + _text(PICTURE))


def mark_of(path: str | os.PathLike[str]) -> str | None:
    """PICTURE or CROP for a file made by sadr, else None, also for unreadable files."""
    try:
        # Opening a pipe must not block.
        wait_not = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.open(path, os.O_RDONLY | wait_not)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        seen = os.read(file, _START)
        if _ends_with_it(seen):
            os.lseek(file, -_END, os.SEEK_END)
            seen += os.read(file, _END)
    except OSError:
        return None
    finally:
        os.close(file)
    if not (seen.startswith((_PNG, _JPEG)) or _ends_with_it(seen)):
        return None
    return next((kind for kind in (PICTURE, CROP) if _text(kind) in seen), None)


def _ends_with_it(start: bytes) -> bool:
    """Whether files with this start have the mark at the end."""
    return start[4:8] == b"ftyp" or start.startswith((_GIF, _RIFF))


def _text(kind: str) -> bytes:
    return b"Software\0made by sadr: " + kind.encode()
