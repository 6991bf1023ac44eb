"""Conversion of one face to the requested files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError, UsageError
from sadr_cli.export.contact_sheet import CELL, Cell
from sadr_cli.export.read import MeshFile
from sadr_cli.export.subjects import Subject
from sadr_cli.export.topology import Topology, apply_topology
from sadr_cli.export.turntable import Pictures, frontal_on_ground, write_pictures
from sadr_cli.files import atomic_write
from sadr_cli.gallery.cards import thumbnail
from sadr_cli.open3d_import import import_open3d
from sadr_cli.results import manifest
from sadr_cli.results.face_record import write_face_json
from sadr_cli.sources import SourceList, iter_frames, read_image
from sadr_cli.uv import UVLayout
from sadr_cli.writers import MESH_FORMATS
from sadr_cli.writers.compose import Look, compose_mesh, write_formats
from sadr_cli.writers.mesh import FOREIGN, FRAMES, Mesh

INDEX = "landmark_vertices.csv"
TOPOLOGY = "vertices.csv"
_RESERVED = frozenset(Path(name).stem for name in (INDEX, TOPOLOGY, manifest.NAME))


@dataclass(frozen=True)
class ExportSettings:
    """What to write, and where.

    frame: of ``writers.FRAMES``, or None for that of the source. photos: folder in which moved
    photos are found by name. triangles, ears, mouth: arguments of the topology; meshes of other
    programs are decimated one by one.
    """

    out: Path
    formats: tuple[str, ...]
    frame: str | None = None
    texture_size: int | None = None
    photos: Path | None = None
    triangles: int | None = None
    ears: bool = True
    mouth: bool = True
    max_pixels: int = 200_000_000
    pictures: Pictures = field(default_factory=Pictures)
    sheet: bool = False
    face_model: Path | None = None

    @property
    def drawn(self) -> bool:
        """Whether pictures are requested, which need the face's texture."""
        return bool(self.pictures) or self.sheet

    def drawn_look(self, frame: str) -> Look:
        """:meth:`look`, with a texture for the pictures."""
        look = self.look(frame)
        return replace(look, formats=(*look.formats, "texture")) if self.drawn else look

    def look(self, frame: str) -> Look:
        return Look(self.formats, frame, self.texture_size, self.face_model)


@dataclass(frozen=True)
class Written:
    """names: of the files of a face. notes: for the user. cell: for the contact sheet, if any."""

    names: list[str]
    notes: list[str]
    cell: Cell | None = None


def export_subject(
    subject: Subject, uv: UVLayout, settings: ExportSettings, topology: Topology | None
) -> Written:
    """Write the files of a face.

    InputError if data of this face is missing, UsageError if the request does not apply to it.
    """
    notes: list[str] = []
    if subject.face is None or subject.record is None or subject.size is None:
        return _export_lone(subject, uv, settings, topology)
    frame = settings.frame or str(subject.record["mesh"]["frame"])
    if frame not in FRAMES:
        frame = "image"
    look = settings.look(frame)
    _check_exact(subject, settings.formats)
    full = settings.drawn_look(frame)
    image = _photo_for(subject, settings, full, notes)
    mesh = compose_mesh(subject.face, uv, full, subject.size, image)
    mesh = replace(mesh, name=subject.stem)
    if image is None:
        mesh = _keep_looks(mesh, subject.mesh, full)
    mesh = _as_known(mesh, subject, image is not None, notes)
    drawn = write_pictures(
        settings.out, subject.stem, mesh, subject.face, settings.pictures, settings.ears
    )
    cell = _cell(subject, mesh, image, uv) if settings.sheet else None
    if not settings.formats:
        return Written(drawn, notes, cell)
    mesh = apply_topology(mesh, topology)
    # Maps show the whole face, even if the mesh is reduced.
    whole = replace(mesh, layout=uv)
    files, names = write_formats(settings.out, subject.stem, whole, subject.face, look)
    record = dict(subject.record)
    record["mesh"], record["files"] = mesh.describe(), files
    if mesh.landmarks is not None:
        record["landmarks"] = {**record["landmarks"], "vertices": mesh.landmarks.tolist()}
    write_face_json(settings.out / f"{subject.stem}.json", record)
    return Written([*names, f"{subject.stem}.json", *drawn], notes, cell)


