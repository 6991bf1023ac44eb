"""Scans: reading, rendering, and a protocol that measures what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import SMALL, FakeNetwork
from PIL import Image
from synthetic import layout, posed_face

from sadr_cli.errors import ExitCode, MissingDataError
from sadr_cli.evaluation.benchmarks import florence
from sadr_cli.evaluation.data import scans
from sadr_cli.evaluation.data.scans import Scan, View, ordered_landmarks, render
from sadr_cli.evaluation.measures import views
from sadr_cli.evaluation.measures.surface import Surface, icp_to_surface, surface_error
from sadr_cli.evaluation.measures.views import PITCHES, YAWS, ScanTruth, view_errors
from sadr_cli.evaluation.run import Settings
from sadr_cli.faces import Detection
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.rasterize import vertex_normals

pytest.importorskip("open3d")
MM = 66.67
WHOLE = layout()  # 36,000 vertices: a region of 19,000 is a part of it


def template_scan(uv=WHOLE) -> Scan:
    """The mean template as a scan in millimetres, off the origin."""
    return Scan("mean", MM * uv.mean_shape.astype(float) + [5, 900, -40], uv.triangles)


def landmarks_of(scan: Scan, uv=WHOLE):
    return ordered_landmarks(scan.vertices[uv.landmark_indices], "made up")


def face_in(view: View, vertices: np.ndarray, uv=WHOLE):
    """A face whose vertices are scan points seen by ``view``, with a depth of its own."""
    points = view.project(vertices) + np.array([0, 0, 123.0])
    face = posed_face(uv)
    return replace(face, vertices=points, landmarks=points[uv.landmark_indices])


@pytest.fixture(scope="module")
def truth():
    scan = template_scan()
    return ScanTruth.prepare(scan, landmarks_of(scan), WHOLE)


@pytest.mark.parametrize("index", [0, 7, 12, 19])
def test_a_perfect_reconstruction_has_no_error(truth, index):
    view = views.views_of(truth.landmarks)[index]
    _, depth = render(truth.scan, view)
    there, back = view_errors(face_in(view, truth.scan.vertices), truth, view, depth, WHOLE)
    assert there == pytest.approx(0, abs=1e-3)
    assert back == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("height", [0.5, 2.0])
def test_a_known_error_comes_out_as_itself(truth, height):
    scan = truth.scan
    x, y = ((scan.vertices - scan.vertices.mean(0)) / MM).T[:2]
    bumps = height * np.sin(12 * x + 1) * np.sin(11 * y)  # millimetres along the normal
    bumpy = scan.vertices + vertex_normals(scan.vertices, scan.triangles) * bumps[:, None]
    view = views.views_of(truth.landmarks)[6]
    _, depth = render(scan, view)
    there, _ = view_errors(face_in(view, bumpy), truth, view, depth, WHOLE)
    region = views.face_region(WHOLE)
    known = 100 * np.abs(bumps[region]).mean() / truth.landmarks.eye_distance
    assert there == pytest.approx(known, rel=0.05)


def test_the_reverse_error_reveals_a_shrunken_face(truth):
    view = views.views_of(truth.landmarks)[7]
    _, depth = render(truth.scan, view)
    middle = truth.scan.vertices[views.face_region(WHOLE)].mean(0)
    shrunk = middle + 0.5 * (truth.scan.vertices - middle)
    there, back = view_errors(face_in(view, shrunk), truth, view, depth, WHOLE)
    assert back > 3 * there


def test_what_lies_inside_the_head_is_no_part_of_the_face(truth):
    outside = truth.scan
    count = len(outside.vertices)
    middle = outside.vertices.mean(0)
    inside = middle + 0.4 * (outside.vertices - middle) - np.array([0, 0, 10.0])
    scan = Scan(
        "hollow",
        np.concatenate([outside.vertices, inside]),
        np.concatenate([outside.triangles, outside.triangles + count]),
    )
    hollow = ScanTruth.prepare(scan, truth.landmarks, WHOLE)
    assert len(hollow.face) == views.REGION
    view = views.views_of(truth.landmarks)[7]
    _, depth = render(scan, view)
    there, back = view_errors(face_in(view, outside.vertices), hollow, view, depth, WHOLE)
    assert there == pytest.approx(0, abs=1e-2)
    assert back == pytest.approx(0, abs=0.1)


def test_icp_undoes_a_rigid_motion(truth):
    points = truth.scan.vertices[views.face_region(WHOLE)]
    eyes = truth.landmarks.eye_distance
    middle = points.mean(0)
    moved = (points - middle) @ euler_to_matrix(12, -8, 6).T + middle + 0.1 * eyes
    aligned = icp_to_surface(moved, truth.surface, reach=0.25 * eyes)
    np.testing.assert_allclose(aligned, points, atol=2e-3 * eyes)
    assert surface_error(moved, truth.surface, eyes) < 0.01


def test_the_region_is_19000_vertices_around_the_nose():
    region = views.face_region(WHOLE)
    assert len(region) == 19_000
    distance = np.linalg.norm(
        WHOLE.mean_shape - WHOLE.mean_shape[WHOLE.landmark_indices[30]], axis=1
    )
    outside = np.setdiff1d(np.arange(WHOLE.vertex_count), region)
    assert distance[region].max() <= distance[outside].min() + 1e-6


def test_there_are_twenty_views_and_they_turn_as_the_package_does(truth):
    cameras = views.views_of(truth.landmarks)
    assert [(v.pitch, v.yaw) for v in cameras] == [(p, y) for p in PITCHES for y in YAWS]
    vertices = truth.scan.vertices
    nose, middle = vertices[vertices[:, 2].argmax()], vertices.mean(0)
    left = next(v for v in cameras if v.yaw == 40 and v.pitch == 0)
    up = next(v for v in cameras if v.yaw == 0 and v.pitch == 20)
    ahead = next(v for v in cameras if v.yaw == 0 and v.pitch == 0)

    def nose_at(view: View) -> np.ndarray:
        return np.subtract(*view.project(np.stack([nose, middle])))

    assert nose_at(left)[0] < nose_at(ahead)[0]  # yaw > 0: towards the picture's left
    assert nose_at(up)[1] < nose_at(ahead)[1]  # pitch > 0: upwards
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(left.lift(left.project(points)), points, atol=1e-9)


def textured_square() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles, texture coordinates, and a texture: red above, blue below."""
    vertices = np.array([[-10, -10, 0], [10, -10, 0], [10, 10, 0], [-10, 10, 0]], float)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    texture = np.zeros((16, 16, 3), np.uint8)
    texture[:8], texture[8:] = [255, 0, 0], [0, 0, 255]
    return vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv, texture


