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
from sadr_cli.writers.numbers import color_texts, decimal_fields, rows, whole_field
from sadr_cli.writers.pictures import write_texture


class OBJWriter:
    """Text. Vertex colours are read by MeshLab, Blender (3.3+), Open3D and trimesh.

    With a texture there are also ``NAME.mtl`` and ``NAME.texture.png`` and, if it is known which
    texels come from the photo, ``NAME.real.png``.
    """

    format = "obj"
    suffix = ".obj"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
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

    def _body(self, mesh: Mesh, textured: bool) -> Iterator[bytes]:
        decimals = 4 if mesh.frame == "image" else 5
        fields = [f for column in mesh.vertices.T for f in decimal_fields(column, decimals)]
        if mesh.colors is not None and not textured:
            fields += [(np.take(color_texts(), c), 6) for c in mesh.colors.T]
        yield rows("v", fields, "\n")
        if textured:
            assert mesh.uv is not None
            yield rows("vt", [f for column in mesh.uv.T for f in decimal_fields(column, 6)], "\n")
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
    return rows("f", [whole_field(column) for column in numbers.T], "\n")