def _as_known(mesh: Mesh, subject: Subject, colored: bool, notes: list[str]) -> Mesh:
    """``mesh`` with the visibility and confidence stored in the face's files."""
    if not subject.exact:  # P is unknown
        mesh = replace(mesh, confidence=subject.mesh.confidence)
    if not subject.attended:  # visibility needs more than geometry
        mesh = replace(mesh, visibility=subject.mesh.visibility)
        if colored and subject.mesh.visibility is None:
            notes.append(
                f"{subject.stem}: its record, of an older version, does not say what covers the "
                "face: occluders may be on the mesh; reconstruct it again"
            )
    return mesh


def _cell(subject: Subject, mesh: Mesh, image: NDArray[np.uint8] | None, uv: UVLayout) -> Cell:
    """The face in its photo, or from the front if the photo is missing."""
    face, about = subject.face, ""
    if face is not None:
        yaw, pitch, roll = face.euler
        turned = f"yaw {round(yaw)}  pitch {round(pitch)}  roll {round(roll)}"
        about = f"{turned}  conf. {face.confidence:.2f}"
    if face is not None and image is not None:
        return Cell(thumbnail(image, face, uv, CELL), subject.stem, about)
    return Cell(frontal_on_ground(mesh, face, CELL), subject.stem, about)


def free_stem(stem: str) -> str:
    """``stem``, changed if it is the name of one of the export's own files."""
    return f"{stem}_face" if stem.casefold() in _RESERVED else stem


def write_index(folder: Path, uv: UVLayout, topology: Topology | None) -> list[str]:
    """Write the index tables: landmarks -> vertices; exported vertices -> those of the layout."""
    ids = np.arange(uv.vertex_count) if topology is None else topology.vertices
    position = np.full(uv.vertex_count, -1)
    position[ids] = np.arange(len(ids))
    rows, columns = uv.rows_columns
    lines = ["landmark,landmark_from_1,vertex,layout_vertex,uv_row,uv_column"]
    for k, v in enumerate(uv.landmark_indices):
        lines.append(f"{k},{k + 1},{position[v]},{v},{rows[v]},{columns[v]}")
    atomic_write(folder / INDEX, ("\n".join(lines) + "\n").encode())
    if topology is None:
        return [INDEX]
    lines = ["vertex,layout_vertex,uv_row,uv_column"]
    lines += [f"{k},{v},{rows[v]},{columns[v]}" for k, v in enumerate(ids)]
    atomic_write(folder / TOPOLOGY, ("\n".join(lines) + "\n").encode())
    return [INDEX, TOPOLOGY]


def load_photo(subject: Subject, photos: Path | None, max_pixels: int) -> NDArray[np.uint8]:
    """The subject's photo; InputError if it is missing or has changed."""
    record, was = subject.record, subject.photo
    if record is None or was is None or subject.size is None:
        raise InputError(f"{subject.path}: has no record that names its photo")
    tried = [was] if photos is None else [photos / was.name, photos / Path(record["source"]).name]
    path = next((p for p in tried if p.is_file()), None)
    if path is None:
        raise InputError(
            f"{subject.stem}: its photo {was} is missing: give its folder with --photos"
        )
    image = _read_picture(path, record["image"], max_pixels)
    if image.shape[:2] != subject.size:
        height, width = subject.size
        raise InputError(
            f"{subject.stem}: {path} is not its photo ({width} x {height} then, "
            f"{image.shape[1]} x {image.shape[0]} now): give the folder of the right one"
        )
    size = subject.stamp[0] if isinstance(subject.stamp, tuple) else None
    if photos is None and size is not None and path.stat().st_size != size:
        raise InputError(f"{subject.stem}: {path} has changed: reconstruct it again")
    return image


def _read_picture(path: Path, about: dict[str, Any], max_pixels: int) -> NDArray[np.uint8]:
    """The photo, or the video frame, of a record."""
    if about.get("index") is None:
        return read_image(path, max_pixels=max_pixels)
    start = max(float(about.get("time") or 0.0) - 1.0, 0.0)
    source = SourceList().source(path)
    for frame in iter_frames(source, start=start, max_pixels=max_pixels):
        if frame.index == about["index"]:
            return frame.image
    raise InputError(f"{path}: no longer has frame {about['index']}")


