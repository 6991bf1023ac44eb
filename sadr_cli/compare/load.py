"""The inputs of ``sadr compare``: faces of runs and meshes of any program, in millimetres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError, UsageError
from sadr_cli.evaluation.data.scans import read_landmarks
from sadr_cli.export.read import MeshFile
from sadr_cli.export.subjects import FaceSource, Subject, find_faces, load_subject
from sadr_cli.pose import similarity, transform, without_pose
from sadr_cli.results.manifest import NAME
from sadr_cli.uv import MM_PER_UNIT, UVLayout
from sadr_cli.writers.mesh import FOREIGN

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_METRES = (".glb", ".gltf")  # glTF prescribes them


@dataclass(frozen=True, eq=False)
class Shape:
    """A surface to compare.

    vertices: (V, 3) in millimetres; triangles: (T, 3). frame: ``canonical`` for faces of sadr, in
    millimetres of the model's mean head; ``file`` for meshes of other programs.
    landmarks: (68, 3) in 300-W order, or None. unit: millimetres per unit of its file.
    """

    name: str
    vertices: NDArray[np.float64]
    triangles: NDArray[np.int32]
    frame: str
    landmarks: NDArray[np.float64] | None = None
    unit: float = 1.0

    @property
    def size(self) -> float:
        """Root mean square distance of the vertices from their centre, millimetres."""
        return float(np.sqrt(((self.vertices - self.vertices.mean(0)) ** 2).sum(1).mean()))

    def same_topology(self, other: Shape) -> bool:
        """Whether vertex k is the same point of the face in both."""
        return len(self.vertices) == len(other.vertices) and np.array_equal(
            self.triangles, other.triangles
        )


def find(text: str) -> list[FaceSource]:
    """The faces that an argument names: a mesh, a face of a run as ``RUN/NAME``, or a run folder.

    UsageError when there is none.
    """
    record = Path(f"{text}.json")
    if record.is_file() and not Path(text).is_file():
        return [FaceSource(record, root=record.parent)]
    path = Path(text)
    if not path.exists():
        folder = path.parent
        is_run = (folder / NAME).is_file()
        hint = f": {folder} has no face of that name" if is_run else ""
        raise UsageError(f"no mesh, run folder or face of a run at {text}{hint}")
    return list(find_faces(path))


def pairs(a: str, b: str) -> Iterator[tuple[FaceSource, FaceSource]]:
    """The pairs to compare: faces of the same name in two runs, or each face of ``a`` with ``b``.

    UsageError when neither side is one face and they have no name in common.
    """
    first, second = find(a), find(b)
    if len(second) == 1:
        yield from ((face, second[0]) for face in first)
        return
    if len(first) == 1:
        raise UsageError(f"{b} has {len(second)} faces: name the reference as {b}/NAME")
    by_name = {face.path.stem: face for face in second}
    both = [face for face in first if face.path.stem in by_name]
    if not both:
        raise UsageError(f"{a} and {b} have no face of the same name")
    yield from ((face, by_name[face.path.stem]) for face in both)


def load_shape(source: FaceSource, uv: UVLayout, units: str | None = None) -> Shape:
    """Read a face or mesh; InputError says what is wrong.

    units: of meshes of other programs, a key of :data:`UNITS`; None: metres for glTF, else
    millimetres.
    """
    subject = load_subject(source, uv)
    mesh = subject.mesh
    if mesh.frame == FOREIGN:
        return _foreign(subject, units)
    vertices = _canonical(subject, uv)
    index = _landmark_index(subject, uv)
    marks = None if index is None else vertices[index]
    return Shape(subject.stem, vertices, mesh.triangles, "canonical", marks)


def _foreign(subject: Subject, units: str | None) -> Shape:
    mesh, path = subject.mesh, subject.path
    name = units or ("m" if path.suffix.lower() in _METRES else "mm")
    scale = UNITS[name]
    found = read_landmarks(path)
    marks = found.points * scale if found is not None and found.ordered else None
    vertices = mesh.vertices * scale
    return _merged(Shape(subject.stem, vertices, mesh.triangles, FOREIGN, marks, scale))


def _merged(shape: Shape) -> Shape:
    """Merge the vertices that an STL or a mesh with seams has several times."""
    vertices, index = np.unique(shape.vertices, axis=0, return_inverse=True)
    if len(vertices) == len(shape.vertices):
        return shape
    triangles = index.reshape(-1)[shape.triangles].astype(np.int32)
    a, b, c = triangles.T
    whole = (a != b) & (b != c) & (c != a)
    return replace(shape, vertices=vertices, triangles=triangles[whole])


def _canonical(subject: Subject, uv: UVLayout) -> NDArray[np.float64]:
    """The face without its pose, in millimetres of the mean head."""
    mesh, record = subject.mesh, subject.record
    if subject.face is not None:
        return np.asarray(subject.face.shape, np.float64) * MM_PER_UNIT
    if mesh.frame in ("metric", "canonical"):
        return mesh.vertices
    if record is not None:
        return _without_pose(mesh, record)
    if len(mesh.vertices) == uv.vertex_count:  # photo pixels: laid onto the mean head
        mean = uv.mean_shape.astype(np.float64) * MM_PER_UNIT
        return transform(mesh.vertices, *similarity(mesh.vertices, mean))
    raise InputError(
        f"{subject.path} is in photo pixels, and its JSON file, which has the scale, is not beside "
        "it"
    )


def _without_pose(mesh: MeshFile, record: dict[str, Any]) -> NDArray[np.float64]:
    to_photo = mesh.to_photo
    if to_photo is None:
        to_photo = np.array(record["mesh"]["to_photo"], np.float64)
    pose = record["pose"]
    photo = mesh.vertices @ to_photo[:3, :3].T + to_photo[:3, 3]
    place = pose["scale"], pose["rotation_matrix"], pose["translation"]
    return without_pose(photo, *place) * MM_PER_UNIT


def _landmark_index(subject: Subject, uv: UVLayout) -> NDArray[Any] | None:
    """(68,) vertices of the landmarks, or None where they are unknown."""
    mesh = subject.mesh
    if len(mesh.vertices) == uv.vertex_count:
        return uv.landmark_indices
    if mesh.landmarks is not None:
        return mesh.landmarks
    known = subject.record["landmarks"].get("vertices") if subject.record else None
    index = np.array(known if isinstance(known, list) else [])
    if index.shape != (68,) or index.dtype.kind != "i":
        return None
    return index if 0 <= index.min() and index.max() < len(mesh.vertices) else None
