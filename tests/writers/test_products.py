"""Landmark files, camera, maps and textures, read back with other readers."""

from __future__ import annotations

import csv
import re
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image
from synthetic import posed_face

from sadr_cli.errors import UsageError
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.writers import MESH_FORMATS, create_writer, face_mesh
from sadr_cli.writers.compose import Look, compose_mesh, write_formats

SIZE = (200, 220)


@pytest.fixture(scope="module")
def face(uv):
    return posed_face(uv, yaw=25, pitch=-10, roll=8)


@pytest.fixture(scope="module")
def mesh(uv, face):
    return face_mesh(face, uv, SIZE[0], "metric", image_width=SIZE[1])


def write(name, tmp_path, mesh, face):
    writer = create_writer(name)
    return writer.write(tmp_path / ("a.b" + writer.suffix), mesh, face)


def numbers(picture, key):
    """low, step of one coordinate from a 16-bit picture's text."""
    text = Image.open(picture).text["values"]
    found = re.search(rf"{key} = (\S+) \+ (\S+) \*", text)
    return float(found[1]), float(found[2])


def test_pts_counts_from_one(tmp_path, mesh, face):
    lines = write("pts", tmp_path, mesh, face)[0].read_text().splitlines()
    assert lines[:3] == ["version: 1", "n_points: 68", "{"] and lines[-1] == "}"
    points = np.array([line.split() for line in lines[3:-1]], float)
    np.testing.assert_allclose(points - 1, face.landmarks[:, :2], atol=1e-3)


def test_csv_has_the_photo_the_frame_and_the_vertex(tmp_path, mesh, face):
    path = write("csv", tmp_path, mesh, face)[0]
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 68
    assert float(rows[30]["photo_x_px"]) == pytest.approx(face.landmarks[30, 0], abs=1e-3)
    vertex = int(rows[30]["vertex"])
    assert float(rows[30]["metric_y_mm"]) == pytest.approx(mesh.vertices[vertex, 1], abs=1e-3)


def test_camera_takes_millimetres_to_the_photo_and_to_clip_space(tmp_path, mesh, face):
    path = write("camera", tmp_path, mesh, face)[0]
    to_photo, view, clip = np.loadtxt(path).reshape(3, 4, 4)
    canonical = np.c_[face.shape * MM_PER_UNIT, np.ones(len(face.shape))]
    np.testing.assert_allclose((canonical @ to_photo.T)[:, :3], face.vertices, atol=1e-3)
    ndc = canonical @ (clip @ view).T
    x = (ndc[:, 0] + 1) / 2 * SIZE[1] - 0.5
    y = (1 - ndc[:, 1]) / 2 * SIZE[0] - 0.5
    np.testing.assert_allclose(np.c_[x, y], face.vertices[:, :2], atol=1e-3)


