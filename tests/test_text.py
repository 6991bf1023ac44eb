"""Text as editors and shells write it."""

from __future__ import annotations

import codecs
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadr_cli.text import LineTooLong, decode, lines

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
LETTERS = st.characters(exclude_characters="\r\n\0\ufeff", codec="utf-8")
MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


class Trickle(io.RawIOBase):
    """A pipe that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        byte = self._data.read(1)
        buffer[: len(byte)] = byte
        return len(byte)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_utf_16(encoding: str, marked: bool, end: str) -> None:
    text = end.join(["photos/a b.jpg", "größe/日本.png", ""])
    data = (MARKS.get(encoding, b"") if marked else b"") + text.encode(encoding)
    assert list(lines(io.BytesIO(data))) == ["photos/a b.jpg", "größe/日本.png"]
    assert decode(data) == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_are_whole_however_slowly_they_come(encoding: str) -> None:
    stream = io.BufferedReader(Trickle("ä.jpg\nü.jpg".encode(encoding)))
    assert list(lines(stream)) == ["ä.jpg", "ü.jpg"]


def test_undecodable_bytes_survive() -> None:
    (name,) = lines(io.BytesIO(b"\xff\xe4.jpg"[1:]))
    assert name.encode("utf-8", "surrogateescape") == b"\xe4.jpg"


def test_empty_lines_count() -> None:
    assert list(lines(io.BytesIO(b"\n" * 70_000 + b"a"))) == [""] * 70_000 + ["a"]


def test_a_file_without_line_ends_is_not_read_to_its_end() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    with pytest.raises(LineTooLong):
        list(lines(io.BufferedReader(Endless())))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_some_text(data: bytes) -> None:
    assert all(isinstance(line, str) for line in lines(io.BytesIO(data)))
    assert isinstance(decode(data), str)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n\0\ufeff", codec="utf-8"), min_size=1))
)
def test_what_was_written_is_read(names: list[str]) -> None:
    text = "\n".join(names)
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert list(lines(io.BytesIO(text.encode(encoding)))) == names
