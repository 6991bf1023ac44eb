"""Wavefront OBJ with vertex colours (``v x y z r g b``), or with UVs, MTL and texture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.files import atomic_stream, atomic_write
from sadr_cli.uv import UVLayout
from sadr_cli.writers.mesh import Mesh
from sadr_cli.writers.pictures import write_texture


class OBJWriter:
    """Text; opens everywhere. Vertex colours are read by MeshLab, Blender (3.3+), Open3D, trimesh.

    With a texture there are also ``NAME.mtl`` and ``NAME.texture.png``, and where it is known
    which texels are the photo's own, ``NAME.real.png``.
    """

    format = "obj"
    suffix = ".obj"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        """Write ``mesh``; returns the files written, the mesh first."""
        textured = mesh.textured
        head = "".join(f"# {line}\n" for line in mesh.comments)
        written = [path]
        if textured:
            assert mesh.texture is not None
            material = path.with_suffix(".mtl")
            pictures = write_texture(path, mesh)
            picture = pictures[0]
            lines = ["newmtl face", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", f"map_Kd {picture.name}"]
            atomic_write(material, ("\n".join(lines) + "\n").encode())
            head += f"mtllib {material.name}\nusemtl face\n"
            written += [material, *pictures]
        with atomic_stream(path) as file:
            file.write(head.encode("utf-8", "surrogateescape"))
            file.writelines(self._body(mesh, textured))
        return written

    def _body(self, mesh: Mesh, textured: bool) -> Iterator[bytes | memoryview]:
        # Lines of one length are written as they are; of others, padding would have to go first.
        fields = _numbers(mesh.vertices, 4 if mesh.frame == "image" else 5, fill="0")
        if mesh.colors is not None and not textured:
            fields += [(np.take(_color_texts(), c), 6) for c in mesh.colors.T]
        yield _lines("v", fields)
        if textured:
            assert mesh.uv is not None
            yield _lines("vt", _numbers(mesh.uv, 6, fill="0"))
        layout = mesh.layout
        shared = layout is not None and layout.triangles is mesh.triangles
        yield _layout_faces(layout, textured) if shared else _faces(mesh.triangles, textured)


@lru_cache(maxsize=4)
def _layout_faces(layout: UVLayout, textured: bool) -> bytes:
    """The ``f`` lines that all faces of a run share."""
    return _faces(layout.triangles, textured)


def _faces(triangles: NDArray[Any], textured: bool) -> bytes:
    """The ``f`` lines; with a texture "a/a", position and texture coordinate."""
    numbers = triangles + 1
    if textured:
        return "".join(f"f {a}/{a} {b}/{b} {c}/{c}\n" for a, b, c in numbers.tolist()).encode()
    return _lines("f", _numbers(numbers, 0)).tobytes().translate(None, b"\0")


def format_fixed(values: NDArray[Any], decimals: int) -> NDArray[np.uint8]:
    """Numbers (N, C) -> ASCII bytes (N, K): each as `` -12.345``, padded with NUL bytes.

    By tables of digits: many times faster than Python's ``%``. Not-finite numbers are refused.
    """
    values = np.asarray(values)
    return _pack(_numbers(values.reshape(-1, 1), decimals)).reshape(len(values), -1)


# Texts of at most eight characters are kept as whole numbers of 64 bits, padded with NUL bytes: a
# field is such an array (N,) and how many of the eight bytes are used.
_Field = tuple[NDArray[np.uint64], int]
_TABLE_DIGITS = 5  # before the point


def _numbers(values: NDArray[Any], decimals: int, fill: str = "\0") -> list[_Field]:
    """The fields of numbers (N, C), column by column; see :func:`format_fixed`.

    fill: what brings the numbers of a column to one length; "0": zeros in front of them.
    """
    if not np.isfinite(values).all():
        raise ValueError("a mesh with coordinates that are not finite cannot be written")
    fields: list[_Field] = []
    for column in values.T:
        scaled = np.rint(np.abs(column, dtype=np.float64) * 10.0**decimals)
        most = int(scaled.max(initial=0))
        digits = max(len(str(most)) - decimals, 1)
        if digits > _TABLE_DIGITS:
            fields += _printf(column, decimals, fill)
            continue
        rest = scaled.astype(np.int64)
        ends: list[_Field] = []
        for count in [4] * (decimals // 4) + [decimals % 4] * (decimals % 4 > 0):
            whole = rest // 10**count
            ends.append((np.take(_fraction(count), rest - whole * 10**count), count))
            rest = whole
        negative = (column < 0) & (scaled > 0)
        limit = 10**digits if decimals else most + 1
        if signed := bool(negative.any()):
            rest = rest + limit * negative
        table = _whole(limit, signed, decimals > 0, fill)
        fields += [(np.take(table, rest), digits + 1 + signed + (decimals > 0)), *ends[::-1]]
    return fields


@lru_cache(maxsize=16)
def _whole(limit: int, signed: bool, point: bool, fill: str) -> NDArray[np.uint64]:
    """Texts of 0 to limit - 1 after a space, with ``signed`` also, after them, with a minus."""
    end, numbers = "." if point else "", [str(n) for n in range(limit)]
    digits = len(numbers[-1])
    texts = [f" {n.rjust(digits + signed, fill)}{end}" for n in numbers]
    if signed:
        texts += [f" -{n.rjust(digits, fill)}{end}" for n in numbers]
    return _texts(texts)[:, 0]


@lru_cache(maxsize=8)
def _fraction(digits: int) -> NDArray[np.uint64]:
    """Texts of all numbers of at most four ``digits``, with leading zeros."""
    return _texts([f"{n:0{digits}}" for n in range(10**digits)])[:, 0]


@lru_cache(maxsize=1)
def _color_texts() -> NDArray[np.uint64]:
    """ "0" to "1" in three decimals: enough to bring each of the 256 steps back."""
    return _texts([f" {c / 255:.3f}" for c in range(256)])[:, 0]


def _printf(values: NDArray[Any], decimals: int, fill: str) -> list[_Field]:
    """For numbers that no table holds: meshes of other programs."""
    rounded = np.round(values.astype(np.float64), decimals) + 0.0  # no "-0.0"
    texts = [f"{v:.{decimals}f}" for v in rounded.tolist()]
    if fill == "0":
        width = -(-max(map(len, texts)) // 8) * 8 - 1
        texts = [text.zfill(width) for text in texts]  # behind the sign
    return [(part, 8) for part in _texts([f" {text}" for text in texts]).T]


def _texts(texts: list[str]) -> NDArray[np.uint64]:
    """(N, K) eight characters each, padded with NUL bytes."""
    width = -(-max(map(len, texts)) // 8) * 8
    data = "".join(text.ljust(width, "\0") for text in texts).encode()
    return np.frombuffer(data, np.uint64).reshape(len(texts), -1)


def _pack(fields: list[_Field]) -> NDArray[np.uint8]:
    """(N, K) fields side by side. All eight bytes are written, from left to right, so that the
    next field covers what is not used."""
    count = len(fields[0][0])
    starts = np.cumsum([0, *(width for _, width in fields)]).tolist()
    stride = starts[-2] + 8
    out = np.zeros((count, stride), np.uint8)
    for start, (text, _) in zip(starts, fields, strict=False):
        np.ndarray(count, np.uint64, out.data, start, (stride,))[:] = text
    return out


def _lines(keyword: str, fields: list[_Field]) -> memoryview:
    """One line per row; numbers are padded as they came."""
    count = len(fields[0][0])
    starts = np.cumsum([len(keyword), *(width for _, width in fields)]).tolist()
    stride = starts[-1] + 1
    out = np.empty((count, stride), np.uint8)
    for start, (text, width) in zip(starts, fields, strict=False):
        if start + 8 <= stride:  # see _pack
            np.ndarray(count, np.uint64, out.data, start, (stride,))[:] = text
        else:
            characters = np.ascontiguousarray(text).view(np.uint8).reshape(count, 8)
            out[:, start : start + width] = characters[:, :width]
    out[:, : len(keyword)] = np.frombuffer(keyword.encode(), np.uint8)
    out[:, -1] = ord("\n")
    return out.reshape(-1).data
