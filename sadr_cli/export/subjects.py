"""What can be exported: faces of a run folder, their files read back into records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError, MissingDataError, NothingToDoError, UsageError
from sadr_cli.export.read import SUFFIXES, MeshFile, read_mesh
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.render.rasterize import vertex_normals
from sadr_cli.results import face_record, manifest
from sadr_cli.uv import UVLayout

_UNKNOWN = np.ones((1, 1))  # attention that no file holds


@dataclass(frozen=True, eq=False)
class Subject:
    """One face to export.

    stem: name of its files. mesh: as read. face: its record, None for a lone mesh.
    record: its JSON document, or None. photo: where its photo was; stamp: size and time then.
    exact: visibility, P and attention are the network's own (else geometry stands in).
    """

    stem: str
    path: Path
    mesh: MeshFile
    face: Face | None = None
    record: dict[str, Any] | None = None
    photo: Path | None = None
    stamp: Any = None
    exact: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the photo."""
        if self.record is None:
            return None
        image = self.record["image"]
        return int(image["height"]), int(image["width"])


@dataclass(frozen=True)
class Entry:
    """Where a face lies: its JSON document or lone mesh, and its photo."""

    path: Path
    photo: Path | None = None
    stamp: Any = None


def find_entries(source: Path) -> Iterator[Entry]:
    """The faces of a run folder, an exported folder, a JSON document or a mesh file.

    Raises UsageError when there is no such thing, MissingDataError for a folder of another
    version, NothingToDoError when it has no faces.
    """
    if not source.exists():
        raise UsageError(f"no run folder or mesh at {source}")
    if source.is_file():
        yield Entry(source)
        return
    listing = source / manifest.NAME
    if listing.is_file():
        yield from _run_entries(source, listing)
        return
    found = False
    for path in sorted(source.glob("*.json")):
        if is_record(path):
            found = True
            yield Entry(path)
    if not found:
        raise NothingToDoError(
            f"{source} holds no results of sadr: give the folder of a run, or a mesh file"
        )


def _run_entries(folder: Path, listing: Path) -> Iterator[Entry]:
    try:
        document = json.loads(listing.read_bytes())
        if document["format"] != "sadr-manifest":
            raise KeyError
        schema = document.get("schema")
        if schema != manifest.SCHEMA:
            raise MissingDataError(
                f"{folder} was written by another version of sadr (layout {schema}, this one reads "
                f"{manifest.SCHEMA}): reconstruct it again, or export with that version"
            )
        inputs = document["inputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingDataError(f"{listing} is damaged or not of sadr: run again") from error
    found = False
    for entry in inputs:
        stamp = tuple(entry["stamp"]) if isinstance(entry.get("stamp"), list) else None
        photo = Path(entry["key"]) if Path(entry["key"]).is_absolute() else None
        for face in entry.get("faces", ()):
            if "json" in face:
                found = True
                yield Entry(folder / Path(face["json"]).name, photo, stamp)
    if not found:
        raise NothingToDoError(f"{folder} holds no faces: nothing to export")


def is_record(path: Path) -> bool:
    """Whether ``path`` is a face's JSON document."""
    try:
        with path.open("rb") as file:
            return b'"sadr-face"' in file.read(200)
    except OSError:
        return False


def load_subject(entry: Entry, uv: UVLayout) -> Subject:
    """Read a face; InputError when its files are gone, damaged or of another version."""
    path = entry.path
    document = path if path.suffix.lower() == ".json" else path.with_suffix(".json")
    record = _read_record(document) if path == document or is_record(document) else None
    mesh_path = path if path != document else _mesh_beside(document)
    mesh = read_mesh(mesh_path)
    if mesh.soup:
        _weld(mesh, uv)
    stem = document.stem if record is not None else path.stem
    whole = len(mesh.vertices) == uv.vertex_count and np.array_equal(mesh.triangles, uv.triangles)
    if record is None or not whole:
        face = _face_of_npz(mesh) if whole and "vertices_photo" in mesh.arrays else None
        return Subject(stem, mesh_path, mesh, face, record, entry.photo, entry.stamp)
    exact = "vertices_photo" in mesh.arrays
    face = _face_of_npz(mesh) if exact else _face_of_record(record, mesh, uv, mesh_path)
    photo = entry.photo or Path(record["source"])
    return Subject(stem, mesh_path, mesh, face, record, photo, entry.stamp, exact)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        schema = record["schema"]
        if record["format"] != "sadr-face":
            raise KeyError("format")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}: the result is not whole") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged, or not written by sadr") from error
    if schema != face_record.SCHEMA:
        raise MissingDataError(
            f"{path} was written by another version of sadr (layout {schema}, this one reads "
            f"{face_record.SCHEMA}): reconstruct it again"
        )
    return dict(record)


