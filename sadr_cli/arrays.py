"""Arrays of ``.npz`` and MATLAB files that others made, damaged or hostile ones included.

Nothing is unpickled; nothing that unpacks to gigabytes, or that claims to, is unpacked; and a
``.mat`` is looked through before SciPy reads it, which recurses into nested cells until the
process dies.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import MissingDataError

_SMALL = 256 << 20  # bytes that any file may unpack to
_RATIO = 50  # of unpacked to packed bytes; real measurements are near 2

_LARGEST_MAT = 4 << 30  # bytes

# MATLAB's level 5 format: types of elements, classes of arrays, and the order of bytes.
_FLAGS, _MATRIX, _COMPRESSED = 6, 14, 15
_STRUCT, _NUMBERS = 2, range(6, 16)
_ORDERS = {b"IM": "<", b"MI": ">"}


def read_npz(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """The named arrays of ``path``, those of ``optional`` where they are there.

    MissingDataError says what is wrong with the file.
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
        raise MissingDataError(f"{path} is damaged or no npz{_reason(error)}") from error
    for name in required:
        if name not in arrays:
            raise MissingDataError(f"{path} has no array {name!r}")
    return arrays


def read_mat(path: Path, names: Sequence[str], struct_name: str = "") -> dict[str, NDArray[Any]]:
    """Those of the arrays ``names`` that a MATLAB file holds, real numbers all.

    struct_name: where the file has a 1 x 1 struct of that name, its fields are read instead.
    MissingDataError says what is wrong with the file.
    """
    if not path.is_file():
        raise MissingDataError(f"no file {path}")
    try:
        _look_through(path, {*names}, struct_name)
        from scipy.io import loadmat

        raw = loadmat(str(path), variable_names=[*names, *([struct_name] if struct_name else [])])
        if struct_name in raw:
            fields = raw[struct_name]
            raw = {name: fields[name][0, 0] for name in fields.dtype.names}
        arrays = {name: np.asarray(raw[name]) for name in names if name in raw}
    except MissingDataError:
        raise
    except Exception as error:  # SciPy raises many types for damaged files
        raise MissingDataError(f"{path} is damaged or no MATLAB file{_reason(error)}") from error
    for name, values in arrays.items():
        if values.dtype.kind not in "fiub":
            raise MissingDataError(f"{path}: {name} must be real numbers")
    return arrays


def _reason(error: Exception) -> str:
    if isinstance(error, struct.error | EOFError):
        return ": it ends too early"
    lines = str(error).strip().splitlines()
    return f": {lines[0]}" if lines else ""


def _check_size(path: Path, unpacked: int) -> None:
    limit = max(_SMALL, _RATIO * path.stat().st_size)
    if unpacked > limit:
        raise MissingDataError(
            f"{path} would unpack to more than {limit >> 20} MB, {_RATIO} times its size: it is "
            "damaged or made to fill the memory"
        )


def _check_header(file: Any, size: int) -> None:
    """ValueError unless the array that an ``.npy`` announces is as large as what follows."""
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


def _look_through(path: Path, names: set[str], struct_name: str) -> None:
    """Refuse a ``.mat`` that unpacks to too much, or whose wanted variables are no numbers."""
    if path.stat().st_size > _LARGEST_MAT:
        raise MissingDataError(f"{path} is larger than {_LARGEST_MAT >> 30} GB: no MATLAB file is")
    data = memoryview(path.read_bytes())
    order = _ORDERS.get(bytes(data[126:128]))
    if order is None:
        raise MissingDataError(
            f"{path} is damaged or no MATLAB file of level 5: save it in MATLAB with -v7"
        )
    limit = max(_SMALL, _RATIO * len(data))
    place = 128
    while place < len(data):
        kind, length = struct.unpack_from(f"{order}2I", data, place)
        body = data[place + 8 : place + 8 + length]
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
            array_class, sides, name, rest = _array_head(body, order)
            if name in names and array_class not in _NUMBERS:
                raise MissingDataError(f"{path}: {name} must be real numbers")
            if name == struct_name and not (
                array_class == _STRUCT and math.prod(sides) == 1 and _numbers_only(rest, order)
            ):
                raise MissingDataError(f"{path}: its {name} is no struct of numbers")


def _tag(data: memoryview, order: str) -> tuple[int, int, memoryview]:
    kind, length = struct.unpack_from(f"{order}2I", data)
    return kind, length, data[8:]


def _element(data: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Type and body of the first element of ``data``, and what follows it."""
    kind, length, rest = _tag(data, order)
    if kind >> 16:  # a small element: its length, and up to four bytes, in the tag itself
        return kind & 0xFFFF, data[4 : 4 + (kind >> 16)], rest
    return kind, rest[:length], rest[length + -length % 8 :]


def _array_head(body: memoryview, order: str) -> tuple[int, list[int], str, memoryview]:
    """Class, sides and name of an array, and what follows its name."""
    kind, flags, rest = _element(body, order)
    if kind != _FLAGS or len(flags) != 8:  # SciPy takes it for granted
        raise ValueError("an array begins with something else than its flags")
    array_class = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    _, sides, rest = _element(rest, order)
    _, name, rest = _element(rest, order)
    shape = list(struct.unpack(f"{order}{len(sides) // 4}i", sides))
    return array_class, shape, bytes(name).decode("latin-1"), rest


def _numbers_only(rest: memoryview, order: str) -> bool:
    """Whether as many arrays of numbers follow a struct's head as it has names of fields."""
    _, longest, rest = _element(rest, order)
    _, names, rest = _element(rest, order)
    for _ in range(len(names) // max(struct.unpack(f"{order}i", longest)[0], 1)):
        kind, field, rest = _element(rest, order)
        if kind != _MATRIX or (len(field) and _array_head(field, order)[0] not in _NUMBERS):
            return False
    return not len(rest)