def write_obj(folder: Path, material: bool) -> Path:
    vertices, triangles, uv, texture = textured_square()
    lines = ["mtllib s.mtl", "usemtl m"] if material else []
    lines += [f"v {x} {y} {z}" for x, y, z in vertices] + [f"vt {u} {v}" for u, v in uv]
    lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in triangles + 1]
    (folder / "s.obj").write_text("\n".join(lines) + "\n")
    (folder / "s.mtl").write_text("newmtl m\nmap_Kd paint.png\n")
    Image.fromarray(texture).save(folder / "paint.png")
    return folder / "s.obj"


def write_wrl(folder: Path) -> Path:
    vertices, _, uv, texture = textured_square()

    def join(rows, end=""):
        return ", ".join(" ".join(map(str, row)) + end for row in rows)

    (folder / "s.wrl").write_text(
        "#VRML V2.0 utf8\nShape { appearance Appearance { texture ImageTexture "
        '{ url [ "c:\\\\scans\\\\paint.png" ] } }\n geometry IndexedFaceSet { coord Coordinate '
        f"{{ point [ {join(vertices)} ] }}\n coordIndex [ 0, 1, 2, 3, -1 ]\n texCoord "
        f"TextureCoordinate {{ point [ {join(uv)} ] }}\n texCoordIndex [ 0 1 2 3 -1 ] }} }}\n"
    )
    Image.fromarray(texture).save(folder / "paint.png")
    return folder / "s.wrl"


