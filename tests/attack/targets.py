"""Every reader of bytes that others wrote: seeds, and what must hold whatever the bytes are.

A target reads, or raises a ``SadrError`` of one sentence; it raises anything else for a fault.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from evaluation_data import SMALL, write_face_model
from hostile import FORMATS, encoded, video

from sadr_cli.arrays import read_npz
from sadr_cli.detection.boxes import merge_boxes, read_boxes
from sadr_cli.evaluation.data.aflw2000 import read_annotation
from sadr_cli.evaluation.data.lm300w import read_pts
from sadr_cli.evaluation.data.scans import _read_ljson, read_scan
from sadr_cli.export.read import read_mesh
from sadr_cli.files import is_safe_name
from sadr_cli.model.checkpoint import load_checkpoint, open_checkpoint, save_checkpoint
from sadr_cli.model.face_model import FIELDS, load_face_model
from sadr_cli.model.linear import load_linear_model
from sadr_cli.sources import Source, SourceList, iter_frames, read_image
from sadr_cli.text import lines
from sadr_cli.training.settings import _read as read_settings

from . import books
from .fuzzed import calmly, folder, made_run, put

LIMIT = 300_000  # pixels


class Target(NamedTuple):
    """seeds: files as they should be. read: takes any bytes, see above."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], None]


# What users write ---------------------------------------------------------------------------------


def boxes(data: bytes) -> None:
    def read() -> None:
        for group in merge_boxes(read_boxes(lines(io.BytesIO(data)))):
            assert group.file and len(group.detections) == len(group.faces)
            assert all(np.isfinite(d.box).all() for d in group.detections)

    calmly(read)


def names(data: bytes) -> None:
    path = put("list", data.replace(b"/", b"_"))  # of the working folder alone

    def read() -> None:
        for source in SourceList().expand_list(path):
            assert is_safe_name(source.name)

    calmly(read)


_BOXES = [
    b'{"file": "a.jpg", "face": 0, "box": [1, 2, 30.5, 40], "score": 0.9, "detector": "centerface",'
    b' "points": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], "width": 90, "height": 80}\n'
    b'{"file": "a.jpg", "faces": 0}\n{"summary": {}}\n'
]
_PTS = [b"version: 1\nn_points: 68\n{\n" + b"1.5 2\n" * 68 + b"}\n", b"1 2\n" * 68]
_LJSON = [
    json.dumps(
        {
            "groups": {
                "LJSON": {
                    "landmarks": {"points": [[k, k, 0] for k in range(9)]},
                    "labels": [{"label": "leye", "mask": [1]}, {"label": "reye", "mask": [2]}],
                }
            }
        }
    ).encode()
]
_TOML = [b'seed = 1\n[train]\nlr = 0.001\nmax_hours = 2\n[network]\nencoder = "residual"\n']


# Meshes -------------------------------------------------------------------------------------------

_SMALL_OBJ = (
    b"# sadr face mesh: frame metric\nmtllib a.mtl\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\n"
    b"v 1 1 0 0.5 0.5 0.5\nvt 0 0\nvt 1 0\nvt 0 1\nvt 1 1\nf 1/1 2/2 3/3\nf 2/2 4/4 3/3\n"
)
_WRL = (
    b"#VRML V2.0 utf8\nShape { geometry IndexedFaceSet { coord Coordinate { point [0 0 0, 1 0 0,"
    b" 0 1 0] } coordIndex [0, 1, 2, -1] texCoord TextureCoordinate { point [0 0, 1 0, 0 1] } } }"
)


def _small_ply(binary: bool) -> bytes:
    kind = b"binary_little_endian" if binary else b"ascii"
    head = b"ply\nformat " + kind + b" 1.0\nelement vertex 3\n"
    head += b"property float x\nproperty float y\nproperty float z\n"
    head += b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    if not binary:
        return head + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    return head.replace(b"ply\n", b"ply\ncomment sadr face mesh: frame metric\n", 1) + (
        points + b"\3" + np.arange(3, dtype="<i4").tobytes()
    )


def _small_glb() -> list[bytes]:
    import trimesh

    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False)
    other = mesh.export(file_type="glb")
    ours = (made_run() / "p0.glb").read_bytes()
    length = struct.unpack_from("<I", ours, 12)[0]
    return [other, ours[: 20 + length]]  # its body is large


def mesh(suffix: str) -> Callable[[bytes], None]:
    def attempt(data: bytes) -> None:
        path = put(f"a{suffix}", data)

        def read() -> None:
            found = read_mesh(path)
            triangles = found.triangles
            assert triangles.dtype == np.int32 and triangles.shape[1:] == (3,)
            assert 0 <= triangles.min() and triangles.max() < len(found.vertices)
            assert np.isfinite(found.vertices).all() and found.vertices.shape[1:] == (3,)

        calmly(read)

    return attempt


def scan(data: bytes) -> None:
    path = put("a.wrl", data)

    def read() -> None:
        found = read_scan(path, "a")
        assert 0 <= found.triangles.min() and found.triangles.max() < len(found.vertices)

    calmly(read)


# Weights and arrays -------------------------------------------------------------------------------


@cache
def _checkpoint() -> tuple[bytes, bytes]:
    """Header and tensors of a small one."""
    import torch
    from synthetic import layout

    from sadr_cli.model.checkpoint import Checkpoint
    from sadr_cli.model.network import NetworkConfig, SADRNet

    torch.manual_seed(0)
    path = folder() / "small.safetensors"
    network = SADRNet(NetworkConfig(64, 32, 0.125)).eval()
    save_checkpoint(Checkpoint(network, layout(0.25), name="small"), path)
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    return data[8 : 8 + length], data[8 + length :]


