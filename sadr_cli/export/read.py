"""Reading of mesh files: those of sadr exactly, vertex by vertex; others through trimesh."""

from __future__ import annotations

import io
import re
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.documents import parse
from sadr_cli.errors import InputError
from sadr_cli.folder import read_file
from sadr_cli.render.colors import srgb_from_linear
from sadr_cli.render.texture import MAX_TEXTURE
from sadr_cli.results.fields import Damaged
from sadr_cli.sources import read_image
from sadr_cli.sources.window import without_programs
from sadr_cli.writers.mesh import FOREIGN, FRAMES

_FRAME = re.compile(rb"sadr face mesh:? frame[ =](\w+)")
SUFFIXES = (".npz", ".ply", ".obj", ".glb", ".stl")
_FOREIGN_SUFFIXES = (*SUFFIXES[1:], ".gltf", ".off", ".3mf", ".dae")
_FAR = 1e12  # larger than any coordinate; its square is still finite
_PLY_TYPES = {"float": "<f4", "uchar": "u1", "double": "<f8", "int": "<i4"}


@dataclass(eq=False)
class MeshFile:
    """Contents of a mesh file. ``frame`` is ``file`` for meshes of other programs.

    vertices: (V, 3) in the file's frame; triangles: (T, 3); soup: each triangle has its own three
    vertices (STL). arrays: all arrays of an npz.
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


def read_mesh(path: Path, root: Path | None = None) -> MeshFile:
    """Read a mesh; InputError if that is impossible.

    root: see :func:`sadr_cli.folder.open_file`.
    """
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, *_FOREIGN_SUFFIXES):
        known = ", ".join(s[1:] for s in _FOREIGN_SUFFIXES)
        raise InputError(f"{path}: not a mesh that can be read: use npz of sadr, {known}")
    try:
        data = read_file(path, root)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        mesh = _decode(path, suffix, data)
        _check(mesh)
        mesh.triangles = np.ascontiguousarray(mesh.triangles, np.int32)
    except Damaged as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # trimesh and numpy can raise anything on malicious data
        raise InputError(f"{path}: damaged, or not a mesh of that format") from error
    if suffix == ".obj" and mesh.texture is None:
        picture = path.with_suffix(".texture.png")
        with suppress(OSError):
            mesh.texture = _picture(read_file(picture, root or path.parent))
    return mesh


# Arrays of an npz with a complete face: those with one entry per vertex, and the others.
_A_VERTEX = {"vertices_photo": (3,), "pose_face_photo": (3,), "shape": (3,), "visibility": ()}
_A_FACE = {
    "landmarks": (68, 3),
    "landmark_visibility": (68,),
    "landmark_confidence": (68,),
    "rotation": (3, 3),
    "translation": (3,),
    "crop": (3,),
    "scale": (),
    "face_confidence": (),
}
_DETECTION = {"detection_box": (4,), "detection_score": ()}


def is_face(mesh: MeshFile) -> bool:
    """Whether the ``arrays`` of an npz hold a complete face, finite and of the right shapes."""
    shapes = {k: (len(mesh.vertices), *shape) for k, shape in _A_VERTEX.items()} | _A_FACE
    if "detection_box" in mesh.arrays:
        shapes |= _DETECTION
    if "crop_angle" in mesh.arrays:  # since 0.3
        shapes["crop_angle"] = ()
    shapes["attention"] = (len(mesh.arrays.get("attention", ())),) * 2
    found = [(mesh.arrays.get(name), shape) for name, shape in shapes.items()]
    return all(
        values is not None
        and values.shape == shape
        and values.dtype.kind in "fiu"
        and bool(np.isfinite(values).all())
        for values, shape in found
    )


def _decode(path: Path, suffix: str, data: bytes) -> MeshFile:
    if suffix == ".npz":
        return _read_npz(data)
    frame = _FRAME.search(data[:2000])
    ours = frame is not None or (suffix == ".glb" and b'"generator":"sadr"' in data[:2000])
    if not ours:
        return _read_foreign(path, data)
    readers = {".obj": _read_obj, ".ply": _read_ply, ".glb": _read_glb}
    mesh = readers.get(suffix, _read_stl)(data)
    if frame is not None:
        mesh.frame = frame[1].decode()
    return mesh


def _check(mesh: MeshFile) -> None:
    """Damaged unless all arrays have the documented shapes and all indices are valid: native code
    relies on that."""
    count = len(mesh.vertices)
    if mesh.frame not in (*FRAMES, FOREIGN):
        raise Damaged("damaged: unknown frame")
    if len(mesh.triangles) == 0 or mesh.vertices.shape != (count, 3):
        raise Damaged("holds no usable surface: no triangles")
    if not (np.abs(mesh.vertices) < _FAR).all():  # not NaN either
        raise Damaged("holds no usable surface: coordinates that are not finite, or too large")
    _check_indices("triangle", mesh.triangles, (len(mesh.triangles), 3), count)
    if mesh.landmarks is not None:
        _check_indices("landmark", mesh.landmarks, (68,), count)
    if mesh.colors is not None and (mesh.colors.shape, mesh.colors.dtype) != ((count, 3), np.uint8):
        raise Damaged("damaged: its colours are not three bytes per vertex")
    for name, shape in {"uv": (count, 2), "visibility": (count,), "confidence": (count,)}.items():
        values = getattr(mesh, name)
        if values is None:
            continue
        if values.shape != shape or values.dtype.kind != "f" or not np.isfinite(values).all():
            raise Damaged(f"damaged: its {name} is not one finite number per vertex")
    if mesh.to_photo is not None and (
        mesh.to_photo.shape != (4, 4) or not (np.abs(mesh.to_photo) < _FAR).all()
    ):
        raise Damaged("damaged: its transformation to the photo is not a matrix")


def _check_indices(what: str, values: NDArray[Any], shape: tuple[int, ...], count: int) -> None:
    if values.shape != shape or values.dtype.kind not in "iu":
        raise Damaged(f"damaged: its {what}s are not indices")
    wrong = values[(values < 0) | (values >= count)]
    if len(wrong):
        raise Damaged(f"damaged: a {what} refers to vertex {wrong[0]} of {count}")


def _picture(data: bytes) -> NDArray[np.uint8] | None:
    """A texture; None if it is not a picture, or too large."""
    try:
        return read_image(data, max_pixels=MAX_TEXTURE**2)
    except InputError:
        return None


def _read_npz(data: bytes) -> MeshFile:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {k: file[k] for k in file.files}
    if "about" not in arrays or "vertices" not in arrays:
        raise Damaged("not an npz of sadr: vertices or about is missing")
    about = parse(str(arrays["about"]).encode())
    return MeshFile(
        arrays["vertices"].astype(np.float64),
        arrays["triangles"],
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
    faces = np.array([[int(w.split(b"/")[0]) for w in face] for face in rows[b"f"]]) - 1
    mesh = MeshFile(table[:, :3], faces)
    if table.shape[1] >= 6:
        mesh.colors = _bytes(table[:, 3:6])
    if len(rows[b"vt"]) == len(table):
        mesh.uv = np.array(rows[b"vt"], np.float32)
    return mesh


def _bytes(colors: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 1] as bytes."""
    return np.rint(np.clip(np.nan_to_num(colors), 0, 1) * 255).astype(np.uint8)


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
    if not (corner["n"] == 3).all():
        raise Damaged("damaged: its faces are not triangles")
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
    document = parse(data[20 : 20 + length])
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
    # The file is in metres; everything else uses millimetres.
    mesh = MeshFile(
        accessor(attributes["POSITION"]).astype(np.float64),
        accessor(primitive["indices"]).reshape(-1, 3),
        frame=extras["frame"],
    )
    if mesh.frame != FOREIGN:
        mesh.vertices *= 1e3
    if "landmark_vertices" in extras:
        mesh.landmarks = np.array(extras["landmark_vertices"])
    if "to_photo" in extras:
        mesh.to_photo = np.array(extras["to_photo"], np.float64)
        mesh.to_photo[:3, :3] /= 1e3
    if "TEXCOORD_0" in attributes:
        uv = accessor(attributes["TEXCOORD_0"]).copy()
        uv[:, 1] = 1 - uv[:, 1]
        mesh.uv = uv
        mesh.texture = _picture(view(document["images"][0]["bufferView"]))
    if "COLOR_0" in attributes:
        mesh.colors = srgb_from_linear(accessor(attributes["COLOR_0"])[:, :3] / 65535)
    return mesh


def _read_stl(data: bytes) -> MeshFile:
    count = struct.unpack_from("<I", data, 80)[0]
    kind = [("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    corners = np.frombuffer(data, kind, count, 84)["corners"].reshape(-1, 3)
    triangles = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    return MeshFile(corners.astype(np.float64), triangles, soup=True)


def _read_foreign(path: Path, data: bytes) -> MeshFile:
    import trimesh

    class Beside(trimesh.resolvers.FilePathResolver):
        """Reads materials and textures in the mesh's folder, never through a link or ``..``."""

        def get(self, name: str) -> bytes:
            inner = Path(name.strip())
            if inner.is_absolute() or ".." in inner.parts:
                inner = Path(inner.name)
            return read_file(path.parent / inner, path.parent)

    kind = path.suffix[1:].lower()
    with without_programs():
        return _converted(
            trimesh.load(
                io.BytesIO(data), kind, resolver=Beside(str(path)), force="mesh", process=False
            )
        )


def _converted(loaded: Any) -> MeshFile:
    """The contents of a mesh loaded by trimesh."""
    import trimesh

    if not isinstance(loaded, trimesh.Trimesh):
        raise Damaged("holds no triangle mesh")
    mesh = MeshFile(np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces))
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