def write_ply(folder: Path) -> Path:
    vertices, triangles, _, _ = textured_square()
    head = ["ply", "format ascii 1.0", "element vertex 4"]
    head += [f"property float {c}" for c in "xyz"]
    head += [f"property uchar {c}" for c in ("red", "green", "blue")]
    head += ["element face 2", "property list uchar int vertex_indices", "end_header"]
    colors = ["0 0 255", "0 0 255", "255 0 0", "255 0 0"]
    rows = [f"{x} {y} {z} {c}" for (x, y, z), c in zip(vertices, colors, strict=True)]
    rows += [f"3 {a} {b} {c}" for a, b, c in triangles]
    (folder / "s.ply").write_text("\n".join(head + rows) + "\n")
    return folder / "s.ply"


@pytest.mark.parametrize(
    "write",
    [lambda f: write_obj(f, True), lambda f: write_obj(f, False), write_wrl, write_ply],
    ids=["obj", "obj without material", "wrl", "ply"],
)
def test_scans_of_every_format_are_read_with_their_colours(tmp_path, write):
    scan = scans.read_scan(write(tmp_path), "s")
    picture, depth = render(scan, View(0, 0, 2.0, (0, 0, 0), 50))
    assert np.isfinite(depth).sum() == pytest.approx(1600, abs=100)
    top, bottom = picture[8, 25].astype(int), picture[41, 25].astype(int)
    assert top[0] > 200 > 60 > top[2]
    assert bottom[2] > 200 > 60 > bottom[0]
    assert (picture[0, 0] == 0).all()


@pytest.mark.parametrize("name", ["s.obj", "s.ply", "s.wrl"])
def test_a_damaged_scan_is_named(tmp_path, name):
    (tmp_path / name).write_text("no scan at all")
    with pytest.raises(MissingDataError, match=name):
        scans.read_scan(tmp_path / name, "s")


def test_landmark_files(tmp_path):
    points = np.random.default_rng(0).normal(0, 30, (68, 3))
    np.savetxt(tmp_path / "s.txt", points)
    found = scans.read_landmarks(tmp_path / "s.obj")
    np.testing.assert_allclose(found.outer_eyes, points[[36, 45]])
    assert found.ordered
    np.savetxt(tmp_path / "s.txt", points[:60])
    with pytest.raises(MissingDataError, match=r"s\.txt must contain 68 lines"):
        scans.read_landmarks(tmp_path / "s.obj")
    (tmp_path / "s.txt").unlink()
    group = {
        "landmarks": {"points": [[-40, 0, 0], [-10, 0, 0], [10, 0, 0], [42, 1, 0], [0, -20, 30]]},
        "labels": [{"label": "reye", "mask": [0, 1]}, {"label": "leye", "mask": [2, 3]}],
    }
    (tmp_path / "s.ljson").write_text(json.dumps({"groups": {"LJSON": group}}))
    found = scans.read_landmarks(tmp_path / "s.obj")
    assert found.outer_eyes.tolist() == [[-40, 0, 0], [42, 1, 0]]
    assert found.nose_tip.tolist() == [0, -20, 30]
    (tmp_path / "s.ljson").write_text("{}")
    with pytest.raises(MissingDataError, match="labelled eyes"):
        scans.read_landmarks(tmp_path / "s.obj")
    (tmp_path / "s.ljson").unlink()
    assert scans.read_landmarks(tmp_path / "s.obj") is None


def write_template_scan(folder: Path, uv=SMALL) -> None:
    scan = template_scan(uv)
    lines = [f"v {x} {y} {z}" for x, y, z in scan.vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in scan.triangles + 1]
    folder.mkdir()
    (folder / "mean.obj").write_text("\n".join(lines) + "\n")
    np.savetxt(folder / "mean.txt", scan.vertices[uv.landmark_indices])