def checkpoint(data: bytes) -> None:
    """``data`` is the header; the tensors are whole."""
    path = folder() / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(data)) + data + _checkpoint()[1])
    calmly(lambda: open_checkpoint(path))


def weights(data: bytes) -> None:
    """``data`` stands over the beginning of the file."""
    head, body = _checkpoint()
    whole = struct.pack("<Q", len(head)) + head + body
    path = folder() / "a.safetensors"
    path.write_bytes(data + whole[len(data) :])
    calmly(lambda: load_checkpoint(path))


def _whole_weights() -> list[bytes]:
    head, body = _checkpoint()
    return [
        struct.pack("<Q", len(head)) + head[:200],
        struct.pack("<Q", len(head)) + head + body[:64],
    ]


def face_model(data: bytes) -> None:
    """``data`` is one array of the file, after a byte that says which."""
    with np.load(io.BytesIO(_face_model())) as file:
        arrays = {name: file[name] for name in file.files}
    names = (*FIELDS, "identities")
    which = names[data[0] % len(names)] if data else names[0]
    path = folder() / "m.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            stream = io.BytesIO()
            np.save(stream, values)
            archive.writestr(f"{name}.npy", data[1:] if name == which else stream.getvalue())
    calmly(lambda: load_face_model(path))
    calmly(lambda: load_linear_model(path, SMALL))


@cache
def _face_model() -> bytes:
    return write_face_model(folder() / "seed.npz", columns=1, identities=1).read_bytes()


def _arrays() -> list[bytes]:
    out = []
    for number, values in enumerate((SMALL.mask[:2], SMALL.region[:2], SMALL.kpt)):
        stream = io.BytesIO()
        np.save(stream, values)
        out.append(bytes([number]) + stream.getvalue())
    return out


def archive(data: bytes) -> None:
    path = put("a.npz", data)
    calmly(lambda: read_npz(path, ("a",), ("b",)))


def _archives() -> list[bytes]:
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(4.0), b=np.array(["x", "y"]))
    packed = io.BytesIO()
    np.savez_compressed(packed, a=np.arange(4.0))
    return [stream.getvalue(), packed.getvalue()]


def mat(data: bytes) -> None:
    path = put("a.mat", data)
    calmly(lambda: read_annotation(path))


def _mats() -> list[bytes]:
    from scipy.io import savemat

    fields = {
        "pt3d_68": np.arange(204.0).reshape(3, 68),
        "Pose_Para": np.zeros((1, 7)),
        "Shape_Para": np.zeros((199, 1), np.float32),
    }
    out = []
    for packed in (False, True):
        stream = io.BytesIO()
        savemat(stream, fields, do_compression=packed)
        out.append(stream.getvalue())
    return out


# Pictures -----------------------------------------------------------------------------------------


def picture(data: bytes) -> None:
    def read() -> None:
        found = read_image(data, max_pixels=LIMIT, label="it")
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
        assert 0 < found.shape[0] * found.shape[1] <= LIMIT

    calmly(read)


def _pictures(*formats: str) -> list[bytes]:
    from PIL import Image

    small = Image.fromarray(np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3))
    return [encoded(format, small) for format in formats if format in FORMATS]


def clip(data: bytes) -> None:
    path = put("a.mp4", data)

    def read() -> None:
        source = Source("clip", "clip", path, kind="video")
        for number, frame in enumerate(iter_frames(source, max_pixels=LIMIT)):
            assert frame.image.shape[2] == 3 and np.isfinite(frame.time) and number < 100

    calmly(read)


def _clips() -> list[bytes]:
    return [video(folder() / "a.avi", "MJPG", 2), video(folder() / "b.mp4", "mp4v", 2)]


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    return lambda data: calmly(lambda: read(put(name, data)))


TARGETS: dict[str, Target] = {
    "manifest": Target(lambda: books.seed(books.NAME), books.manifest),
    "journal": Target(books.journals, books.journal),
    "cards": Target(lambda: [b"[]", books.seed(".cards/p2.json")[0][:9000]], books.card),
    "records": Target(lambda: books.seed("p2.json"), books.record),
    "poses": Target(lambda: books.seed("poses.csv"), books.poses),
    "boxes": Target(lambda: _BOXES, boxes),
    "lists": Target(lambda: [b"a.jpg\nb c.png\n", "ä.jpg\r\n".encode("utf-16")], names),
    "pts": Target(lambda: _PTS, _file("a.pts", read_pts)),
    "ljson": Target(lambda: _LJSON, _file("a.ljson", _read_ljson)),
    "settings": Target(lambda: _TOML, _file("a.toml", read_settings)),
    "obj": Target(lambda: [_SMALL_OBJ, _SMALL_OBJ.replace(b"# sadr", b"# other")], mesh(".obj")),
    "ply": Target(lambda: [_small_ply(True), _small_ply(False)], mesh(".ply")),
    "glb": Target(_small_glb, mesh(".glb")),
    "stl": Target(lambda: [(made_run() / "p0.stl").read_bytes()[:184]], mesh(".stl")),
    "npz": Target(_archives, mesh(".npz")),
    "wrl": Target(lambda: [_WRL], scan),
    "checkpoint": Target(lambda: [_checkpoint()[0]], checkpoint),
    "weights": Target(_whole_weights, weights),
    "face model": Target(_arrays, face_model),
    "arrays": Target(_archives, archive),
    "mat": Target(_mats, mat),
    "pictures": Target(lambda: _pictures(*FORMATS), picture),
    "tiff": Target(lambda: _pictures("TIFF"), picture),
    "videos": Target(_clips, clip),
}
