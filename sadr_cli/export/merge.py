"""Several photos of one person -> one pose-free face and one texture.

Each vertex is the mean of the shapes, weighted by its visibility in each photo and the confidence
of each face. So is each texel, after the colours have been matched to those of the photo that shows
most. Expressions are averaged too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sadr_cli.documents import indented, plain
from sadr_cli.errors import InputError, UsageError
from sadr_cli.export.contact_sheet import CELL, Cell
from sadr_cli.export.convert import ExportSettings, Written, free_stem, load_photo
from sadr_cli.export.subjects import FaceSource, Subject
from sadr_cli.export.topology import Topology, apply_topology
from sadr_cli.export.turntable import frontal_on_ground, write_pictures
from sadr_cli.faces import Face
from sadr_cli.files import atomic_write, safe_name
from sadr_cli.folder import read_file
from sadr_cli.render.fill import fill_hidden, soften
from sadr_cli.render.maps import resize_map
from sadr_cli.render.seen import seen_map
from sadr_cli.render.texture import TEXTURE_SIZE, sample_map, smooth_over_uv
from sadr_cli.text import decode
from sadr_cli.uv import MM_PER_UNIT, SIZE, UVLayout
from sadr_cli.version import __version__
from sadr_cli.writers import MESH_FORMATS, Mesh
from sadr_cli.writers.compose import write_formats
from sadr_cli.writers.mesh import vertex_confidence
from sadr_cli.writers.rim import layout_rim

_LEAST = 0.1  # weight of hidden vertices, so that every vertex has some
_SHARP = 4  # exponent of the texels' weights: prefers the better photo without a seam
_GAIN = (0.5, 2.0)


@dataclass(frozen=True)
class Person:
    """name: of the files. entries: the faces of this person."""

    name: str
    entries: tuple[FaceSource, ...]


def find_people(rules: Sequence[Path], entries: Sequence[FaceSource]) -> list[Person]:
    """Assign faces to people: a text file lists the photos of one person, a folder contains them.

    A text file has one photo or face name per line (``IMG_1.jpg``, ``photos/IMG_1.jpg``,
    ``IMG_1_face1``) and is named after the person. A folder may have one subfolder per person.
    UsageError if a rule, or a line of it, matches no face.
    """
    entries = [entry for entry in entries if entry.damage is None]
    people: list[Person] = []
    for rule in rules:
        if rule.is_dir():
            people += _from_folder(rule, entries)
        elif rule.is_file():
            people.append(_from_list(rule, entries))
        else:
            raise UsageError(f"--merge {rule}: no such file or folder")
    people = [replace(person, name=free_stem(safe_name(person.name))) for person in people]
    names = [person.name.casefold() for person in people]
    twice = next((p.name for p in people if names.count(p.name.casefold()) > 1), None)
    if twice is not None:
        raise UsageError(f"--merge: two people have the name {twice!r}: rename one")
    return people


def _from_folder(folder: Path, entries: Sequence[FaceSource]) -> list[Person]:
    root = folder.resolve()
    groups: dict[str, list[FaceSource]] = {}
    for entry in entries:
        if entry.photo is None or not entry.photo.resolve().is_relative_to(root):
            continue
        inside = entry.photo.resolve().relative_to(root).parts[:-1]
        groups.setdefault(inside[0] if inside else root.name, []).append(entry)
    if not groups:
        raise UsageError(f"--merge {folder}: the run has no face from its photos")
    return [Person(name, tuple(_first_faces(found))) for name, found in sorted(groups.items())]


def _from_list(path: Path, entries: Sequence[FaceSource]) -> Person:
    try:
        lines = decode(read_file(path)).splitlines()
    except OSError as error:
        raise UsageError(f"--merge {path}: cannot be read as text: {error}") from error
    chosen: list[FaceSource] = []
    for line in filter(None, (line.strip() for line in lines)):
        named = [e for e in entries if e.path.stem == line]
        if not named:
            named = [e for e in entries if e.photo is not None and _is(e.photo, line)]
        if not named:
            raise UsageError(f"--merge {path}: the run has no face of {line!r}")
        chosen += _first_faces(named)
    if not chosen:
        raise UsageError(f"--merge {path}: names no photo")
    return Person(path.stem, tuple(dict.fromkeys(chosen)))


def _is(photo: Path, line: str) -> bool:
    wanted = Path(line)
    return photo.name == line or photo == wanted or photo == wanted.absolute()


def _first_faces(entries: Sequence[FaceSource]) -> list[FaceSource]:
    """The first face of each photo, as a person appears once; others can be named explicitly."""
    return list({entry.photo or entry.path: entry for entry in reversed(entries)}.values())[::-1]


def merge_person(
    person: Person,
    subjects: Sequence[Subject],
    uv: UVLayout,
    settings: ExportSettings,
    topology: Topology | None,
) -> Written:
    """Write the files of a person."""
    others = [f for f in settings.formats if f not in (*MESH_FORMATS, "texture")]
    if others or settings.frame not in (None, "canonical"):
        what = ", ".join(others) or f"frame {settings.frame}"
        raise UsageError(
            f"--merge makes pose-free meshes and textures: it has no {what}, which need a single "
            "photo"
        )
    faces = []
    for subject in subjects:
        if subject.face is None:
            raise InputError(f"{subject.path}: only faces with their JSON file can be merged")
        faces.append(subject.face)
    look = settings.drawn_look("canonical")
    notes: list[str] = []
    shape, visibility, confidence, shares = merge_shapes(faces, uv)
    texture = real = None
    if look.wants_texture or look.wants_colors:
        size = settings.texture_size or (TEXTURE_SIZE if look.wants_texture else SIZE)
        images = [load_photo(s, settings.photos, settings.max_pixels) for s in subjects]
        texture, real = merge_textures(images, faces, uv, size)
    colors = None
    if texture is not None and look.wants_colors:
        small = resize_map(texture.astype(np.float32), SIZE)
        colors = np.rint(uv.from_map(small)).astype(np.uint8)
    mesh = Mesh(
        layout_rim(uv).straighten(shape * MM_PER_UNIT).astype(np.float32),
        uv.triangles,
        "canonical",
        colors=colors,
        uv=uv.uv_coordinates,
        texture=texture if look.wants_texture else None,
        real=real if look.wants_texture else None,
        visibility=visibility,
        confidence=confidence,
        landmarks=uv.landmark_indices,
        layout=uv,
        name=person.name,
    )
    if len(faces) == 1:
        notes.append(f"{person.name}: only one face, nothing to merge")
    drawn = write_pictures(settings.out, person.name, mesh, None, settings.pictures, settings.ears)
    cell = None
    if settings.sheet:
        cell = Cell(frontal_on_ground(mesh, None, CELL), person.name, f"{len(faces)} photos")
    if not settings.formats:
        return Written(drawn, notes, cell)
    mesh = apply_topology(mesh, topology)
    files, names = write_formats(settings.out, person.name, mesh, None, settings.look("canonical"))
    record = {
        "format": "sadr-merged-face",
        "schema": 1,
        "version": __version__,
        "name": person.name,
        "note": "mean of the pose-free shapes, expressions included",
        "faces": [
            {"name": s.stem, "source": s.record["source"] if s.record else None, "share": share}
            for s, share in zip(subjects, shares, strict=True)
        ],
        "mesh": mesh.describe(),
        "landmarks": {"order": "300-W, 68 points", "vertices": plain(mesh.landmarks)},
        "files": files,
    }
    document = settings.out / f"{person.name}.json"
    atomic_write(document, indented(record).encode())
    return Written([*names, document.name, *drawn], notes, cell)


def merge_shapes(
    faces: Sequence[Face], uv: UVLayout
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32], list[float]]:
    """Mean shape (V, 3) in shape units, best visibility (V,), mean confidence (V,), and the
    weight of each face."""
    total = np.zeros(uv.vertex_count)
    shape = np.zeros((uv.vertex_count, 3))
    confidence = np.zeros(uv.vertex_count)
    visibility = np.zeros(uv.vertex_count, np.float32)
    weights = []
    for face in faces:
        weight = (smooth_over_uv(face.visibility, uv) + _LEAST) * max(face.confidence, 1e-3)
        shape += weight[:, None] * np.asarray(face.shape, np.float64)
        confidence += weight * vertex_confidence(face)
        visibility = np.maximum(visibility, np.asarray(face.visibility, np.float32))
        total += weight
        weights.append(float(weight.sum()))
    shares = [round(w / sum(weights), 4) for w in weights]
    return shape / total[:, None], visibility, (confidence / total).astype(np.float32), shares


def merge_textures(
    images: Sequence[NDArray[np.uint8]], faces: Sequence[Face], uv: UVLayout, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Blended texture (size, size, 3), and the best visibility of each texel in any photo."""
    softs = [soften(seen_map(image, face, uv)) for image, face in zip(images, faces, strict=True)]
    finest = max(face.scale for face in faces)
    first = int(np.argmax([soft.sum() * f.scale for soft, f in zip(softs, faces, strict=True)]))
    reference = sample_map(images[first], faces[first], uv, SIZE)
    total = np.zeros((size, size, 1), np.float32)
    colors = np.zeros((size, size, 3), np.float32)
    for image, face, soft in zip(images, faces, softs, strict=True):
        gain = _gain(reference, softs[first], sample_map(image, face, uv, SIZE), soft)
        weight = resize_map(soft**_SHARP, size)[..., None] * (face.scale / finest) + 1e-6
        colors += weight * gain * sample_map(image, face, uv, size)
        total += weight
    best = np.max(softs, axis=0)
    filled = fill_hidden(np.clip(colors / total, 0, 255), best, uv)
    real = resize_map(best, size) * resize_map(uv.mask.astype(np.float32), size)
    return np.rint(filled).astype(np.uint8), real


def _gain(
    reference: NDArray[np.float32],
    reference_weight: NDArray[np.float32],
    colors: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(3,) factor that matches ``colors`` to ``reference`` where both are visible."""
    both = (reference_weight * weight)[..., None]
    if float(both.sum()) < 0.01 * both.size:
        return np.ones(3, np.float32)
    ratio = (both * reference).sum((0, 1)) / np.maximum((both * colors).sum((0, 1)), 1e-3)
    return np.clip(ratio, *_GAIN).astype(np.float32)
