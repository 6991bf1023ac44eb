"""Binary STL: geometry only, for printing and CAD."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.writers.mesh import Mesh


class STLWriter:
    """Binary; the 80-byte header states frame and units, which STL itself lacks."""

    format = "stl"
    suffix = ".stl"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        atomic_write(path, encode_stl(mesh))
        return [path]


def encode_stl(mesh: Mesh) -> bytes:
    corners = np.asarray(mesh.vertices, np.float32)[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    record = [("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    table = np.zeros(len(corners), record)
    table["normal"], table["corners"] = normal, corners
    # Must not begin with "solid", which marks text files.
    header = f"sadr face mesh frame={mesh.frame} units={mesh.units} y up z to viewer".encode()
    return header[:80].ljust(80) + np.uint32(len(table)).tobytes() + table.tobytes()
