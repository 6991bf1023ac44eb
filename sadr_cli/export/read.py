"""Mesh files read back: those of ``sadr`` exactly, vertex by vertex; others through trimesh."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError
from sadr_cli.render.colors import srgb_from_linear
from sadr_cli.writers.mesh import FOREIGN

_FRAME = re.compile(rb"sadr face mesh:? frame[ =](\w+)")
SUFFIXES = (".npz", ".ply", ".obj", ".glb", ".stl")
_FOREIGN_SUFFIXES = (*SUFFIXES[1:], ".gltf", ".off", ".3mf", ".dae")
_PLY_TYPES = {"float": "<f4", "uchar": "u1", "double": "<f8", "int": "<i4"}


@dataclass(eq=False)
class MeshFile:
    """What a mesh file holds. ``frame`` is ``file`` for meshes that are not sadr's.

    vertices: (V, 3) in the file's own frame; triangles: (T, 3); soup: True when vertices are the
    triangles' corners, three each (STL). arrays: everything of an npz.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int32]
    frame: str = FOREIGN
    colors: NDArray[np.uint8] | None = None
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    visibility: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    to_photo: NDArray[np.float64] | None = None
    landmarks: NDArray[np.int32] | None = None
    soup: bool = False
    arrays: dict[str, Any] = field(default_factory=dict)


def read_mesh(path: Path) -> MeshFile:
    """Read a mesh; InputError says why that is impossible."""
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, *_FOREIGN_SUFFIXES):
        known = ", ".join(s[1:] for s in _FOREIGN_SUFFIXES)
        raise InputError(f"{path}: not a mesh that can be read; npz of sadr, {known} can")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        if suffix == ".npz":
            mesh = _read_npz(path)
        else:
            frame = _FRAME.search(data[:2000])
            ours = frame is not None or (suffix == ".glb" and b'"generator":"sadr"' in data[:2000])
            if not ours:
                mesh = _read_foreign(path)
            else:
                readers = {".obj": _read_obj, ".ply": _read_ply, ".glb": _read_glb}
                mesh = readers.get(suffix, _read_stl)(data)
                if frame is not None:
                    mesh.frame = frame[1].decode()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: damaged, or not a mesh of that format ({type(error).__name__})"
        ) from error
    if len(mesh.triangles) == 0 or not np.isfinite(mesh.vertices).all():
        raise InputError(f"{path}: holds no usable surface: no triangles, or not finite")
    if suffix == ".obj" and mesh.texture is None:
        picture = path.with_suffix(".texture.png")
        stored = cv2.imread(str(picture), cv2.IMREAD_COLOR) if picture.is_file() else None
        mesh.texture = None if stored is None else np.ascontiguousarray(stored[..., ::-1])
    return mesh


def _read_npz(path: Path) -> MeshFile:
    with np.load(path, allow_pickle=False) as file:
        arrays = {k: file[k] for k in file.files}
    if "about" not in arrays or "vertices" not in arrays:
        raise InputError(f"{path}: an npz, but not of sadr: vertices and about are missing")
    about = json.loads(str(arrays["about"]))
    return MeshFile(
        arrays["vertices"].astype(np.float64),
        arrays["triangles"].astype(np.int32),
        frame=about["mesh"]["frame"],
        to_photo=arrays.get("to_photo"),
        colors=arrays.get("colors"),
        uv=arrays.get("uv"),
        visibility=arrays.get("visibility"),
        confidence=arrays.get("confidence"),
        landmarks=arrays.get("landmark_indices"),
        arrays=arrays,
    )


def _read_obj(data: bytes) -> MeshFile:
    rows: dict[bytes, list[list[bytes]]] = {b"v": [], b"vt": [], b"f": []}
    for line in data.split(b"\n"):
        words = line.split()
        if words and words[0] in rows:
            rows[words[0]].append(words[1:])
    table = np.array(rows[b"v"], np.float64)
    faces = np.array([[w.split(b"/")[0] for w in face] for face in rows[b"f"]], np.int32) - 1
    mesh = MeshFile(table[:, :3], faces)
    if table.shape[1] >= 6:
        mesh.colors = np.rint(table[:, 3:6] * 255).astype(np.uint8)
    if len(rows[b"vt"]) == len(table):
        mesh.uv = np.array(rows[b"vt"], np.float32)
    return mesh


