"""Wavefront OBJ with vertex colours (``v x y z r g b``), or with UVs, MTL and texture."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.writers.mesh import Mesh
from sadr_cli.writers.pictures import write_texture

# "0" to "1" in four decimals: enough to bring each of the 256 steps back.
_COLOR_TEXT = np.array([f" {c / 255:.4f}".encode() for c in range(256)], "S7")


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
        atomic_write(path, head.encode("utf-8", "surrogateescape") + self._body(mesh, textured))
        return written

    def _body(self, mesh: Mesh, textured: bool) -> bytes:
        decimals = 4 if mesh.frame == "image" else 5
        columns = [_prefix(len(mesh.vertices), b"v"), format_fixed(mesh.vertices, decimals)]
        if mesh.colors is not None and not textured:
            text = _COLOR_TEXT[mesh.colors].view(np.uint8).reshape(len(mesh.colors), -1)
            columns.append(text)
        parts = [_lines(columns)]
        if textured:
            assert mesh.uv is not None
            parts.append(_lines([_prefix(len(mesh.uv), b"vt"), format_fixed(mesh.uv, 6)]))
        parts.append(_faces(mesh.triangles.tobytes(), textured))
        return b"".join(parts)


def format_fixed(values: NDArray[Any], decimals: int) -> NDArray[np.uint8]:
    """Numbers (N, C) -> ASCII bytes (N, K): each as `` -12.345``, padded with NUL bytes.

    Digits by integer arithmetic on whole arrays: ten times faster than Python's ``%``.
    Not-finite numbers are refused.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a mesh with coordinates that are not finite cannot be written")
    scaled = np.rint(np.abs(values) * 10.0**decimals).astype(np.int64)
    negative = (values < 0) & (scaled > 0)
    digits = max(len(str(int(scaled.max(initial=0)))), decimals + 1)
    whole = digits - decimals
    out = np.zeros((*values.shape, 2 + digits + 1), np.uint8)
    out[..., 0] = ord(" ")
    out[..., 1] = np.where(negative, ord("-"), 0)
    rest = scaled
    for k in range(digits - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        if k < whole - 1:  # no leading zeros: a digit left of here, or nothing
            digit = np.where((digit > 0) | (rest > 0), digit + ord("0"), 0)
        else:
            digit += ord("0")
        out[..., 2 + k + (k >= whole)] = digit
    if decimals:
        out[..., 2 + whole] = ord(".")
    return out.reshape(len(values), -1)


def _prefix(count: int, keyword: bytes) -> NDArray[np.uint8]:
    return np.broadcast_to(np.frombuffer(keyword, np.uint8), (count, len(keyword)))


def _lines(columns: list[NDArray[np.uint8]]) -> bytes:
    """Columns of bytes side by side -> text, NUL bytes left out."""
    count = len(columns[0])
    text = np.concatenate([*columns, np.full((count, 1), ord("\n"), np.uint8)], 1)
    return text[text != 0].tobytes()


@lru_cache(maxsize=4)
def _faces(triangles: bytes, textured: bool) -> bytes:
    """The ``f`` lines; all faces of a run share them."""
    index = np.frombuffer(triangles, np.int32).reshape(-1, 3) + 1
    columns = [_prefix(len(index), b"f")]
    for k in range(3):
        text = format_fixed(index[:, k : k + 1], 0)[:, :-1]
        columns.append(text)
        if textured:  # "a/a": position and texture coordinate
            columns.append(np.where(text == ord(" "), ord("/"), text).astype(np.uint8))
    return _lines(columns)
