"""Arrays of numbers as text, from tables of digits: many times faster than Python's formatting.

A field is a column of texts of at most eight characters, each stored as one 64-bit integer padded
with NUL bytes, and the number of characters that it takes in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = tuple[NDArray[np.uint64], int]
_TABLE_DIGITS = 4  # before the point; Python formats larger numbers


def decimal_fields(values: NDArray[Any], decimals: int) -> list[Field]:
    """Each of the numbers (N,) after a space, all texts of one length.

    The longest numbers have ``decimals`` decimals; shorter ones have more, instead of padding.
    Raises ValueError for numbers that are not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("a mesh with coordinates that are not finite cannot be written")
    size = np.abs(values, dtype=np.float64)
    digits = len(f"{size.max(initial=0):.{decimals}f}") - decimals - 1
    negative = (values < 0) & (size > 0.5 / 10.0 ** (decimals + digits - 1))
    if (unsigned := (values < 0) & ~negative).any():
        size[unsigned] = 0  # no "-0.000"
    signed = bool(negative.any())
    shorter = np.zeros(len(size), np.uint8)  # digits fewer before the point
    for k in range(1, digits):
        shorter += (size < 10.0**k).view(np.uint8)
    more = shorter + (~negative).view(np.uint8) if signed else shorter
    if digits > _TABLE_DIGITS:
        width = digits + signed + 1 + decimals
        numbers = zip(np.where(negative, -size, size).tolist(), more.tolist(), strict=True)
        texts = [f" {v:.{decimals + k}f}"[: width + 1] for v, k in numbers]
        return [(part, 8) for part in _from_texts(texts).T]
    size *= np.take(10.0 ** (decimals + np.arange(digits + 1)), more)
    most = 10.0 ** (digits + decimals) - 1  # 9.9996 stays below 10
    np.minimum(size, np.where(negative, most, 10 * most + 9) if signed else most, out=size)
    rest = np.rint(size, out=size).astype(np.int64)
    ends: list[Field] = []
    for count in [4] * (decimals // 4) + [decimals % 4] * (decimals % 4 > 0):
        whole = rest // 10**count
        ends.append((np.take(_all_digits(count), rest - whole * 10**count), count))
        rest = whole
    table, starts = _leading(digits, signed)
    rest += np.take(starts, shorter + np.uint8(digits) * negative if signed else shorter)
    return [(np.take(table, rest), digits + signed + 2), *ends[::-1]]


def whole_field(values: NDArray[Any]) -> Field:
    """Each of the non-negative integers (N,) after a space."""
    table = _whole(int(values.max(initial=0)) + 1)
    return np.take(table, values), len(str(len(table) - 1)) + 1


@lru_cache(maxsize=1)
def color_texts() -> NDArray[np.uint64]:
    """Bytes as fractions from 0 to 1, after a space; three decimals distinguish all 256 values."""
    return _from_texts([f" {c / 255:.3f}" for c in range(256)])[:, 0]


def rows(start: str, fields: Sequence[Field], end: str) -> bytes:
    """One text per number: ``start``, the fields side by side, ``end``."""
    count = len(fields[0][0])
    places = np.cumsum([len(start), *(width for _, width in fields)]).tolist()
    stride = places[-1] + len(end)
    out = np.empty((count, stride), np.uint8)
    for place, (text, width) in zip(places, fields, strict=False):
        if place + 8 <= stride:  # the next field covers what is not used of the eight bytes
            np.ndarray(count, np.uint64, out.data, place, (stride,))[:] = text
        else:
            characters = np.ascontiguousarray(text).view(np.uint8).reshape(count, 8)
            out[:, place : place + width] = characters[:, :width]
    out[:, : len(start)] = np.frombuffer(start.encode(), np.uint8)
    out[:, places[-1] :] = np.frombuffer(end.encode(), np.uint8)
    return out.tobytes().replace(b"\0", b"")


def tuples(values: NDArray[Any], decimals: int) -> str:
    """``( x, y, z),( x, y, z)...`` of an array (N, C), as in the text of USD."""
    comma: Field = (np.full(len(values), ord(","), np.uint64), 1)
    fields: list[Field] = []
    for column in values.T:
        fields += [*decimal_fields(column, decimals), comma]
    return rows("(", fields[:-1], "),")[:-1].decode()


def listed(values: NDArray[Any], decimals: int) -> str:
    """``x, y...`` of an array (N,), as in the text of USD; decimals 0: of integers."""
    fields = decimal_fields(values, decimals) if decimals else [whole_field(values)]
    return rows("", fields, ",")[:-1].decode()


@lru_cache(maxsize=16)
def _leading(digits: int, signed: bool) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Texts with sign and point, for each number of digits that are missing before the point, and
    where they start in the table: those of positive numbers, then those of negative ones."""
    parts: list[NDArray[np.uint64]] = []
    signs = ((b" ", digits + signed), (b" -", digits)) if signed else ((b" ", digits),)
    for sign, count in signs:
        numbers = _characters(count)
        for shorter in range(digits):
            point = digits - shorter
            parts.append(_packed(sign, numbers[:, :point], b".", numbers[:, point:]))
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])[:-1]


@lru_cache(maxsize=8)
def _all_digits(count: int) -> NDArray[np.uint64]:
    """Texts of all numbers of ``count`` digits, with leading zeros."""
    return _packed(_characters(count))


def _characters(count: int) -> NDArray[np.uint8]:
    """(10^count, count) the digits of all numbers, with leading zeros."""
    numbers = np.arange(10**count)[:, None] // 10 ** np.arange(count)[::-1]
    return (numbers % 10 + ord("0")).astype(np.uint8)


def _packed(*parts: bytes | NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N,) texts of the parts side by side, the same bytes in each row or (N, K) characters."""
    count = max(len(part) for part in parts if isinstance(part, np.ndarray))
    out = np.zeros((count, 8), np.uint8)
    place = 0
    for part in parts:
        columns = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        out[:, place : place + columns.shape[-1]] = columns
        place += columns.shape[-1]
    return out.view(np.uint64)[:, 0]


@lru_cache(maxsize=4)
def _whole(limit: int) -> NDArray[np.uint64]:
    return _from_texts([f" {n}" for n in range(limit)])[:, 0]


def _from_texts(texts: list[str]) -> NDArray[np.uint64]:
    """(N, K) eight characters each, padded with NUL bytes."""
    width = -(-max(map(len, texts)) // 8) * 8
    data = "".join(text.ljust(width, "\0") for text in texts).encode()
    return np.frombuffer(data, np.uint64).reshape(len(texts), -1)