def _read_ply(data: bytes) -> MeshFile:
    end = data.index(b"end_header\n") + len(b"end_header\n")
    header = data[:end].decode().splitlines()
    counts = {w[1]: int(w[2]) for w in map(str.split, header) if w[0] == "element"}
    columns = [
        (w[2], _PLY_TYPES[w[1]])
        for w in map(str.split, header)
        if w[0] == "property" and len(w) == 3
    ]
    vertex = np.frombuffer(data, columns, counts["vertex"], end)
    corner = np.frombuffer(
        data, [("n", "u1"), ("index", "<i4", (3,))], counts["face"], end + vertex.nbytes
    )
    names = [name for name, _ in columns]

    def take(*wanted: str) -> NDArray[Any] | None:
        if not set(wanted) <= set(names):
            return None
        return np.stack([vertex[n] for n in wanted], 1)

    vertices = take("x", "y", "z")
    assert vertices is not None
    return MeshFile(
        vertices.astype(np.float64),
        corner["index"].copy(),
        colors=take("red", "green", "blue"),
        visibility=vertex["visibility"].copy() if "visibility" in names else None,
        confidence=vertex["confidence"].copy() if "confidence" in names else None,
    )


def _read_glb(data: bytes) -> MeshFile:
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    body = data[20 + length + 8 :]
    kinds = {5126: "<f4", 5123: "<u2", 5125: "<u4"}
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}

    def view(index: int) -> bytes:
        v = document["bufferViews"][index]
        return body[v["byteOffset"] : v["byteOffset"] + v["byteLength"]]

    def accessor(index: int) -> NDArray[Any]:
        a = document["accessors"][index]
        values = np.frombuffer(view(a["bufferView"]), kinds[a["componentType"]])
        return values.reshape(a["count"], width[a["type"]])

    extras = document["asset"]["extras"]
    primitive = document["meshes"][0]["primitives"][0]
    attributes = primitive["attributes"]
    # Metres in the file, millimetres everywhere else.
    mesh = MeshFile(
        accessor(attributes["POSITION"]).astype(np.float64),
        accessor(primitive["indices"]).reshape(-1, 3).astype(np.int32),
        frame=extras["frame"],
    )
    if mesh.frame != FOREIGN:
        mesh.vertices *= 1e3
    if "landmark_vertices" in extras:
        mesh.landmarks = np.array(extras["landmark_vertices"], np.int32)
    if "to_photo" in extras:
        mesh.to_photo = np.array(extras["to_photo"])
        mesh.to_photo[:3, :3] /= 1e3
    if "TEXCOORD_0" in attributes:
        uv = accessor(attributes["TEXCOORD_0"]).copy()
        uv[:, 1] = 1 - uv[:, 1]
        mesh.uv = uv
        picture = np.frombuffer(view(document["images"][0]["bufferView"]), np.uint8)
        decoded = cv2.imdecode(picture, cv2.IMREAD_COLOR)
        if decoded is not None:
            mesh.texture = np.ascontiguousarray(decoded[..., ::-1])
    if "COLOR_0" in attributes:
        mesh.colors = srgb_from_linear(accessor(attributes["COLOR_0"])[:, :3] / 65535)
    return mesh


def _read_stl(data: bytes) -> MeshFile:
    count = struct.unpack_from("<I", data, 80)[0]
    kind = [("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    corners = np.frombuffer(data, kind, count, 84)["corners"].reshape(-1, 3)
    triangles = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    return MeshFile(corners.astype(np.float64), triangles, soup=True)


def _read_foreign(path: Path) -> MeshFile:
    import trimesh

    loaded = trimesh.load(str(path), force="mesh", process=False)
    if not isinstance(loaded, trimesh.Trimesh):
        raise InputError(f"{path}: holds no triangle mesh")
    mesh = MeshFile(
        np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces).astype(np.int32)
    )
    visual = loaded.visual
    if visual.kind == "vertex":
        mesh.colors = np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)
    elif visual.kind == "texture" and visual.uv is not None:
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None and len(visual.uv) == len(mesh.vertices):
            mesh.uv = np.asarray(visual.uv, np.float32)
            mesh.texture = np.asarray(image.convert("RGB"))
    return mesh
