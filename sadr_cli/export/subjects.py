"""Faces that can be exported: finding them, and reading their files into records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import image_to_crop
from sadr_cli.errors import InputError, NothingToDoError, UsageError
from sadr_cli.export.read import SUFFIXES, MeshFile, is_face, read_mesh
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.folder import open_file
from sadr_cli.landmarks import JAW
from sadr_cli.pose import without_pose
from sadr_cli.render.rasterize import vertex_normals
from sadr_cli.results import face_record, manifest
from sadr_cli.results.entry import Stamp
from sadr_cli.uv import UVLayout
from sadr_cli.writers.mesh import FOREIGN

_UNKNOWN: NDArray[Any] = np.ones((1, 1), np.float32)  # attention that is not stored


@dataclass(frozen=True, eq=False)
class Subject:
    """One face to export.

    stem: name of its files. mesh: as read. face: None for a mesh without a record.
    record: its JSON document, or None. photo: path of its photo; stamp: the photo's size and time.
    exact: visibility, P and attention are those of the network, from an npz.
    attended: the attention is known, from an npz or the record; else only the geometry is used.
    """

    stem: str
    path: Path
    mesh: MeshFile
    face: Face | None = None
    record: dict[str, Any] | None = None
    photo: Path | None = None
    stamp: Stamp = None
    exact: bool = False
    attended: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the photo."""
        if self.record is None:
            return None
        image = self.record["image"]
        return int(image["height"]), int(image["width"])


@dataclass(frozen=True)
class FaceSource:
    """Files of a face: its JSON document or mesh, and its photo.

    root: the folder in which it was found, whose links are not followed; None for a file named by
    the user. damage: why it cannot be read, if already known.
    """

    path: Path
    photo: Path | None = None
    stamp: Stamp = None
    root: Path | None = None
    damage: str | None = None


def find_faces(source: Path) -> Iterator[FaceSource]:
    """The faces of a run folder, an exported folder, a JSON document or a mesh file.

    Raises UsageError if it does not exist, MissingDataError for a folder of another version,
    NothingToDoError if it has no faces.
    """
    if not source.exists():
        raise UsageError(f"no run folder or mesh at {source}")
    if source.is_file():
        yield FaceSource(source)
        return
    if os.path.lexists(source / manifest.NAME):
        yield from _faces_of_run(source)
        return
    found = False
    for path in sorted(source.glob("*.json")):
        if is_record(path, source):
            found = True
            yield FaceSource(path, root=source)
    if not found:
        raise NothingToDoError(
            f"{source} holds no results of sadr: give the folder of a run, or a mesh file"
        )


def _faces_of_run(folder: Path) -> Iterator[FaceSource]:
    found = False
    for entry in manifest.read_manifest(folder):
        if isinstance(entry, manifest.Damage):
            found = True
            yield FaceSource(folder / manifest.NAME, damage=str(entry))
            continue
        photo = Path(entry.key) if Path(entry.key).is_absolute() else None
        for face in entry.faces:
            found = True
            yield FaceSource(folder / face.json, photo, entry.stamp, folder)
    if not found:
        raise NothingToDoError(f"{folder} holds no faces: nothing to export")


def is_record(path: Path, root: Path | None = None) -> bool:
    """Whether ``path`` is a face's JSON document."""
    try:
        with open_file(path, root) as file:
            return f'"{face_record.FORMAT}"'.encode() in file.read(200)
    except OSError:
        return False


def load_subject(source: FaceSource, uv: UVLayout) -> Subject:
    """Read a face; InputError if its files are missing, damaged or of another version."""
    if source.damage is not None:
        raise InputError(source.damage)
    path, root = source.path, source.root
    document = path if path.suffix.lower() == ".json" else path.with_suffix(".json")
    record = None
    if path == document or is_record(document, root):
        record = face_record.read_face_json(document, root)
    mesh_path = path if path != document else _mesh_beside(document)
    mesh = read_mesh(mesh_path, root)
    if record is not None:
        _check_counts(mesh, record["mesh"], mesh_path)
    if mesh.soup:
        _weld(mesh, uv)
    stem = document.stem if record is not None else path.stem
    whole = len(mesh.vertices) == uv.vertex_count and np.array_equal(mesh.triangles, uv.triangles)
    exact = whole and is_face(mesh)
    if record is None or not whole:
        face = _face_of_npz(mesh) if exact else None
        known = face is not None
        return Subject(
            stem, mesh_path, mesh, face, record, source.photo, source.stamp, attended=known
        )
    face = _face_of_npz(mesh) if exact else _face_of_record(record, mesh, uv, mesh_path)
    photo = source.photo or Path(record["source"])
    attended = exact or record.get("attention") is not None
    return Subject(stem, mesh_path, mesh, face, record, photo, source.stamp, exact, attended)


