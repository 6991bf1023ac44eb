"""Writers, one module per format. A file is written completely or not at all.

``create_writer("ply").write(path, mesh)`` writes a :class:`~sadr_cli.writers.mesh.Mesh` that
:func:`~sadr_cli.writers.mesh.face_mesh` made from a face. Formats are meshes and other data of a
face: landmarks, camera, maps over the photo and over the UV layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.writers.camera import CameraWriter
from sadr_cli.writers.coefficients import CoefficientsWriter
from sadr_cli.writers.glb import GLBWriter
from sadr_cli.writers.landmark_files import CSVWriter, PTSWriter
from sadr_cli.writers.maps import (
    AttentionWriter,
    DepthWriter,
    NormalsWriter,
    PNCCWriter,
    UVMapWriter,
    VisibilityWriter,
)
from sadr_cli.writers.mesh import FRAMES, Mesh, face_mesh
from sadr_cli.writers.npz import NPZWriter
from sadr_cli.writers.obj import OBJWriter
from sadr_cli.writers.pictures import TextureWriter
from sadr_cli.writers.ply import PLYWriter
from sadr_cli.writers.stl import STLWriter
from sadr_cli.writers.usdz import USDZWriter

__all__ = [
    "FORMATS",
    "FRAMES",
    "MESH_FORMATS",
    "PLAYING",
    "Mesh",
    "MeshWriter",
    "create_writer",
    "face_mesh",
]


class MeshWriter(Protocol):
    """Interface of all formats; ``suffix`` includes the dot.

    Formats other than meshes raise UsageError for a mesh without the data they need.
    """

    format: str
    suffix: str

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        """Write ``mesh``, and data of ``face`` that the format holds; returns the files, the main
        one first."""
        ...


_MESHES: tuple[type[MeshWriter], ...] = (
    OBJWriter,
    PLYWriter,
    GLBWriter,
    USDZWriter,
    STLWriter,
    NPZWriter,
)
_OTHERS: tuple[type[MeshWriter], ...] = (
    PTSWriter,
    CSVWriter,
    CameraWriter,
    CoefficientsWriter,
    TextureWriter,
    UVMapWriter,
    AttentionWriter,
    VisibilityWriter,
    DepthWriter,
    NormalsWriter,
    PNCCWriter,
)
_WRITERS: dict[str, type[MeshWriter]] = {w.format: w for w in (*_MESHES, *_OTHERS)}
FORMATS = tuple(_WRITERS)
MESH_FORMATS = tuple(w.format for w in _MESHES)
PLAYING = frozenset((GLBWriter.format, USDZWriter.format))  # formats that can be animated


def create_writer(name: str, face_model: Path | None = None) -> MeshWriter:
    """The writer of a format; UsageError for an unknown one.

    face_model: npz of the linear model for coefficients.
    """
    try:
        kind = _WRITERS[name.strip().lower()]
    except KeyError:
        raise UsageError(
            f"unknown format {name!r}: choose from {', '.join(FORMATS)}, separated by commas"
        ) from None
    return kind(face_model) if kind is CoefficientsWriter else kind()
