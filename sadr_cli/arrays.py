"""Arrays of untrusted ``.npz`` and MATLAB files, which may be damaged or malicious.

Nothing is unpickled, and files that would decompress to gigabytes are rejected. ``.mat`` files have
a reader here because SciPy's can crash the process: it recurses into nested cells without limit and
reads beyond its tables for unknown number types.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import MissingDataError
from sadr_cli.files import atomic_write
from sadr_cli.folder import read_file

_SMALL = 256 << 20  # bytes to which any file may decompress
_RATIO = 50  # limit of the compression ratio for larger files; real data has about 2

_LARGEST_MAT = 4 << 30  # bytes

# MATLAB's level 5 format ("MAT-File Format", The MathWorks): elements, array classes and flags,
# number types, and byte order.
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _NUMBERS, _COMPLEX = 2, range(6, 16), 0x800
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_ORDERS = {b"IM": "<", b"MI": ">"}


def read_npz(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """The arrays ``required``, and those of ``optional`` that exist, of the file ``path``.

    Raises MissingDataError.
    """
    if not path.is_file():
        raise MissingDataError(f"no file {path}")
    try:
        with ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            members = {name: f"{name}.npy" for name in (*required, *optional)}
            members = {name: member for name, member in members.items() if member in sizes}
            _check_size(path, sum(sizes[member] for member in members.values()))
            arrays = {}
            for name, member in members.items():
                with archive.open(member) as file:
                    _check_header(file, sizes[member])
                with archive.open(member) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    except MissingDataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many types for damaged files
        raise MissingDataError(f"{path} is damaged or not an npz{_reason(error)}") from error
    for name in required:
        if name not in arrays:
            raise MissingDataError(f"{path} has no array {name!r}")
    return arrays


def read_mat(path: Path, names: Sequence[str], struct_name: str = "") -> dict[str, NDArray[Any]]:
    """The arrays ``names`` that exist in a MATLAB level 5 file; they must be real numbers.

    struct_name: if the file has a 1 x 1 struct of that name, its fields are read instead.
    Raises MissingDataError.
    """
    if not path.is_file():
        raise MissingDataError(f"no file {path}")
    try:
        arrays: dict[str, NDArray[Any]] = {}
        for element in _elements(path):
            array = _Array.of(*element)
            if array.name in names:
                arrays[array.name] = array.numbers(path)
            elif struct_name and array.name == struct_name:
                arrays = array.fields(path, names)
    except MissingDataError:
        raise
    except Exception as error:  # including those of zlib, struct and NumPy
        raise MissingDataError(f"{path} is damaged or not a MATLAB file{_reason(error)}") from error
    return arrays


def write_npz(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    *,
    root: Path | None = None,
    compressed: bool = False,
) -> None:
    """Write ``arrays`` as an ``.npz``, completely or not at all; ``root`` as in atomic_write."""
    buffer = io.BytesIO()
    save: Any = np.savez_compressed if compressed else np.savez
    save(buffer, **arrays)
    atomic_write(path, buffer.getbuffer(), root=root)


def _reason(error: Exception) -> str:
    if isinstance(error, struct.error | EOFError):
        return ": it ends too early"
    lines = str(error).strip().splitlines()
    return f": {lines[0]}" if lines else ""


def _check_size(path: Path, unpacked: int) -> None:
    limit = max(_SMALL, _RATIO * path.stat().st_size)
    if unpacked > limit:
        raise MissingDataError(
            f"{path} would decompress to more than {limit >> 20} MB, {_RATIO} times its size: it "
            "is damaged or malicious"
        )


def _check_header(file: Any, size: int) -> None:
    """ValueError unless the array described by an ``.npy`` header has the size of its data."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    if read is None:
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    count = 1
    for side in shape:
        count *= side  # Python's integers do not overflow
    if file.tell() + count * dtype.itemsize != size:
        raise ValueError(f"an array of {shape} does not fill its {size} bytes")


def _elements(path: Path) -> Iterator[tuple[memoryview, str]]:
    """The decompressed body of every variable, and its byte order."""
    if path.stat().st_size > _LARGEST_MAT:
        raise MissingDataError(f"{path} is larger than {_LARGEST_MAT >> 30} GB")
    data = memoryview(read_file(path))
    order = _ORDERS.get(bytes(data[126:128]))
    if order is None:
        raise MissingDataError(
            f"{path} is damaged or not a MATLAB level 5 file: save it in MATLAB with -v7"
        )
    limit = max(_SMALL, _RATIO * len(data))
    place = 128
    while place < len(data):
        kind, length, rest = _tag(data[place:], order)
        body = rest[:length]
        if len(body) < length:
            raise EOFError
        place += 8 + length
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(body, limit + 1)
            limit -= len(unpacked)
            if limit < 0:
                _check_size(path, sys.maxsize)
            kind, _, body = _tag(memoryview(unpacked), order)
        if kind == _MATRIX:
            yield body, order


def _tag(data: memoryview, order: str) -> tuple[int, int, memoryview]:
    kind, length = struct.unpack_from(f"{order}2I", data)
    return kind, length, data[8:]


def _element(data: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Type and body of the first element of ``data``, and what follows it."""
    kind, length, rest = _tag(data, order)
    if kind >> 16:  # a small element: the tag contains its length and up to four bytes
        return kind & 0xFFFF, data[4 : 4 + (kind >> 16)], rest
    return kind, rest[:length], rest[length + -length % 8 :]


@dataclass(frozen=True)
class _Array:
    """A MATLAB array: flags (class in the low byte), dimensions, name, and the unparsed rest."""

    flags: int
    sides: tuple[int, ...]
    name: str
    body: memoryview
    order: str

    @classmethod
    def of(cls, data: memoryview, order: str) -> _Array:
        _, flags, rest = _element(data, order)
        _, sides, rest = _element(rest, order)
        _, name, rest = _element(rest, order)
        shape = struct.unpack(f"{order}{len(sides) // 4}i", sides)
        (value,) = struct.unpack_from(f"{order}I", flags)
        return cls(value, shape, bytes(name).decode("latin-1"), rest, order)

    def numbers(self, path: Path, name: str = "") -> NDArray[Any]:
        """Its values; MissingDataError if they are not real numbers."""
        if self.flags & 0xFF not in _NUMBERS or self.flags & _COMPLEX:
            raise MissingDataError(f"{path}: {name or self.name} must be real numbers")
        kind, data, _ = _element(self.body, self.order)
        if kind not in _TYPES:
            raise ValueError("numbers of an unknown type")
        return np.frombuffer(data, self.order + _TYPES[kind]).reshape(self.sides, order="F")

    def fields(self, path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Its fields among ``names``; MissingDataError unless it is a 1 x 1 struct."""
        if self.flags & 0xFF != _STRUCT or math.prod(self.sides) != 1:
            raise MissingDataError(f"{path}: its {self.name} is not a struct of numbers")
        _, longest, rest = _element(self.body, self.order)
        _, packed, rest = _element(rest, self.order)
        width = struct.unpack(f"{self.order}i", longest)[0]
        out = {}
        for start in range(0, len(packed), max(width, 1)):
            name = bytes(packed[start : start + width]).split(b"\0")[0].decode("latin-1")
            _, field, rest = _element(rest, self.order)
            if name in names:
                out[name] = _Array.of(field, self.order).numbers(path, name)
        return out
