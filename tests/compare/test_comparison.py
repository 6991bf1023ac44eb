"""``sadr compare``: distances that are known beforehand, files and messages."""

from __future__ import annotations

import csv
import json
from functools import partial

import numpy as np
import pytest
import trimesh
from fakes import FakeDetector, FakeReconstructor, photo_with
from pictures import photo
from scipy.spatial.transform import Rotation
from synthetic import layout

from sadr_cli import Detection, Reconstructor
from sadr_cli.compare.distance import compare
from sadr_cli.compare.load import Shape
from sadr_cli.compare.picture import colors
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.render.rasterize import vertex_normals
from sadr_cli.sources import iter_sources
from sadr_cli.uv import MM_PER_UNIT

UV = layout(0.25)
TURN = Rotation.from_euler("xyz", (20, -35, 10), degrees=True).as_matrix()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    photo_with(folder / "photos" / "a.png")
    photo_with(folder / "photos" / "b.png", [(20, 30, 40), (110, 60, 60)])
    works = (Work(s) for s in iter_sources([str(folder / "photos")]))
    run(works, FakeReconstructor(), FakeDetector, RunSettings(folder / "run", ("obj",)))
    return folder


@pytest.fixture
def sadr(sadr):
    return partial(sadr, "compare")


def face(name: str = "face", vertices=None) -> Shape:
    own = UV.mean_shape.astype(float) * MM_PER_UNIT
    points = own if vertices is None else vertices
    return Shape(name, points, UV.triangles, "canonical", points[UV.landmark_indices])


def head(subdivisions: int = 4) -> trimesh.Trimesh:
    """A closed body without symmetry, 110 high, that tapers to its chin and has a nose."""
    ball = trimesh.creation.icosphere(subdivisions)
    x, y, z = ball.vertices.T
    bump = 1 + 0.25 * np.exp(-((x - 0.2) ** 2 + (y + 0.1) ** 2 + (z - 1) ** 2) / 0.1)
    taper = 1 + 0.3 * y
    ball.vertices = np.stack([40 * x * taper * bump + 4 * y, 55 * y, 48 * z * taper * bump], 1)
    return ball


def shape_of(mesh: trimesh.Trimesh, name: str = "head", frame: str = "file") -> Shape:
    return Shape(name, np.array(mesh.vertices), np.array(mesh.faces, np.int32), frame)


def test_a_moved_face_is_the_same_face():
    moved = face("moved", face().vertices @ TURN.T + (30, -5, 800))
    found = compare(moved, face())
    assert found.method == "points" and found.figures()["max"] < 1e-9
    np.testing.assert_allclose(found.rotation, TURN.T, atol=1e-9)
    assert compare(moved, face(), align=False).figures()["mean"] > 700


def test_size_counts_unless_scale_is_asked_for():
    large = face("large", 1.1 * face().vertices)
    growth = 0.1 * np.linalg.norm(face().vertices - face().vertices.mean(0), axis=1).mean()
    assert compare(large, face()).figures()["mean"] == pytest.approx(growth)
    found = compare(large, face(), with_scale=True)
    assert found.figures()["max"] < 1e-9 and found.scale == pytest.approx(1 / 1.1)


def test_the_sign_says_on_which_side():
    """Some vertices moved 5 mm along the normal, others along the surface."""
    normals = vertex_normals(face().vertices, UV.triangles)
    across = np.cross(normals, (0, 1, 0))
    across /= np.linalg.norm(across, axis=1)[:, None]
    vertices = face().vertices.copy()
    vertices[:50] += 5 * normals[:50]
    vertices[50:100] += 5 * across[50:100]
    found = compare(face("out", vertices), face(), align=False)
    assert found.distance[:100] == pytest.approx(5.0)
    assert found.signed[:50] == pytest.approx(5.0)
    assert found.signed[50:100] == pytest.approx(0.0, abs=1e-9)
    back = compare(face(), face("out", vertices), align=False)
    assert back.figures()["signed"] < 0 and back.figures()["max"] == pytest.approx(5.0)
    assert back.figures()["median"] == 0


@pytest.mark.parametrize("side", [1, -1])
def test_surfaces_without_correspondence_are_measured_to_the_nearest_point(side):
    ball, around = trimesh.creation.icosphere(3, 90), trimesh.creation.icosphere(4, 90 + 3 * side)
    found = compare(shape_of(around), shape_of(ball))
    figures = found.figures()
    assert found.method == "surface" and figures["beyond"] == 0
    assert figures["mean"] == pytest.approx(3, abs=0.4)  # facets lie below the ball
    assert np.sign(figures["signed"]) == side


def test_meshes_are_found_whatever_their_turn_size_and_place():
    a, b = head(3), head(4)
    a.vertices = np.array(a.vertices) @ TURN.T * 0.02 + 5
    found = compare(shape_of(a, "a"), shape_of(b, "b"), with_scale=True)
    assert found.scale == pytest.approx(50, rel=0.01)
    np.testing.assert_allclose(found.rotation, TURN.T, atol=0.01)
    assert found.figures()["max"] < 0.3  # of 110


def test_vertices_beyond_the_boundary_are_left_out():
    whole = head()
    half = whole.submesh([np.flatnonzero(whole.triangles_center[:, 2] > 0)], append=True)
    found = compare(shape_of(whole), shape_of(half), align=False)
    behind = np.array(whole.vertices)[:, 2] < -1
    assert np.isnan(found.distance[behind]).mean() > 0.95
    assert found.figures()["max"] < 1 and found.figures()["beyond"] > 1000
    painted = colors(found.signed, 1.0)
    assert (painted[np.isnan(found.signed)] == 120).all()


