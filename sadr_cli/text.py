"""Text written by users (lists, boxes, tables) in any encoding, and text for tables."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from sadr_cli.errors import UsageError

_MARKS = (  # UTF-32 first, as its mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_BLOCK = 65536

FORMULA = ("=", "+", "-", "@")  # characters that start a formula in spreadsheets
_UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # controls, undecodable bytes, line separators


class LineTooLong(ValueError):
    """A line too long to be text: another kind of file, or only null bytes."""


def standard_input() -> BinaryIO:
    """Standard input as bytes; UsageError if it is closed."""
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("nothing to read: standard input is closed")
    return sys.stdin.buffer


def encoding_of(start: bytes) -> tuple[str, str]:
    """(encoding, error handler) of the text that begins with ``start``.

    Determined by a byte-order mark (Notepad, Excel, PowerShell's ``>``) or a UTF-16 line end; else
    that of the file system, which preserves undecodable file names.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace"
    for line_end, encoding in ((b"\n\0", "utf-16-le"), (b"\0\n", "utf-16-be")):
        place = start.find(line_end)
        halves = start[0:place:2], start[1:place:2]
        low, high = halves if encoding.endswith("le") else halves[::-1]
        # NUL-separated names of one letter look similar, but have no line ends.
        if place >= 0 and place % 2 == 0 and 0 not in low and 2 * high.count(0) >= len(high):
            return encoding, "replace"
    return sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def decode(data: bytes) -> str:
    """The whole text, without its byte-order mark."""
    return data.decode(*encoding_of(data[:_BLOCK]))


def pieces(stream: BinaryIO, start: bytes = b"") -> Iterator[str]:
    """Text in pieces as they arrive; ``start`` was read from ``stream`` before."""
    read = stream.read1 if isinstance(stream, io.BufferedReader) else stream.read
    block = start if len(start) >= 4 else start + stream.read(4)
    block += read(_BLOCK)
    encoding, errors = encoding_of(block)
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    while block:
        yield decoder.decode(block)
        block = read(_BLOCK)
    yield decoder.decode(b"", final=True)


def split(parts: Iterator[str], separator: str, limit: int) -> Iterator[str]:
    """Text between ``separator``s as it arrives; LineTooLong beyond ``limit`` characters."""
    rest = ""
    for part in parts:
        if separator == "\0" and not rest and not part.strip(separator):
            continue  # sparse files have gigabytes of them
        *whole, rest = (rest + part).split(separator)
        for text in whole:
            if len(text) > limit:
                raise LineTooLong
            yield text
        if len(rest) > limit:
            raise LineTooLong
    if rest:
        yield rest


def lines(stream: BinaryIO, limit: int = 1 << 20) -> Iterator[str]:
    """Lines without line ends, as they arrive."""
    for line in split(pieces(stream), "\n", limit):
        yield line.removesuffix("\r")


def table_text(text: str) -> str:
    """``text`` for a table cell, without formulas and control characters."""
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSHOWN else c for c in text)
    return "'" + shown if shown.startswith(FORMULA) else shown


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
