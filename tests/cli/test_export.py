"""``sadr export`` on run folders and meshes, in this process, with a fake network."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import trimesh
from fakes import FakeDetector, FakeReconstructor, photo_with
from PIL import Image
from synthetic import layout

from sadr_cli.crop import image_to_crop
from sadr_cli.faces import Detection
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import iter_sources
from sadr_cli.writers.rim import layout_rim

UV = layout(0.25)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over two photos with three faces: photos in ``photos``, results in ``run``."""
    folder = tmp_path_factory.mktemp("export")
    photo_with(folder / "photos" / "a.png")
    photo_with(folder / "photos" / "b.png", [(20, 30, 40), (110, 60, 60)])
    for name, formats in (("run", ("obj",)), ("full", ("npz",))):
        works = (Work(s) for s in iter_sources([str(folder / "photos")]))
        settings = RunSettings(folder / name, formats, two_pass=False)
        run(works, FakeReconstructor(), FakeDetector, settings)
    return folder


@pytest.fixture
def sadr(sadr):
    return partial(sadr, "export")


def load(path):
    return trimesh.load(path, force="mesh", process=False)


@pytest.mark.parametrize("source", ["run", "full"])
def test_a_run_folder_to_other_formats_and_frames(sadr, made, tmp_path, source):
    result = sadr(made / source, "--out", tmp_path, "--format", "glb,ply,pts", "--frame", "metric")
    assert result.exit_code == 0, result.stderr
    stems = ("a", "b", "b_face1")
    expected = {f"{s}.{e}" for s in stems for e in ("glb", "ply", "pts", "json", "real.png")}
    assert {p.name for p in tmp_path.iterdir()} == expected | {"landmark_vertices.csv"}
    record = json.loads((tmp_path / "b_face1.json").read_text())
    assert record["mesh"]["frame"] == "metric" and record["mesh"]["units"] == "millimetres"
    assert record["files"] == {f: f"b_face1.{f}" for f in ("glb", "ply", "pts")}
    points = load(tmp_path / "b_face1.ply").vertices[UV.landmark_indices]
    matrix = np.array(record["mesh"]["to_photo"])
    there = points @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(there, record["landmarks"]["points"], atol=2e-3)
    assert load(tmp_path / "a.glb").visual.material.baseColorTexture.size == (512, 512)