class ViewNetwork(FakeNetwork):
    """Knows the views' order and answers with the scan itself."""

    def reconstruct_crops(self, images, crops, detections=None):
        self.calls += 1
        scan = template_scan(self.uv)
        cameras = views.views_of(landmarks_of(scan, self.uv))
        return [face_in(view, scan.vertices, self.uv) for view in cameras]


@pytest.mark.slow
def test_the_whole_protocol_on_the_mean_template(tmp_path, monkeypatch):
    from sadr_cli.evaluation import run

    write_template_scan(tmp_path / "subject")
    network = ViewNetwork([])
    monkeypatch.setattr(run, "make_network", lambda settings: network)
    monkeypatch.setattr(views, "REGION", 2000)
    monkeypatch.setattr(views, "SIZE", 192)
    monkeypatch.setattr(views, "EYE_PIXELS", 60.0)
    settings = Settings("florence", data=tmp_path / "subject", out=tmp_path / "out")
    report = run.evaluate(settings)
    results = report.entries[0].scores.results["reconstruction"]
    assert results["all"]["count"] == 20
    assert results["all"]["mean"] == pytest.approx(0, abs=1e-2)
    assert set(results["by view"]) == {"pitch -15", "pitch +0", "pitch +20", "pitch +25"}
    assert len(list((tmp_path / "out" / "views").glob("*.jpg"))) == 20
    # a second run reads the scan's errors back
    again = run.evaluate(settings)
    assert network.calls == 1
    assert again.to_dict() == report.to_dict()


def test_a_scan_whose_landmarks_are_not_finite_is_named(monkeypatch):
    class Detector:
        def detect(self, image):
            return [Detection(np.array([60.0, 60, 130, 130]))]

    monkeypatch.setattr(views, "SIZE", 192)
    lost = replace(posed_face(SMALL), landmarks=np.full((68, 3), np.nan), confidence=np.nan)
    network = FakeNetwork([lost])
    network._face = lambda crop: lost
    with pytest.raises(MissingDataError, match="no landmarks in the frontal view of scan mean"):
        florence.find_landmarks(template_scan(SMALL), network, Detector())


def test_no_scans(tmp_path, monkeypatch):
    monkeypatch.delenv("SADR_DATA", raising=False)
    for data in (None, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(MissingDataError, match=r"micc\.unifi\.it") as caught:
            florence.find_scans(data)
        assert caught.value.exit_code == ExitCode.MISSING


def test_distance_to_a_surface_is_that_to_its_inside_not_to_its_corners():
    vertices = np.array([[0, 0, 0], [100, 0, 0], [0, 100, 0]], float)
    surface = Surface(vertices, np.array([[0, 1, 2]]), 100.0)
    points = np.array([[30, 30, 5], [20, 10, -7.0], [-3, 0, 4]])
    np.testing.assert_allclose(
        np.linalg.norm(surface.nearest(points) - points, axis=1), [5, 7, 5], atol=1e-4
    )


def test_triangles_without_area_neither_attract_nor_spoil_the_alignment():
    grid = np.stack(np.meshgrid(*[np.arange(30.0)] * 2, indexing="ij"), -1).reshape(-1, 2)
    vertices = np.column_stack([grid, 3 * np.sin(grid[:, 0] / 4) + 2 * np.cos(grid[:, 1] / 3)])
    corner = np.arange(900).reshape(30, 30)[:-1, :-1].ravel()
    triangles = np.concatenate(
        [corner[:, None] + [0, 30, 1], corner[:, None] + [1, 30, 31], corner[:, None] + [0, 0, 1]]
    )
    surface = Surface(vertices, triangles, 30.0)
    assert np.isfinite(surface.nearest_with_normals(vertices)[1]).all()
    aligned = icp_to_surface(vertices + [0.3, 0.2, 0.5], surface, reach=5.0)
    np.testing.assert_allclose(aligned, vertices, atol=1e-2)