def _mesh_beside(document: Path) -> Path:
    """The most complete mesh of a record."""
    for suffix in SUFFIXES:
        path = document.with_suffix(suffix)
        if os.path.lexists(path):
            return path
    raise InputError(f"{document}: its mesh is missing: reconstruct the photo again")


def _check_counts(mesh: MeshFile, described: dict[str, Any], path: Path) -> None:
    """InputError if a mesh of sadr is not as large as its record describes."""
    if mesh.frame == FOREIGN:  # changed by another program
        return
    found = {"triangles": len(mesh.triangles)}
    if not mesh.soup:
        found["vertices"] = len(mesh.vertices)
    for what, number in found.items():
        if described.get(what, number) != number:
            raise InputError(
                f"{path}: damaged: {number} {what} where there were {described[what]}: "
                "reconstruct it again"
            )


def _weld(mesh: MeshFile, uv: UVLayout) -> None:
    """Merge the corners in an STL of sadr into its vertices again."""
    if len(mesh.triangles) == len(uv.triangles):
        vertices = np.zeros((uv.vertex_count, 3))
        vertices[uv.triangles.ravel()] = mesh.vertices
        mesh.vertices, mesh.triangles = vertices, uv.triangles
    mesh.soup = False


def _face_of_npz(mesh: MeshFile) -> Face:
    a = mesh.arrays
    detection, (x, y, size) = None, a["crop"]
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
        crop=Crop(float(x), float(y), float(size), float(a.get("crop_angle", 0.0))),
        detection=detection,
        confidence=float(a["face_confidence"]),
    )


def _face_of_record(record: dict[str, Any], mesh: MeshFile, uv: UVLayout, path: Path) -> Face:
    """The face of a record, with the vertices of its mesh; P is not stored in these files."""
    to_photo = mesh.to_photo
    if to_photo is None:
        if "to_photo" not in record["mesh"]:
            raise InputError(f"{path}: it and its record lack its position in the photo")
        to_photo = np.array(record["mesh"]["to_photo"], np.float64)
    pose, crop, marks = record["pose"], record["crop"], record["landmarks"]
    vertices = mesh.vertices @ to_photo[:3, :3].T + to_photo[:3, 3]
    rotation = np.array(pose["rotation_matrix"], np.float64)
    scale, translation = float(pose["scale"]), np.array(pose["translation"], np.float64)
    landmarks = np.array(marks["points"], np.float64)
    apart = float(np.abs(vertices[uv.landmark_indices] - landmarks).max())
    square = Crop(crop["center_x"], crop["center_y"], crop["size"], crop.get("angle", 0.0))
    if not apart < 0.02 * square.size + 0.1:
        raise InputError(f"{path}: does not belong to the record beside it")
    attention = _UNKNOWN
    if record.get("attention") is not None:
        attention = np.array(record["attention"]["values"], np.float32)
    seen = mesh.visibility
    if seen is None:
        seen = _visibility(vertices, uv, attention, square)
    confidence = record["confidence"]
    contour = None
    if "contour_jaw" in marks:
        contour = landmarks.copy()
        contour[JAW] = marks["contour_jaw"]
    return Face(
        vertices=vertices,
        landmarks=landmarks,
        shape=without_pose(vertices, scale, rotation, translation),
        visibility=seen,
        landmark_visibility=np.array(marks["visibility"], np.float64),
        landmark_confidence=np.array(marks["confidence"], np.float64),
        attention=attention,
        scale=scale,
        rotation=rotation,
        translation=translation,
        pose_face=vertices,
        crop=square,
        confidence=0.0 if confidence is None else float(confidence),
        warnings=tuple(record["warnings"]),
        contour=contour,
    )


def _visibility(
    vertices: NDArray[np.float64], uv: UVLayout, attention: NDArray[Any], crop: Crop
) -> NDArray[np.float32]:
    """(V,) visibility of Eq 10: the attention where the surface faces the viewer, else 0."""
    facing = vertex_normals(vertices, uv.triangles[:, ::-1])[:, 2] >= 0
    side = len(attention)
    cell = np.rint(image_to_crop(vertices[:, :2], crop, side)).astype(int).clip(-1, side) + 1
    padded = np.pad(attention, 1)  # 0 outside
    return (padded[cell[:, 1], cell[:, 0]] * facing).astype(np.float32)
