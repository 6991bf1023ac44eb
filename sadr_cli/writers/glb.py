"""Binary glTF 2.0 (GLB): normals, vertex colours or embedded texture, metres, +Y up, facing +Z."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.render.colors import linear_from_srgb
from sadr_cli.writers.animation import METRES_PER_MM, animate
from sadr_cli.writers.mesh import FOREIGN, Mesh
from sadr_cli.writers.pictures import encode_png, write_real

_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_COMPONENT = {"float32": 5126, "uint16": 5123, "uint32": 5125}


class GLBWriter:
    """glTF prescribes metres, so the frames ``metric`` and ``canonical`` are scaled to metres,
    and the frame ``image`` is written as ``metric``: rotated as in the photo, about the model's
    origin. ``asset.extras`` records this and the 4 x 4 matrix back to photo pixels. A mesh with
    :attr:`Mesh.motion` is pose-free, and its node is rotated and moved.

    The colours already contain the photo's light, so the material is unlit where a viewer supports
    ``KHR_materials_unlit``, and rough and non-metallic elsewhere. Without colours it is lit.
    """

    format = "glb"
    suffix = ".glb"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        atomic_write(path, encode_glb(mesh))
        return [path, *write_real(path, mesh)]


def encode_glb(mesh: Mesh) -> bytes:
    motion = mesh.motion
    mesh = mesh.without_motion()  # the node has the pose
    vertices, to_photo, frame = in_metres(mesh)
    textured = mesh.textured
    chunks = Buffer()
    attributes = {
        "POSITION": chunks.accessor(vertices, "VEC3", _ARRAY_BUFFER, bounds=True),
        "NORMAL": chunks.accessor(mesh.normals, "VEC3", _ARRAY_BUFFER),
    }
    material: dict[str, Any] = {
        "name": "face",
        "doubleSided": True,
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9},
    }
    document: dict[str, Any] = {}
    if textured:
        assert mesh.texture is not None and mesh.uv is not None
        uv = mesh.uv.astype(np.float32).copy()
        uv[:, 1] = 1 - uv[:, 1]  # v points down in glTF
        attributes["TEXCOORD_0"] = chunks.accessor(uv, "VEC2", _ARRAY_BUFFER)
        view = chunks.view(encode_png(mesh.texture))
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        document["images"] = [{"bufferView": view, "mimeType": "image/png"}]
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071}]
        document["samplers"][0]["wrapT"] = 33071
        document["textures"] = [{"source": 0, "sampler": 0}]
    elif mesh.colors is not None:
        attributes["COLOR_0"] = chunks.accessor(_linear(mesh.colors), "VEC4", _ARRAY_BUFFER)
    if textured or mesh.colors is not None:
        material["extensions"] = {"KHR_materials_unlit": {}}
        document["extensionsUsed"] = ["KHR_materials_unlit"]
    # The index 65,535 is reserved for primitive restart.
    index_type = np.uint16 if len(vertices) < 65535 else np.uint32
    indices = chunks.accessor(
        mesh.triangles.reshape(-1).astype(index_type), "SCALAR", _ELEMENT_BUFFER
    )
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    extras: dict[str, Any] = mesh.describe()
    extras.update(frame=frame, units="metres" if frame != FOREIGN else mesh.units)
    if to_photo is not None:
        extras["to_photo"] = to_photo.round(6).tolist()
    if mesh.landmarks is not None:
        extras["landmark_vertices"] = mesh.landmarks.tolist()
    if mesh.frame == "image":
        extras["note"] = "turned as in the photo; scale is the model's prior, not measured"
    document.update(
        asset={"version": "2.0", "generator": "sadr", "extras": extras},
        scene=0,
        scenes=[{"nodes": [0]}],
        nodes=[{"mesh": 0, "name": mesh.name}],
        meshes=[{"name": mesh.name, "primitives": [primitive]}],
        materials=[material],
        accessors=chunks.accessors,
        bufferViews=chunks.views,
    )
    if motion is not None:
        animate(document, chunks, motion)
        extras["animation"] = motion.describe()
    document["buffers"] = [{"byteLength": len(chunks.data)}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = bytes(chunks.data)
    total = 12 + 8 + len(text) + 8 + len(body)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(body), b"BIN\0"),
            body,
        ]
    )


class Buffer:
    """The binary chunk with its views and accessors, each aligned to four bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.data += data + b"\0" * (-len(data) % 4)
        self.views.append(view)
        return len(self.views) - 1

    def accessor(
        self, values: NDArray[Any], kind: str, target: int | None = None, bounds: bool = False
    ) -> int:
        accessor: dict[str, Any] = {
            "bufferView": self.view(np.ascontiguousarray(values).tobytes(), target),
            "componentType": _COMPONENT[str(values.dtype)],
            "count": len(values),
            "type": kind,
        }
        if values.dtype == np.uint16 and target == _ARRAY_BUFFER:
            accessor["normalized"] = True
        if bounds:
            accessor["min"] = values.min(0).tolist()
            accessor["max"] = values.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def in_metres(mesh: Mesh) -> tuple[NDArray[np.float32], NDArray[np.float64] | None, str]:
    """Vertices in metres, matrix from them to photo pixels, and name of the frame."""
    if mesh.frame == FOREIGN:  # of unknown units
        return mesh.vertices.astype(np.float32), mesh.to_photo, mesh.frame
    if mesh.frame != "image":
        to_photo = None
        if mesh.to_photo is not None:
            to_photo = mesh.to_photo.copy()
            to_photo[:3, :3] /= METRES_PER_MM
        return mesh.vertices * np.float32(METRES_PER_MM), to_photo, mesh.frame
    # From pixels to metres of the prior: undo scale and translation, keep the rotation.
    if mesh.metric_origin is None:
        raise ValueError("a mesh in pixels needs its scale to be written as GLB")
    origin, pixels_per_mm = mesh.metric_origin
    factor = METRES_PER_MM / pixels_per_mm
    vertices = ((mesh.vertices - origin) * factor).astype(np.float32)
    to_photo = None
    if mesh.to_photo is not None:
        back = np.diag([1 / factor, 1 / factor, 1 / factor, 1.0])
        back[:3, 3] = origin
        to_photo = mesh.to_photo @ back
    return vertices, to_photo, "metric"


def _linear(colors: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """sRGB bytes (V, 3) -> linear RGBA (V, 4) in 16 bits, glTF's vertex colours."""
    out = np.full((len(colors), 4), 65535, np.uint16)
    out[:, :3] = np.rint(linear_from_srgb(colors) * 65535)
    return out
