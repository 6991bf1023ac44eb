"""Text that users write: lists, boxes, tables; in whatever encoding their editor chose."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from sadr_cli.errors import UsageError

_MARKS = (  # of the first bytes; UTF-32's begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_BLOCK = 65536

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the start of one
_UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # controls, undecodable bytes, line separators


class LineTooLong(ValueError):
    """A line that is none: a file of another kind, or one of nothing but zero bytes."""


def standard_input() -> BinaryIO:
    """Its bytes; UsageError where the process has none."""
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("nothing to read: standard input is closed")
    return sys.stdin.buffer


def encoding_of(start: bytes) -> tuple[str, str]:
    """(encoding, how to treat what is wrong) of the text that begins with ``start``.

    By its byte-order mark (Notepad, Excel, PowerShell's ``>``), or a line end in UTF-16 without
    one; else that of the file system, so that undecodable names of files survive.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace"
    for line_end, encoding in ((b"\n\0", "utf-16-le"), (b"\0\n", "utf-16-be")):
        place = start.find(line_end)
        halves = start[0:place:2], start[1:place:2]
        low, high = halves if encoding.endswith("le") else halves[::-1]
        # Names of one letter with NUL between them look alike, but have no line ends.
        if place >= 0 and place % 2 == 0 and 0 not in low and 2 * high.count(0) >= len(high):
            return encoding, "replace"
    return sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def decode(data: bytes) -> str:
    """The whole text, without its byte-order mark."""
    return data.decode(*encoding_of(data[:_BLOCK]))


def pieces(stream: BinaryIO, start: bytes = b"") -> Iterator[str]:
    """Text as it comes in; ``start`` was read from ``stream`` before."""
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
    """What lies between ``separator``s, as it comes in; LineTooLong beyond ``limit`` characters."""
    rest = ""
    for part in parts:
        if separator == "\0" and not rest and not part.strip(separator):
            continue  # a sparse file has gigabytes of them
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
    """Lines without their ends, as they come in."""
    for line in split(pieces(stream), "\n", limit):
        yield line.removesuffix("\r")


def table_text(text: str) -> str:
    """``text`` for a cell of a table: no formula, and no character that a terminal obeys."""
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSHOWN else c for c in text)
    return "'" + shown if shown.startswith(FORMULA) else shown


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
