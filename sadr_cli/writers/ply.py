"""Binary PLY with normals, colours, visibility and confidence per vertex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.writers.mesh import Mesh

_TYPES = {"<f4": "float", "u1": "uchar"}


class PLYWriter:
    """Binary little-endian; ``visibility`` and ``confidence`` are float properties in [0, 1]."""

    format = "ply"
    suffix = ".ply"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        atomic_write(path, encode_ply(mesh))
        return [path]


def encode_ply(mesh: Mesh) -> bytes:
    columns: dict[str, tuple[str, Any]] = {}
    for names, kind, values in (
        ("x y z", "<f4", mesh.vertices),
        ("nx ny nz", "<f4", mesh.normals),
        ("red green blue", "u1", mesh.colors),
        ("visibility", "<f4", mesh.visibility),
        ("confidence", "<f4", mesh.confidence),
    ):
        if values is not None:
            table = np.asarray(values).reshape(len(mesh.vertices), -1)
            for k, name in enumerate(names.split()):
                columns[name] = (kind, table[:, k])
    vertex = np.empty(len(mesh.vertices), [(n, kind) for n, (kind, _) in columns.items()])
    for name, (_, values) in columns.items():
        vertex[name] = values
    corner = np.empty(len(mesh.triangles), [("n", "u1"), ("index", "<i4", (3,))])
    corner["n"], corner["index"] = 3, mesh.triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {line}" for line in mesh.comments),
        f"element vertex {len(vertex)}",
        *(f"property {_TYPES[kind]} {name}" for name, (kind, _) in columns.items()),
        f"element face {len(corner)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "\n".join(header).encode() + b"\n" + vertex.tobytes() + corner.tobytes()