def test_uv_map_as_npy_and_sixteen_bits(tmp_path, uv, mesh, face):
    files = write("uvmap", tmp_path, mesh, face)
    assert [f.name for f in files] == ["a.b.uv.npy", "a.b.uv.png"]
    position = np.load(files[0])
    assert position.shape == (256, 256, 3) and np.isnan(position[~uv.mask]).all()
    np.testing.assert_allclose(position[uv.mask], face.vertices, atol=1e-4)
    import cv2

    stored = cv2.imread(str(files[1]), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert stored.dtype == np.uint16 and (stored[~uv.mask] == 0).all()
    for axis, key in enumerate("xyz"):
        low, step = numbers(files[1], key)
        value = low + step * (stored[uv.mask][:, axis].astype(float) - 1)
        np.testing.assert_allclose(value, face.vertices[:, axis], atol=0.01)


def test_depth_and_normals_lie_on_the_face(tmp_path, uv, mesh, face):
    path = write("depth", tmp_path, mesh, face)[0]
    depth = np.asarray(Image.open(path)).astype(float)
    assert depth.shape == SIZE
    low, step = numbers(path, "z")
    x, y = np.rint(face.landmarks[30, :2]).astype(int)
    assert low + step * (depth[y, x] - 1) == pytest.approx(face.landmarks[30, 2], abs=1.5)
    normals = np.asarray(Image.open(write("normals", tmp_path, mesh, face)[0]))
    np.testing.assert_array_equal(normals.any(-1), depth > 0)
    n = normals[depth > 0] / 255 * 2 - 1
    assert np.abs(np.linalg.norm(n, axis=1) - 1).max() < 0.02 and (n[:, 2] > -0.1).all()


def test_pncc_is_the_mean_faces_place(tmp_path, uv, mesh, face):
    code = np.asarray(Image.open(write("pncc", tmp_path, mesh, face)[0])) / 255
    mean = (uv.mean_shape - uv.mean_shape.min(0)) / np.ptp(uv.mean_shape, axis=0)
    k = uv.landmark_indices[40]
    x, y = np.rint(face.vertices[k, :2]).astype(int)
    np.testing.assert_allclose(code[y, x], mean[k], atol=0.03)


def test_attention_lies_over_the_crop(tmp_path, mesh, face):
    picture = np.asarray(Image.open(write("attention", tmp_path, mesh, face)[0]))
    assert picture.shape == SIZE
    assert abs(int(picture[round(face.crop.center_y), round(face.crop.center_x)]) - 230) <= 1
    outside = round(face.crop.center_x + face.crop.size / 2 + 8)
    assert picture[:, outside:].max(initial=0) == 0


def test_faces_that_leave_the_photo(tmp_path, uv):
    for center in ((0.0, 0.0), (-900.0, 50.0)):
        face = posed_face(uv, center=center)
        mesh = face_mesh(face, uv, SIZE[0], image_width=SIZE[1])
        for name in ("depth", "normals", "pncc", "attention"):
            assert np.asarray(Image.open(write(name, tmp_path, mesh, face)[0])).shape[:2] == SIZE


@pytest.mark.parametrize("name", ["depth", "uvmap", "camera", "pncc", "texture"])
def test_what_is_not_known_is_refused(tmp_path, uv, face, name):
    mesh = face_mesh(face, uv, SIZE[0])
    with pytest.raises(UsageError):
        write(name, tmp_path, mesh, None)
    assert not list(tmp_path.iterdir())


def test_textures_in_glb_and_obj_show_the_photo(tmp_path, uv):
    face = posed_face(uv, yaw=15)
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:] = (200, 150, 120)
    look = Look(("glb", "obj", "texture"), "metric", 128)
    mesh = compose_mesh(face, uv, look, SIZE, image)
    files, outputs = write_formats(tmp_path, "x", mesh, face, look)
    assert files == {"glb": "x.glb", "obj": "x.obj", "texture": "x.texture.png"}
    assert sorted(outputs) == sorted(p.name for p in tmp_path.iterdir())
    real = np.asarray(Image.open(tmp_path / "x.real.png"))
    assert real.shape == (128, 128) and 0.3 < (real > 128).mean() < 0.9
    for name in ("x.glb", "x.obj"):
        other = trimesh.load(tmp_path / name, force="mesh", process=False)
        material = other.visual.material
        image = getattr(material, "baseColorTexture", None) or material.image
        assert image.size == (128, 128)
        assert np.abs(np.asarray(image.convert("RGB"), int)[64, 64] - (200, 150, 120)).max() <= 2
        # texture coordinates: the forehead is above the chin in the picture
        top, bottom = other.vertices[:, 1].argmax(), other.vertices[:, 1].argmin()
        assert other.visual.uv[top, 1] > other.visual.uv[bottom, 1]


def test_colours_or_texture(uv):
    assert Look(("glb",)).wants_texture and not Look(("glb",)).wants_colors
    assert not Look(("obj",)).wants_texture and Look(("obj",)).wants_colors
    assert Look(("obj",), texture_size=256).wants_texture
    assert Look(("ply", "obj"), texture_size=256).wants_colors
    assert not Look(("glb", "obj"), texture_size=0).wants_texture
    assert not Look(("stl", "pts")).wants_colors
    assert set(MESH_FORMATS) == {"obj", "ply", "glb", "usdz", "stl", "npz"}


@pytest.mark.parametrize("size", [0, 64])
def test_usdz_is_an_aligned_archive_of_a_whole_face(tmp_path, uv, size):
    face = posed_face(uv, yaw=15)
    image = np.full((*SIZE, 3), 120, np.uint8)
    look = Look(("usdz",), "metric", size)
    mesh = compose_mesh(face, uv, look, SIZE, image)
    write_formats(tmp_path, "x", mesh, face, look)
    path = tmp_path / "x.usdz"
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        assert [e.filename for e in entries] == ["face.usda"] + ["texture.png"] * (size > 0)
        for e in entries:
            assert e.compress_type == zipfile.ZIP_STORED
            assert data.index(archive.read(e)[:40]) % 64 == 0
        text = archive.read("face.usda").decode()
    assert "metersPerUnit = 1" in text and 'upAxis = "Y"' in text
    body = text[text.index("points = [(") + 11 : text.index(")]", text.index("points = ["))]
    points = np.array([row.split(",") for row in body.split("),(")], float)
    np.testing.assert_allclose(points, mesh.vertices / 1e3, atol=1e-5)
    usd = pytest.importorskip("pxr.Usd")  # the reference reader, where it is installed
    from pxr import UsdGeom

    stage = usd.Stage.Open(str(path))
    shape = UsdGeom.Mesh(stage.GetPrimAtPath("/Face/Mesh"))
    np.testing.assert_allclose(shape.GetPointsAttr().Get(), points, atol=1e-6)
    indices = np.array(shape.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    np.testing.assert_array_equal(indices, mesh.triangles)