def _photo_for(
    subject: Subject, settings: ExportSettings, look: Look, notes: list[str]
) -> NDArray[np.uint8] | None:
    """The photo, if colours are needed; None, with a note, if it is missing but not essential."""
    if not (look.wants_texture or look.wants_colors):
        return None
    asked = bool(settings.texture_size) or "texture" in settings.formats
    try:
        return load_photo(subject, settings.photos, settings.max_pixels)
    except InputError as error:
        if asked and subject.mesh.texture is None:
            raise
        colored = subject.mesh.colors is not None or subject.mesh.texture is not None
        kept = "the colours of its mesh are kept" if colored else "no colours"
        notes.append(f"{error}; {kept}")
        return None


def _keep_looks(mesh: Mesh, old: MeshFile, look: Look) -> Mesh:
    """``mesh``, which has none, with the colours and texture of the source file."""
    texture = old.texture if look.wants_texture else None
    return replace(mesh, colors=old.colors, texture=texture)


def _check_exact(subject: Subject, formats: tuple[str, ...]) -> None:
    known = {
        "visibility": subject.attended or subject.mesh.visibility is not None,
        "attention": subject.attended,
    }
    for name, there in known.items():
        if name in formats and not there:
            raise UsageError(
                f"{subject.path} lacks the {name}, which older versions did not store: "
                "reconstruct it again"
            )


def _export_lone(
    subject: Subject, uv: UVLayout, settings: ExportSettings, topology: Topology | None
) -> Written:
    """A mesh without a record is converted as it is; meshes of sadr keep their landmarks."""
    old = subject.mesh
    others = [name for name in settings.formats if name not in (*MESH_FORMATS, "texture", "csv")]
    if others:
        raise UsageError(
            f"{subject.path}: {', '.join(others)} need the face's record, a JSON file of the same "
            "name beside it"
        )
    if settings.frame not in (None, old.frame):
        raise UsageError(
            f"{subject.path}: changing the frame {old.frame} needs the JSON file of sadr beside "
            "the mesh"
        )
    if settings.texture_size and old.texture is None:
        raise UsageError(f"{subject.path}: has neither a texture nor a record that names its photo")
    ours = old.frame != FOREIGN and np.array_equal(old.triangles, uv.triangles)
    if old.frame == "image" and {"glb", "usdz"} & set(settings.formats):
        raise UsageError(
            f"{subject.path}: is in photo pixels, but GLB and USDZ need metres: put its JSON file "
            "beside it"
        )
    mesh = Mesh(
        vertices=old.vertices.astype(np.float32),
        triangles=old.triangles,
        frame=old.frame,
        colors=old.colors,
        uv=uv.uv_coordinates if ours else old.uv,
        texture=old.texture,
        visibility=old.visibility,
        confidence=old.confidence,
        landmarks=uv.landmark_indices if ours else old.landmarks,
        to_photo=old.to_photo,
        layout=uv if ours else None,
        name=subject.stem,
    )
    if ours:
        mesh = apply_topology(mesh, topology)
    elif not (settings.ears and settings.mouth):
        option = "--open-mouth" if settings.ears else "--crop-ears"
        raise UsageError(f"{subject.path}: {option} applies only to meshes of sadr")
    elif settings.triangles is not None:
        mesh = _decimate(mesh, settings.triangles)
    drawn = write_pictures(settings.out, subject.stem, mesh, None, settings.pictures, settings.ears)
    cell = _cell(subject, mesh, None, uv) if settings.sheet else None
    look = settings.look(mesh.frame)
    _, names = write_formats(settings.out, subject.stem, mesh, None, look)
    return Written([*names, *drawn], [], cell)


def _decimate(mesh: Mesh, triangles: int) -> Mesh:
    """Quadric decimation of any mesh; keeps colours but no other vertex data or texture."""
    if len(mesh.triangles) <= triangles:
        return mesh

    o3d = import_open3d("--decimate")
    solid = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)),
        o3d.utility.Vector3iVector(mesh.triangles),
    )
    if mesh.colors is not None:
        solid.vertex_colors = o3d.utility.Vector3dVector(mesh.colors / 255.0)
    small = solid.simplify_quadric_decimation(triangles)
    colors: Any = None
    if mesh.colors is not None:
        colors = np.rint(np.asarray(small.vertex_colors) * 255).astype(np.uint8)
    return Mesh(
        np.asarray(small.vertices).astype(np.float32),
        np.asarray(small.triangles).astype(np.int32),
        mesh.frame,
        colors=colors,
        name=mesh.name,
    )