def test_decimated_meshes_share_one_topology_and_keep_the_landmarks(sadr, made, tmp_path):
    result = sadr(
        made / "run", "--out", tmp_path, "--format", "obj,glb", "--decimate", 900,
        "--texture-size", 64,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    a, b = load(tmp_path / "a.glb"), load(tmp_path / "b.glb")
    np.testing.assert_array_equal(a.faces, b.faces)
    assert 700 < len(a.faces) <= 900 and len(a.vertices) < 700
    with (tmp_path / "landmark_vertices.csv").open() as file:
        table = [{k: int(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [row["landmark"] for row in table] == list(range(68))
    vertices = [row["vertex"] for row in table]
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["landmarks"]["vertices"] == vertices
    text = (tmp_path / "a.obj").read_text().splitlines()
    points = np.array([line.split()[1:4] for line in text if line.startswith("v ")], float)
    assert len(points) == len(a.vertices)
    matrix = np.array(record["mesh"]["to_photo"])
    there = points[vertices] @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(there, record["landmarks"]["points"], atol=2e-3)
    # the other table leads every vertex back to the layout
    with (tmp_path / "vertices.csv").open() as file:
        rows = [[int(v) for v in row] for row in list(csv.reader(file))[1:]]
    full = load(made / "run" / "a.obj").vertices
    np.testing.assert_allclose(points, full[[row[1] for row in rows]], atol=1e-3)


@pytest.mark.parametrize("suffix", ["ply", "stl", "glb", "npz", "obj"])
def test_every_mesh_of_ours_leads_back_to_the_same_face(sadr, made, tmp_path, suffix):
    first, second = tmp_path / "1", tmp_path / "2"
    assert sadr(made / "full", "--out", first, "--format", suffix).exit_code == 0
    for other in first.iterdir():  # only this format and its records are left
        assert other.suffix in (f".{suffix}", ".json", ".csv", ".png", ".mtl")
    result = sadr(first / f"b.{suffix}", "--out", second, "--format", "npz", "--frame", "image")
    assert result.exit_code == 0, result.stderr
    with np.load(made / "full" / "b.npz") as a, np.load(second / "b.npz") as b:
        np.testing.assert_allclose(b["vertices"], a["vertices"], atol=2e-3)
        # but for the steps of the rim, which meshes have straight
        shape = a["shape"] if suffix == "npz" else layout_rim(UV).straighten(a["shape"])
        np.testing.assert_allclose(b["shape"], shape, atol=1e-3)
        if suffix == "npz":
            np.testing.assert_array_equal(b["visibility"], a["visibility"])


class _Masked(FakeReconstructor):
    """The lower half of every crop is covered by something."""

    def _face(self, crop, detection):
        attention = np.ones((32, 32), np.float32)
        attention[16:] = 0.02
        face = super()._face(crop, detection)
        row = image_to_crop(face.vertices[:, :2], face.crop, 32)[:, 1]
        seen = np.where(row < 15.5, 1.0, 0.02)
        return replace(face, attention=attention, visibility=seen)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A run over a photo whose face wears a blue mask, with the texture made at once."""
    folder = tmp_path_factory.mktemp("masked")
    photo = photo_with(folder / "photos" / "m.png", [(40, 20, 120)])
    box = FakeDetector().detect(np.asarray(Image.open(photo)))[0].box
    picture = np.array(Image.open(photo))
    picture[:] = (200, 150, 120)
    picture[int((box[1] + box[3]) / 2) :] = (0, 0, 255)
    works = (Work(s) for s in iter_sources([str(photo)]))
    detection = Detection(box, 0.9)
    Image.fromarray(picture).save(photo)

    class Here:
        name = "here"

        def detect(self, image):
            return [detection]

    settings = RunSettings(folder / "run", ("obj", "texture"), two_pass=False)
    run(works, _Masked(), Here, settings)
    return folder


def test_exports_of_a_finished_run_know_what_covers_the_face(sadr, masked, tmp_path):
    result = sadr(masked / "run", "--out", tmp_path, "--format", "texture,ply,visibility,attention")
    assert result.exit_code == 0, result.stderr
    for name in ("m.texture.png", "m.real.png"):
        then = np.asarray(Image.open(masked / "run" / name)).astype(int)
        now = np.asarray(Image.open(tmp_path / name)).astype(int)
        assert np.abs(now - then).mean() < 1
    colors = load(tmp_path / "m.ply").visual.vertex_colors[:, :3].astype(int)
    assert np.abs(colors - (200, 150, 120)).max() < 40  # no blue
    seen = np.asarray(Image.open(tmp_path / "m.visibility.png"))
    assert 0.2 < (seen[UV.mask] > 200).mean() < 0.8


def test_records_without_attention_can_be_read_and_say_so(sadr, masked, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(masked / "run", old)
    record = json.loads((old / "m.json").read_text())
    assert np.shape(record["attention"]["values"]) == (16, 16)
    del record["attention"]
    (old / "m.json").write_text(json.dumps(record))
    result = sadr(old, "--out", tmp_path / "1", "--format", "glb")
    assert result.exit_code == 0 and "reconstruct it again" in result.stderr
    for name in ("attention", "visibility"):
        result = sadr(old, "--out", tmp_path / "2", "--format", name)
        assert result.exit_code == 2 and f"lacks the {name}" in result.stderr
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("values", [[], [[1, 2]], [["a"]], [[0.5] * 300] * 300, 7])
def test_damaged_attention_is_refused(sadr, masked, tmp_path, values):
    bad = tmp_path / "bad"
    shutil.copytree(masked / "run", bad)
    record = json.loads((bad / "m.json").read_text())
    record["attention"]["values"] = values
    (bad / "m.json").write_text(json.dumps(record))
    result = sadr(bad, "--out", tmp_path / "1", "--format", "obj")
    assert result.exit_code == 3 and "its attention has values" in result.stderr


def test_a_foreign_mesh_is_converted_or_refused(sadr, tmp_path):
    ball = trimesh.creation.icosphere(4)
    ball.export(tmp_path / "ball.ply")
    out = tmp_path / "out"
    result = sadr(tmp_path / "ball.ply", "--out", out, "--format", "glb,obj,stl", "--decimate", 600)
    assert result.exit_code == 0, result.stderr
    for suffix in ("glb", "obj", "stl"):
        mesh = load(out / f"ball.{suffix}")
        assert len(mesh.faces) <= 600 and mesh.extents == pytest.approx([2, 2, 2], abs=0.05)
    assert b'"frame":"file"' in (out / "ball.glb").read_bytes()
    for wrong in (
        ["--format", "depth"],
        ["--format", "obj", "--frame", "metric"],
        ["--format", "obj", "--crop-ears"],
        ["--format", "obj", "--texture-size", 128],
    ):
        result = sadr(tmp_path / "ball.ply", "--out", tmp_path / "x", *wrong)
        assert result.exit_code == 2 and "ball.ply" in result.stderr, wrong
        assert not (tmp_path / "x").exists()


def test_missing_photos(sadr, made, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(made / "run", moved)
    path = moved / "manifest.json"
    path.write_text(path.read_text().replace(str(made / "photos"), "/nowhere"))
    strict = sadr(moved, "--out", tmp_path / "1", "--format", "obj", "--texture-size", 64)
    assert strict.exit_code == 3 and "--photos" in strict.stderr
    assert not list((tmp_path / "1").glob("*.obj"))
    kept = sadr(moved, "--out", tmp_path / "2", "--format", "glb")
    assert kept.exit_code == 0 and "the colours of its mesh are kept" in kept.stderr
    found = sadr(moved, "--out", tmp_path / "3", "--format", "texture", "--photos", made / "photos")
    assert found.exit_code == 0
    assert np.asarray(Image.open(tmp_path / "3" / "a.texture.png")).shape == (512, 512, 3)
    other = tmp_path / "photos"
    photo_with(other / "a.png", size=(80, 100))
    photo_with(other / "b.png", size=(80, 100))
    wrong = sadr(moved, "--out", tmp_path / "4", "--format", "texture", "--photos", other)
    assert wrong.exit_code == 3 and "200 x 160 then, 100 x 80 now" in wrong.stderr


def test_folders_of_another_version_or_kind(sadr, made, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(made / "run", old)
    path = old / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    result = sadr(old, "--out", tmp_path / "o", "--format", "obj")
    assert result.exit_code == 5 and "another version" in result.stderr
    path.write_text("{")
    assert sadr(old, "--out", tmp_path / "o", "--format", "obj").exit_code == 5
    empty = tmp_path / "empty"
    empty.mkdir()
    assert sadr(empty, "--out", tmp_path / "o", "--format", "obj").exit_code == 4
    assert sadr(tmp_path / "no.obj", "--out", tmp_path / "o", "--format", "obj").exit_code == 2
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--format", "fbx"], "fbx"),
        (["--format", "obj", "--frame", "world"], "world"),
        (["--format", "obj", "--decimate", "10"], "--decimate"),
        (["--format", "obj", "--texture-size", "7"], "--texture-size"),
    ],
)
def test_wrong_usage(sadr, made, tmp_path, arguments, word):
    result = sadr(made / "run", "--out", tmp_path / "o", *arguments)
    assert result.exit_code == 2 and word in result.stderr
    assert not list(tmp_path.rglob("*.*"))


def test_bad_files_fail_alone(sadr, made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made / "run", folder)
    (folder / "a.obj").unlink()
    (folder / "b.obj").write_bytes((folder / "b.obj").read_bytes()[:30_000])
    out = tmp_path / "o"
    result = sadr(folder, "--out", out, "--format", "stl", "--json")
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("status") for line in lines[:-1]] == ["failed", "failed", "ok"]
    assert lines[-1]["summary"]["failed"] == 2
    assert sorted(p.name for p in out.glob("*.stl")) == ["b_face1.stl"]
    assert not list(out.glob(".sadr*"))


def test_unwritable_targets(sadr, made, tmp_path):
    (tmp_path / "file").write_text("x")
    result = sadr(made / "run", "--out", tmp_path / "file" / "o", "--format", "obj")
    assert result.exit_code == 1 and "cannot write" in result.stderr
    result = sadr(made / "run", "--out", made / "run", "--format", "obj")
    assert result.exit_code == 2 and "another folder" in result.stderr


def test_photos_of_one_person_become_one_mesh(sadr, made, tmp_path):
    who = tmp_path / "ann.txt"
    who.write_text("a.png\nb_face1\n")
    out = tmp_path / "o"
    result = sadr(
        made / "run", "--out", out, "--format", "glb,ply", "--merge", who, "--decimate", 900
    )
    assert result.exit_code == 0, result.stderr
    names = {"ann.glb", "ann.ply", "ann.json", "ann.real.png"}
    assert {p.name for p in out.iterdir()} == names | {"landmark_vertices.csv", "vertices.csv"}
    record = json.loads((out / "ann.json").read_text())
    assert record["mesh"]["frame"] == "canonical"
    assert [f["name"] for f in record["faces"]] == ["a", "b_face1"]
    mesh = load(out / "ann.ply")
    expected = UV.mean_shape[UV.landmark_indices] * 1e3 / 15
    np.testing.assert_allclose(mesh.vertices[record["landmarks"]["vertices"]], expected, atol=0.05)
    for wrong in (["--format", "pts"], ["--format", "obj", "--frame", "image"]):
        result = sadr(made / "run", "--out", tmp_path / "x", "--merge", who, *wrong)
        assert result.exit_code == 2 and "--merge" in result.stderr
    assert not (tmp_path / "x").exists()