def test_colours_are_blue_inside_and_red_outside():
    blue, white, red = colors(np.array([-9.0, 0.0, 9.0]), 2.0).astype(int)
    assert blue[2] > 100 > blue[0] and red[0] > 100 > red[2] and white.min() > 240


def test_two_photos_of_a_person_are_nearer_than_those_of_two_people():
    """Real faces; the scarf of one photo changes the expression at most."""
    network = Reconstructor(two_pass=False)
    boxes = {
        "astronaut": (184, 62, 268, 174),
        "astronaut_occluded": (184, 62, 268, 174),
        "hopper": (183, 119, 362, 337),
    }
    shapes = []
    for name, box in boxes.items():
        detection = Detection(np.array(box, float), detector="centerface")
        found = network.reconstruct(photo(name), [detection])[0]
        vertices = found.shape.astype(float) * MM_PER_UNIT
        shapes.append(Shape(name, vertices, network.uv.triangles, "canonical"))
    same, other = (compare(shapes[0], shape).figures()["mean"] for shape in shapes[1:])
    assert 0 < same < 0.8 * other < 4


def test_faces_of_a_run_by_name_and_all_files(sadr, made, tmp_path):
    files = [tmp_path / f"d.{kind}" for kind in ("glb", "ply", "csv")]
    outs = [part for path in files for part in ("--out", path)]
    result = sadr(made / "run" / "a", made / "run" / "b_face1", "--json", *outs)
    assert result.exit_code == 0, result.stderr
    one, summary = map(json.loads, result.stdout.splitlines())
    assert (one["a"], one["b"], one["method"]) == ("a", "b_face1", "points")
    assert one["points"] == UV.vertex_count and one["max"] < 0.1  # the fake has one face
    assert summary["summary"]["compared"] == 1
    glb = trimesh.load(files[0], force="mesh", process=False)
    assert len(glb.vertices) == UV.vertex_count
    assert glb.extents[1] == pytest.approx(
        np.ptp(UV.mean_shape[:, 1]) * MM_PER_UNIT / 1e3, rel=0.01
    )
    with files[2].open() as file:
        rows = list(csv.DictReader(file))
    mean = np.mean([float(row["distance_mm"]) for row in rows])
    assert len(rows) == UV.vertex_count and mean == pytest.approx(one["mean"], abs=1e-3)


def test_two_runs_face_by_face(sadr, made):
    result = sadr(made / "run", made / "run")
    assert result.exit_code == 0, result.stderr
    head, *rows = [line.split() for line in result.stdout.splitlines()]
    assert head[0] == "face" and [row[0] for row in rows] == ["a", "b", "b_face1"]
    assert all(row[2] == "0.00" for row in rows)
    assert "3 comparisons" in result.stderr and "mean head" in result.stderr


@pytest.mark.slow
def test_a_mesh_of_another_program_in_its_own_units(sadr, made, tmp_path):
    own = np.asarray(UV.mean_shape, float) * MM_PER_UNIT
    for name, unit in (("mm.ply", 1), ("cm.obj", 10), ("m.glb", 1000)):
        scan = trimesh.Trimesh(own / unit, UV.triangles[:, [1, 2, 0]], process=False)
        scan.export(tmp_path / name)
        asked = ("--units", "cm") if name == "cm.obj" else ()
        result = sadr(made / "run" / "a", tmp_path / name, "--json", *asked)
        assert result.exit_code == 0, result.stderr
        one = json.loads(result.stdout.splitlines()[0])
        assert one["method"] == "surface" and one["max"] < 0.3, name
    result = sadr(made / "run" / "a", tmp_path / "cm.obj")
    assert result.exit_code == 3 and "--units" in result.stderr


def test_landmarks_beside_a_mesh_place_it(sadr, made, tmp_path):
    """Half a turn about the vertical and far away."""
    own = np.asarray(UV.mean_shape, float) * MM_PER_UNIT * (-1, 1, -1) + (0, 0, 4000)
    trimesh.Trimesh(own, UV.triangles[:, [1, 2, 0]], process=False).export(tmp_path / "s.ply")
    np.savetxt(tmp_path / "s.txt", own[UV.landmark_indices])
    result = sadr(made / "run" / "a", tmp_path / "s.ply", "--json")
    one = json.loads(result.stdout.splitlines()[0])
    assert one["max"] < 0.3 and one["a_to_b"][2][2] == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{run}/none", "{run}/a"), 2, "no face of that name"),
        (("{run}/a", "nowhere.ply"), 2, "no mesh, run folder or face of a run at nowhere.ply"),
        (("{run}/a", "{run}"), 2, "name the reference as"),
        (("{run}/a", "{run}/b", "--out", "d.png"), 2, "the suffix must be one of"),
        (("{run}", "{run}", "--out", "d.glb"), 2, "--out is for one pair of faces"),
        (("{run}/a", "{run}/b", "--units", "inch"), 2, "--units takes mm, cm or m"),
        (("{run}/a", "{run}/b", "--scale", "--no-align"), 2, "exclude each other"),
        (("{run}/a", "{run}/b", "--range", "-1"), 2, "--range takes a distance"),
        (("{run}/a", "{run}/../photos/a.png"), 3, "not a mesh"),
    ],
)
def test_mistakes_get_one_sentence(sadr, made, arguments, code, message):
    result = sadr(*(part.replace("{run}", str(made / "run")) for part in arguments))
    assert result.exit_code == code
    lines = [line for line in result.stderr.splitlines() if not line.startswith("0 comp")]
    assert len(lines) == 1 and message in lines[0]
    assert result.stdout == ""