def _mesh_beside(document: Path) -> Path:
    """The mesh of a record that says most."""
    for suffix in SUFFIXES:
        path = document.with_suffix(suffix)
        if path.is_file():
            return path
    raise InputError(f"{document}: its mesh is gone: reconstruct the photo again")


def _weld(mesh: MeshFile, uv: UVLayout) -> None:
    """Give the corners of an STL of sadr their vertices back."""
    if len(mesh.triangles) == len(uv.triangles):
        vertices = np.zeros((uv.vertex_count, 3))
        vertices[uv.triangles.ravel()] = mesh.vertices
        mesh.vertices, mesh.triangles = vertices, uv.triangles
    mesh.soup = False


def _face_of_npz(mesh: MeshFile) -> Face:
    a = mesh.arrays
    detection = None
    if "detection_box" in a:
        detection = Detection(a["detection_box"], float(a["detection_score"]))
    return Face(
        vertices=a["vertices_photo"],
        landmarks=a["landmarks"],
        shape=a["shape"],
        visibility=a["visibility"],
        landmark_visibility=a["landmark_visibility"],
        landmark_confidence=a["landmark_confidence"],
        attention=a["attention"],
        scale=float(a["scale"]),
        rotation=a["rotation"],
        translation=a["translation"],
        pose_face=a["pose_face_photo"],
        crop=Crop(*(float(v) for v in a["crop"])),
        detection=detection,
        confidence=float(a["face_confidence"]),
    )


def _face_of_record(record: dict[str, Any], mesh: MeshFile, uv: UVLayout, path: Path) -> Face:
    """The record's face on the mesh's vertices; P and attention are not in these files."""
    try:
        to_photo = mesh.to_photo
        if to_photo is None:
            to_photo = np.array(record["mesh"]["to_photo"], np.float64)
        pose, crop, marks = record["pose"], record["crop"], record["landmarks"]
        vertices = mesh.vertices @ to_photo[:3, :3].T + to_photo[:3, 3]
        rotation = np.array(pose["rotation_matrix"], np.float64)
        scale, translation = float(pose["scale"]), np.array(pose["translation"], np.float64)
        up: NDArray[np.float64] = vertices * (1, -1, 1)
        shape = (up - translation) @ rotation / scale
        seen = mesh.visibility
        if seen is None:
            normals = vertex_normals(vertices, uv.triangles[:, ::-1])
            seen = (normals[:, 2] >= 0).astype(np.float32)
        landmarks = np.array(marks["points"], np.float64)
        apart = float(np.abs(vertices[uv.landmark_indices] - landmarks).max())
        square = Crop(crop["center_x"], crop["center_y"], crop["size"])
        if not apart < 0.02 * square.size + 0.1:
            raise InputError(f"{path}: does not belong to the record beside it")
        return Face(
            vertices=vertices,
            landmarks=landmarks,
            shape=shape,
            visibility=seen,
            landmark_visibility=np.array(marks["visibility"], np.float64),
            landmark_confidence=np.array(marks["confidence"], np.float64),
            attention=_UNKNOWN,
            scale=scale,
            rotation=rotation,
            translation=translation,
            pose_face=vertices,
            crop=square,
            confidence=float(record["confidence"]),
            warnings=tuple(record["warnings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the record beside it is damaged: reconstruct again") from error
