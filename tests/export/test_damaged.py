"""Damaged and hostile results and meshes: each fails alone, in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from functools import partial

import numpy as np
import pytest
import trimesh
from attack.cases import one_sentence
from fakes import photo_with
from PIL import Image
from run_folders import go
from synthetic import layout

from sadr_cli.errors import InputError
from sadr_cli.export.read import read_mesh
from sadr_cli.export.subjects import _face_of_record
from sadr_cli.results.face_record import read_face_json

UV = layout(0.25)
HEAD = "# sadr face mesh: frame metric\n"
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over two photos, a and b, as OBJ."""
    folder = tmp_path_factory.mktemp("damaged")
    for name in "ab":
        photo_with(folder / "photos" / f"{name}.png")
    go(folder / "photos", folder / "run", formats=("obj",), two_pass=False)
    return folder / "run"


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def sadr(sadr):
    return partial(sadr, "export")


# Indices ---------------------------------------------------------------------------------------


def ply(indices):
    head = (
        "ply\nformat binary_little_endian 1.0\ncomment sadr face mesh: frame metric\n"
        "element vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return head.encode() + np.eye(3, dtype="<f4").tobytes() + struct.pack("<B3i", 3, *indices)


def npz(path, indices, **more):
    about = json.dumps({"mesh": {"frame": "metric"}})
    triangles = np.array([indices])
    np.savez(path, vertices=np.eye(3), triangles=triangles, about=about, **more)
    return path.read_bytes()


def glb(indices):
    body = np.eye(3, dtype="<f4").tobytes() + np.array(indices, "<u4").tobytes()
    text = json.dumps(
        {
            "asset": {"generator": "sadr", "extras": {"frame": "metric"}, "version": "2.0"},
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
            "accessors": [
                {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
                {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
            ],
            "bufferViews": [
                {"byteOffset": 0, "byteLength": 36},
                {"byteOffset": 36, "byteLength": 12},
            ],
        },
        separators=(",", ":"),
    ).encode()
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(body), b"BIN\0") + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


BAD = [(0, 1, 3), (0, 1, -1), (0, 1, 2**31 - 1), (-(2**31), 1, 2)]


@pytest.mark.parametrize("indices", [(0, 1, 2), *BAD], ids=str)
@pytest.mark.parametrize("kind", ["obj", "foreign obj", "ply", "npz", "glb", "off"])
def test_every_reader_checks_the_indices_of_triangles(tmp_path, kind, indices):
    path = tmp_path / f"mesh.{kind.split()[-1]}"
    if kind.endswith("obj"):
        corners = " ".join(str(i + 1) for i in indices)
        head = HEAD if kind == "obj" else ""
        path.write_text(f"{head}{TRIANGLE}f {corners}\n")
    elif kind == "off":
        path.write_text(f"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 {' '.join(map(str, indices))}\n")
    else:
        if kind == "glb" and min(indices) < 0:
            pytest.skip("GLB has no negative indices")
        made = {"ply": ply, "glb": glb}.get(kind) or (lambda i: npz(path, i))
        path.write_bytes(made(indices))
    if indices == (0, 1, 2):
        assert len(read_mesh(path).triangles) == 1
        return
    if kind == "foreign obj" and indices == (0, 1, -1):  # trimesh counts from the end
        assert read_mesh(path).triangles.max() < 3
        return
    with pytest.raises(InputError, match=r"mesh\.\w+: damaged") as error:
        read_mesh(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["f 0 1 2\n", "f 1 2 999999\n", "f -1 -2 -3\n", "f 1 2 1e3\n",
                                 "f 1 2\n", "f 1 2 3 4\n", "f 1 2 x\n", ""])  # fmt: skip
def test_faces_that_are_no_triangles(tmp_path, end):
    path = tmp_path / "m.obj"
    path.write_text(HEAD + TRIANGLE + end)
    with pytest.raises(InputError, match=r"m\.obj: (damaged|holds no usable)"):
        read_mesh(path)


@pytest.mark.parametrize(
    "more",
    [
        {"colors": np.zeros((3, 3))},
        {"colors": np.zeros((9, 3), np.uint8)},
        {"uv": np.zeros((2, 2), np.float32)},
        {"visibility": np.full(3, np.nan, np.float32)},
        {"confidence": np.zeros((3, 1), np.float32)},
        {"to_photo": np.eye(3)},
        {"to_photo": np.full((4, 4), np.inf)},
        {"landmark_indices": np.full(68, 3)},
        {"landmark_indices": np.zeros(5, int)},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_the_vertices(tmp_path, more):
    path = tmp_path / "m.npz"
    npz(path, (0, 1, 2), **more)
    with pytest.raises(InputError, match=r"m\.npz: damaged: its \w+|m\.npz: damaged: a landmark"):
        read_mesh(path)


@pytest.mark.parametrize("number", ["nan", "inf", "1e300", "1e13"])
def test_coordinates_beyond_any_face(tmp_path, number):
    path = tmp_path / "m.obj"
    path.write_text(HEAD + f"v {number} 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(InputError, match="not finite, or too large"):
        read_mesh(path)


def test_a_wrong_index_never_reaches_the_decimation(sadr, tmp_path):
    """Open3D ends the process by a signal then."""
    ball = trimesh.creation.icosphere(4)
    rows = [f"v {x} {y} {z}" for x, y, z in ball.vertices]
    rows += [f"f {a} {b} {c}" for a, b, c in ball.faces + 1]
    for name, wrong in (("big", "f 1 2 3000000"), ("negative", "f 1 2 -5000000")):
        (tmp_path / f"{name}.obj").write_text(HEAD + "\n".join([*rows, wrong]) + "\n")
        result = sadr(tmp_path / f"{name}.obj", "--format", "stl", "--decimate", 500, "--out",
                      tmp_path / "o")  # fmt: skip
        assert result.exit_code == 3 and "refers to vertex" in result.stderr


# Records ---------------------------------------------------------------------------------------


def put(*path_and_value):
    *path, value = path_and_value

    def change(document):
        for part in path[:-1]:
            document = document[part]
        if value is None:
            document.pop(path[-1], None)
        else:
            document[path[-1]] = value

    return change


RECORDS = [
    put("source", None), put("source", 5), put("source", "a\0b"), put("image", None),
    put("image", []), put("image", "height", None), put("image", "height", "x"),
    put("image", "width", 10**30), put("image", "width", -5), put("image", "height", 0),
    put("mesh", None), put("mesh", "frame", ["x"]), put("mesh", "to_photo", [[1]]),
    put("mesh", "to_photo", "x"), put("pose", None), put("pose", "scale", 0),
    put("pose", "scale", -1), put("pose", "rotation_matrix", [[1, 2], [3, 4]]),
    put("pose", "rotation_matrix", [[0] * 3] * 3), put("landmarks", "points", []),
    put("landmarks", "points", [["x"] * 3] * 68), put("landmarks", None), put("crop", None),
    put("crop", "size", "x"), put("crop", "size", -1), put("confidence", "x"),
    put("warnings", None), put("warnings", [{"a": 1}]), put("image", "index", "x"),
    put("schema", 99), put("schema", None), put("format", "x"), put("face", "x"),
    put("detection", []), put("confidence", [[]]),
    put("mesh", "vertices", 5), put("mesh", "triangles", 5),
]  # fmt: skip


def other_is_exported(result, out):
    assert result.exit_code == 3, result.stderr
    lines = result.stderr.strip().splitlines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert len(warnings) == 1, lines
    assert not any(w in result.stderr for w in ("internal error", "Traceback", "Error:"))
    assert (out / "b.ply").stat().st_size and (out / "b.pts").stat().st_size
    assert {p.name[0] for p in out.iterdir()} <= {"b", "l"}  # landmark_vertices.csv


@pytest.mark.parametrize("change", RECORDS, ids=range(len(RECORDS)))
def test_a_damaged_record_fails_alone(sadr, folder, tmp_path, change):
    document = json.loads((folder / "a.json").read_text())
    change(document)
    (folder / "a.json").write_text(json.dumps(document))
    result = sadr(folder, "--format", "ply,pts", "--out", tmp_path / "o")
    other_is_exported(result, tmp_path / "o")


def _places(document, above=()):
    for key, value in document.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _places(value, (*above, key))


def test_any_value_of_a_record_may_be_wrong_or_missing(folder):
    """It is refused in one sentence, or the face is as good as without the value."""
    path, mesh = folder / "a.json", read_mesh(folder / "a.obj")
    whole, read = json.loads(path.read_text()), 0
    for place in _places(whole):
        for value in (None, "null", [], "x", {"a": [[]]}, 10**400, -1, True):
            document = json.loads(json.dumps(whole))
            put(*place, value)(document)
            path.write_text(json.dumps(document).replace('"null"', "null"))
            try:
                face = _face_of_record(read_face_json(path), mesh, UV, path)
            except InputError as error:
                one_sentence(str(error))
            else:
                read += 1
                assert np.isfinite([face.confidence, face.crop.angle]).all()
                assert face.contour is None or np.isfinite(face.contour).all()
    assert read > 50  # what only tells people something is never refused


@pytest.mark.parametrize(
    "data",
    [b"", b"NaN", b"[]", b'["sadr-face"]', b"\xff", b'{"format":"sadr-face","schema":1,"x":'
     + b"[" * 100_000, '{"format": "sadr-face"}'.encode("utf-16"),
     b'{"format":"sadr-face","schema":' + b"9" * 6000 + b"}"],
    ids=range(8),
)  # fmt: skip
def test_a_record_that_is_none_fails_alone(sadr, folder, tmp_path, data):
    (folder / "a.json").write_bytes(data)
    result = sadr(folder, "--format", "ply,pts", "--out", tmp_path / "o")
    other_is_exported(result, tmp_path / "o")


ENTRIES = [
    put("key", None), put("key", 5), put("key", "/a\0b"), put("faces", "abc"), put("faces", [1]),
    put("stamp", ["x"]), put("faces", 0, "json", "../../../etc/passwd"),
    put("faces", 0, "json", ".."), put("faces", 0, "json", "/etc/passwd"),
    put("faces", 0, "json", "a\0b"), put("faces", 0, "json", "x" * 5000),
    put("faces", 0, "json", 5), put("faces", 0, "json", "manifest.json"),
]  # fmt: skip


@pytest.mark.parametrize("change", [*ENTRIES, None], ids=range(len(ENTRIES) + 1))
def test_a_damaged_entry_fails_alone(sadr, folder, tmp_path, change):
    document = json.loads((folder / "manifest.json").read_text())
    if change is None:
        document["inputs"][0] = None
    else:
        change(document["inputs"][0])
    (folder / "manifest.json").write_text(json.dumps(document))
    result = sadr(folder, "--format", "ply,pts", "--out", tmp_path / "o")
    other_is_exported(result, tmp_path / "o")


@pytest.mark.parametrize("inputs", [{}, 5, "abc"])
def test_a_damaged_manifest_is_named(sadr, folder, tmp_path, inputs):
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**document, "inputs": inputs}))
    result = sadr(folder, "--format", "ply", "--out", tmp_path / "o")
    assert result.exit_code == 5 and "manifest.json is damaged" in result.stderr


def cut(folder):
    """At the end of a line, where the text still reads well."""
    text = (folder / "a.obj").read_bytes()
    (folder / "a.obj").write_bytes(text[: text.rindex(b"\nf ", 0, len(text) * 9 // 10) + 1])


def link(name, target):
    def make(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return make


def pipe(folder):
    (folder / "a.obj").unlink()
    os.mkfifo(folder / "a.obj")


def replaced(text):
    return lambda folder: (folder / "a.obj").write_bytes(text)


MESHES = [
    cut, pipe, replaced(b""), replaced((HEAD + TRIANGLE + "f 0 1 2\n").encode()),
    replaced((HEAD + TRIANGLE + "f 1 2 99\n").encode()), replaced(b"\0" * 1000),
    replaced(b"mtllib ../../../../etc/passwd\nusemtl a\n" + TRIANGLE.encode() + b"f 1 2 3\n"),
    link("a.obj", "/etc/passwd"), link("a.json", "/etc/passwd"), link("a.obj", "/dev/zero"),
]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
@pytest.mark.parametrize("damage", MESHES, ids=range(len(MESHES)))
def test_a_damaged_mesh_fails_alone(sadr, folder, tmp_path, damage):
    damage(folder)
    result = sadr(folder, "--format", "ply,pts", "--out", tmp_path / "o")
    other_is_exported(result, tmp_path / "o")


def test_textures_of_strangers_are_bounded_and_no_links(sadr, folder, tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    (folder / "a.texture.png").write_bytes(bomb)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (16, 16), "red").save(secret)
    (folder / "b.texture.png").symlink_to(secret)
    assert read_mesh(folder / "a.obj", folder).texture is None
    assert read_mesh(folder / "b.obj", folder).texture is None
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "m.mtl").write_text("newmtl a\nmap_Kd ../secret.png\n")
    mesh = "mtllib m.mtl\nusemtl a\n" + TRIANGLE + "vt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"
    (tmp_path / "f" / "m.obj").write_text(mesh)
    read = read_mesh(tmp_path / "f" / "m.obj")
    assert read.texture is None or read.texture.max() < 255 or read.texture.shape != (16, 16, 3)


# Names -----------------------------------------------------------------------------------------


def test_tables_and_faces_of_their_names_keep_apart(sadr, tmp_path):
    for name in ("vertices", "landmark_vertices", "Vertices 2"):
        photo_with(tmp_path / "photos" / f"{name}.png")
    go(tmp_path / "photos", tmp_path / "run", formats=("obj",), two_pass=False)
    result = sadr(tmp_path / "run", "--format", "csv", "--decimate", 900, "--out", tmp_path / "e",
                  "--json")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    named = [name for line in lines[:-1] for name in line["outputs"]]
    assert len({n.casefold() for n in named}) == len(named) == 6
    heads = {p.name: p.read_text().partition("\n")[0] for p in (tmp_path / "e").glob("*.csv")}
    assert heads.pop("vertices.csv").startswith("vertex,layout_vertex")
    assert heads.pop("landmark_vertices.csv").startswith("landmark,landmark_from_1")
    assert len(heads) == 3 and all(head.startswith("index,photo_x_px") for head in heads.values())


def test_what_one_face_cannot_have_is_its_own_matter(sadr, folder, tmp_path):
    (folder / "a.obj").write_text(TRIANGLE + "f 1 2 3\n")  # another program's, and smaller
    result = sadr(folder, "--format", "ply,pts", "--out", tmp_path / "o")
    other_is_exported(result, tmp_path / "o")
    (tmp_path / "m.obj").write_text(TRIANGLE + "f 1 2 3\n")
    result = sadr(tmp_path / "m.obj", "--format", "pts", "--out", tmp_path / "p")
    assert result.exit_code == 2 and result.stderr.count("m.obj") == 1  # nothing can have it
