"""Every mesh format is read back by a reader that is not ours."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from synthetic import posed_face

from sadr_cli.errors import UsageError
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.writers import FORMATS, create_writer, face_mesh
from sadr_cli.writers.numbers import decimal_fields, rows, tuples

HEIGHT = 200


@pytest.fixture(scope="module")
def face(uv):
    return posed_face(uv, yaw=25, pitch=-10, roll=8)


@pytest.fixture(scope="module")
def colors(uv):
    return np.random.default_rng(0).integers(0, 256, (uv.vertex_count, 3), dtype=np.uint8)


def load(path):
    return trimesh.load(path, process=False, maintain_order=True)


@pytest.mark.parametrize("frame", ["image", "metric", "canonical"])
def test_frames_lead_back_to_the_photo(uv, face, frame):
    mesh = face_mesh(face, uv, HEIGHT, frame)
    points = np.c_[mesh.vertices, np.ones(len(mesh.vertices))] @ mesh.to_photo.T
    np.testing.assert_allclose(points[:, :3], face.vertices, atol=2e-3)
    # Right way up, and the surface faces the viewer with outward winding.
    top, bottom = mesh.vertices[mesh.landmarks[[65, 3]], 1]
    assert mesh.normals[:, 2].mean() > 0.3
    assert (top > bottom) == (
        face.vertices[mesh.landmarks[65], 1] < face.vertices[mesh.landmarks[3], 1]
    )
    assert mesh.describe()["frame"] == frame


def test_sizes_of_the_frames(uv, face):
    canonical = face_mesh(face, uv, HEIGHT, "canonical")
    np.testing.assert_allclose(
        canonical.vertices, uv.mean_shape * MM_PER_UNIT, rtol=1e-5, atol=1e-3
    )
    metric = face_mesh(face, uv, HEIGHT, "metric")
    np.testing.assert_allclose(
        metric.vertices, uv.mean_shape @ face.rotation.T * MM_PER_UNIT, rtol=1e-5, atol=1e-3
    )
    image = face_mesh(face, uv, HEIGHT, "image")
    np.testing.assert_allclose(image.vertices[:, 1], HEIGHT - 1 - face.vertices[:, 1], atol=1e-3)
    with pytest.raises(UsageError, match="image, metric, canonical"):
        face_mesh(face, uv, HEIGHT, "world")


@pytest.mark.parametrize("frame", ["image", "canonical"])
def test_obj(tmp_path, uv, face, colors, frame):
    mesh = face_mesh(face, uv, HEIGHT, frame, colors)
    path = tmp_path / "a face.obj"
    assert create_writer("obj").write(path, mesh) == [path]
    # Our own parse: the text itself.
    lines = path.read_text().splitlines()
    assert lines[0].startswith("#") and frame in lines[0] and mesh.units in lines[0]
    rows = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(rows[:, :3], mesh.vertices, atol=6e-5)
    np.testing.assert_array_equal(np.rint(rows[:, 3:] * 255), colors)
    assert not any("  " in line for line in lines)
    # An independent reader.
    other = load(path)
    np.testing.assert_allclose(other.vertices, mesh.vertices, atol=6e-5)
    np.testing.assert_array_equal(other.faces, mesh.triangles)
    assert np.abs(other.visual.vertex_colors[:, :3].astype(int) - colors).max() <= 1


def test_obj_with_texture(tmp_path, uv, face):
    texture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mesh = face_mesh(face, uv, HEIGHT, "canonical", texture=texture)
    files = create_writer("obj").write(tmp_path / "x.obj", mesh)
    assert [f.name for f in files] == ["x.obj", "x.mtl", "x.texture.png"]
    other = load(files[0])
    np.testing.assert_allclose(other.visual.uv, uv.uv_coordinates, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(other.visual.material.image.convert("RGB")), texture)


def test_ply(tmp_path, uv, face, colors):
    mesh = face_mesh(face, uv, HEIGHT, "metric", colors)
    path = tmp_path / "a.ply"
    create_writer("ply").write(path, mesh)
    other = load(path)
    np.testing.assert_array_equal(other.vertices, mesh.vertices)
    np.testing.assert_array_equal(other.faces, mesh.triangles)
    np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], colors)
    data = other.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(data["visibility"].squeeze(), mesh.visibility)
    np.testing.assert_array_equal(data["confidence"].squeeze(), mesh.confidence)
    assert b"comment sadr face mesh: frame metric, units millimetres" in path.read_bytes()[:400]


def test_stl(tmp_path, uv, face):
    mesh = face_mesh(face, uv, HEIGHT, "metric")
    path = tmp_path / "a.stl"
    create_writer("stl").write(path, mesh)
    other = load(path)
    np.testing.assert_allclose(other.triangles, mesh.vertices[mesh.triangles], atol=1e-4)
    assert not path.read_bytes().startswith(b"solid") and b"frame=metric" in path.read_bytes()[:80]


@pytest.mark.parametrize("frame", ["image", "metric", "canonical"])
def test_glb_is_in_metres(tmp_path, uv, face, colors, frame):
    mesh = face_mesh(face, uv, HEIGHT, frame, colors)
    path = tmp_path / "a.glb"
    create_writer("glb").write(path, mesh)
    other = trimesh.load(path, process=False).geometry["face"]
    expected = np.asarray(uv.mean_shape) * MM_PER_UNIT / 1000
    if frame != "canonical":
        expected = expected @ face.rotation.T
    np.testing.assert_allclose(other.vertices, expected, atol=1e-6)
    np.testing.assert_array_equal(other.faces, mesh.triangles)
    np.testing.assert_allclose(other.vertex_normals, mesh.normals, atol=1e-3)
    extras = glb_json(path)["asset"]["extras"]
    assert extras["units"] == "metres" and extras["frame"] == frame.replace("image", "metric")
    points = np.c_[other.vertices, np.ones(len(expected))] @ np.array(extras["to_photo"]).T
    np.testing.assert_allclose(points[:, :3], face.vertices, atol=5e-3)


def test_glb_colors_are_linear_and_textures_embedded(tmp_path, uv, face, colors):
    import io

    pygltflib = pytest.importorskip("pygltflib")
    from PIL import Image

    path = tmp_path / "c.glb"
    create_writer("glb").write(path, face_mesh(face, uv, HEIGHT, "metric", colors))
    gltf = pygltflib.GLTF2().load(str(path))
    accessor = gltf.accessors[gltf.meshes[0].primitives[0].attributes.COLOR_0]
    view = gltf.bufferViews[accessor.bufferView]
    raw = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    linear = np.frombuffer(raw, np.uint16).reshape(-1, 4)[:, :3] / 65535
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb * 255, colors, atol=0.1)
    assert accessor.normalized and accessor.count == uv.vertex_count
    assert gltf.accessors[gltf.meshes[0].primitives[0].attributes.POSITION].min is not None
    assert view.byteOffset % 4 == 0

    texture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    create_writer("glb").write(path, face_mesh(face, uv, HEIGHT, "metric", texture=texture))
    other = trimesh.load(path, process=False).geometry["face"]
    np.testing.assert_allclose(other.visual.uv, uv.uv_coordinates, atol=1e-5)
    gltf = pygltflib.GLTF2().load(str(path))
    view = gltf.bufferViews[gltf.images[0].bufferView]
    raw = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(raw))), texture)


def test_npz_holds_everything(tmp_path, uv, face, colors):
    mesh = face_mesh(face, uv, HEIGHT, "canonical", colors)
    path = tmp_path / "a.npz"
    create_writer("npz").write(path, mesh, face)
    with np.load(path, allow_pickle=False) as data:
        about = json.loads(str(data["about"]))
        assert set(data.files) - {"about"} == set(about) - {"mesh"}
        assert about["mesh"]["units"] == "millimetres"
        np.testing.assert_allclose(data["vertices_photo"], face.vertices, atol=1e-3)
        np.testing.assert_allclose(data["landmarks"], face.landmarks, atol=1e-3)
        p = data["scale"] * data["shape"] @ data["rotation"].T + data["translation"]
        np.testing.assert_allclose(p * (1, -1, 1), face.vertices, atol=1e-3)
        np.testing.assert_array_equal(data["attention"], face.attention.astype(np.float32))
        np.testing.assert_array_equal(
            data["vertices_photo"][data["landmark_indices"]], data["landmarks"]
        )


@pytest.mark.parametrize("name", ["obj", "ply", "glb", "stl"])
def test_open3d_reads_them_too(tmp_path, uv, face, colors, name):
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    mesh = face_mesh(face, uv, HEIGHT, "metric", colors)
    path = tmp_path / f"a.{name}"
    create_writer(name).write(path, mesh)
    other = o3d.io.read_triangle_mesh(str(path))
    assert len(other.triangles) == len(mesh.triangles)
    unit = 1000 if name == "glb" else 1
    box = np.asarray(other.get_max_bound()) * unit
    np.testing.assert_allclose(box, mesh.vertices.max(0), atol=1e-2)
    if name in ("obj", "ply"):
        # Open3D may order the vertices anew: compare corner by corner.
        ours, theirs = mesh.triangles.ravel(), np.asarray(other.triangles).ravel()
        np.testing.assert_allclose(
            np.asarray(other.vertices)[theirs], mesh.vertices[ours], atol=6e-5
        )
        np.testing.assert_allclose(
            np.asarray(other.vertex_colors)[theirs] * 255, colors[ours], atol=0.6
        )


def test_bytes_do_not_change_from_run_to_run(tmp_path, uv, face, colors):
    for name in sorted({*FORMATS} - {"coefficients"}):  # these need somebody's face model
        written = []
        for k in range(2):
            texture = np.full((8, 8, 3), 100, np.uint8)
            mesh = face_mesh(face, uv, HEIGHT, "image", colors, texture, image_width=220)
            files = create_writer(name).write(_made(tmp_path / str(k)) / f"a.{name}", mesh, face)
            written.append([file.read_bytes() for file in files])
        assert written[0] == written[1], name


def test_confidence_is_that_of_the_landmarks_at_every_vertex(uv, face):
    from sadr_cli.writers import mesh

    agreed = replace(face, pose_face=face.vertices)
    expected = 0.5 + 0.5 * face.visibility
    np.testing.assert_allclose(mesh.vertex_confidence(agreed), expected, rtol=1e-6)
    away = replace(face, pose_face=face.vertices + np.array([0.03 * face.crop.size, 0, 0]))
    np.testing.assert_allclose(mesh.vertex_confidence(away), expected / np.e, rtol=1e-5)


def test_unknown_format_is_a_usage_error():
    with pytest.raises(UsageError, match="obj, ply, glb, usdz, stl, npz"):
        create_writer("fbx")
    assert create_writer(" OBJ ").suffix == ".obj"


@pytest.mark.parametrize("largest", [-6, -1, 0, 1, 2, 3, 6])
@pytest.mark.parametrize("sign", [-1, 1])
def test_numbers_equal_printf_and_have_one_length_without_padding(largest, sign):
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=300)) * 10.0 ** rng.integers(-6, largest + 1, 300)
    values = np.concatenate([values, [0, -0.0, 1e-9, -1e-9, 10.0**largest - 1e-6, -4e-5]])
    values[::2] *= sign
    texts = rows("", decimal_fields(values, 4), "\n").decode().split("\n")[:-1]
    np.testing.assert_allclose(np.array(texts, float), values, atol=5.1e-5)
    assert len({len(text) for text in texts}) == 1
    assert all(re.fullmatch(r" -?(0|[1-9]\d*)\.\d{4,}", text) for text in texts)
    assert not any(re.fullmatch(r" -0\.0+", text) for text in texts)
    with pytest.raises(ValueError, match="finite"):
        decimal_fields(np.array([np.nan]), 2)


def test_tuples_of_usd():
    text = tuples(np.array([[1.5, -20.25], [0.125, 3]]), 3)
    assert text == "( 1.500, -20.250),( 0.125, 3.00000)"


def glb_json(path):
    data = path.read_bytes()
    assert struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size])


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder
