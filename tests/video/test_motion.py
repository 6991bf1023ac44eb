"""Tracks in motion: the targets hold the frames, and glTF files play them as they were."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from pygltflib import GLTF2
from shell import ROOT
from synthetic import layout, posed_face
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.export.subjects import FaceSource, load_subject
from sadr_cli.model.checkpoint import find_weights, load_layout
from sadr_cli.pose import matrix_to_quaternion, quaternion_to_matrix
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.video.motion import Components, MotionRecorder
from sadr_cli.writers import create_writer, face_mesh
from sadr_cli.writers.animation import FOCAL
from sadr_cli.writers.glb import encode_glb

SIZE = (240, 320)
MOUTH, BROW = 0.06, 0.02  # units of the shape that two made-up expressions move


@pytest.fixture(scope="module")
def uv():
    return layout(0.3)


def moving(uv, k):
    """A face that turns through half a circle, comes nearer and talks."""
    pose = {"yaw": 50 - 4.0 * k, "roll": 3.0 * k, "scale": 60 + 1.5 * k}
    face = posed_face(uv, **pose, center=(100 + 3 * k, 90 - k))
    x, y, _ = uv.mean_shape.T
    shape = np.array(uv.mean_shape, float)
    shape[:, 1] -= MOUTH * np.sin(k / 3) * np.exp(-((x**2 + (y + 0.2) ** 2) / 0.02))
    shape[:, 2] += BROW * np.cos(k / 2) * np.exp(-((x**2 + (y - 0.2) ** 2) / 0.02))
    vertices = (face.scale * shape @ face.rotation.T + face.translation) * (1, -1, 1)
    return replace(face, shape=shape, vertices=vertices, landmarks=vertices[uv.landmark_indices])


@pytest.fixture(scope="module")
def faces(uv):
    return [moving(uv, k) for k in range(25)]


def times(k):
    return 2.0 + k / 30


def recorded(faces, still=12, moves=True):
    recorder = MotionRecorder()
    for k, face in enumerate(faces):
        recorder.see(face, times(k), SIZE)
    base = replace(faces[still], shape=np.mean([f.shape for f in faces], 0))
    return base, recorder.motion(base, times(still), np.eye(4), moves)


def test_components_hold_vectors_of_low_rank_and_say_what_they_lose():
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(40, 3)) @ generator.normal(size=(3, 500))
    vectors += 0.01 * generator.normal(size=vectors.shape)
    parts = Components(500, 3)
    for start in range(0, 40, 8):
        parts.take_in(vectors[start : start + 8].astype(np.float32))
    gap = vectors - parts.weights @ parts.basis
    best = np.linalg.svd(vectors, compute_uv=False)[3:]
    assert parts.lost == pytest.approx((gap**2).sum(), rel=0.01)
    assert parts.lost <= 1.2 * (best**2).sum()


def test_targets_hold_every_frame(faces):
    _, motion = recorded(faces)
    assert len(motion.targets) == 3  # what was made up, and where it begins
    assert motion.weights.min() >= 0 and motion.weights.max() <= 1  # as far as Blender goes
    for k, face in enumerate(faces):
        played = motion.base + np.tensordot(motion.weights[k], motion.targets, 1)
        assert np.abs(played - face.shape * MM_PER_UNIT).max() < 0.2
    played = motion.base + np.tensordot(motion.weights, motion.targets, 1)
    true = np.stack([f.shape for f in faces]) * MM_PER_UNIT
    apart = ((played - true) ** 2).sum(2).mean() ** 0.5
    assert motion.error == pytest.approx(apart, abs=0.01)
    assert motion.error < 0.05


def test_a_still_face_needs_no_targets(uv):
    _, motion = recorded([posed_face(uv, yaw=k) for k in range(12)], 3)
    assert motion.targets.shape == (0, uv.vertex_count, 3)


def test_one_frame_is_no_motion(uv):
    assert recorded([posed_face(uv)], 0)[1] is None


@pytest.fixture(scope="module")
def played(uv, faces, tmp_path_factory):
    """The file, read by somebody else: (document, accessor by number)."""
    base, motion = recorded(faces)
    mesh = face_mesh(base, uv, SIZE[0], "metric", image_width=SIZE[1])
    still = face_mesh(base, uv, SIZE[0], "canonical").to_photo
    path = tmp_path_factory.mktemp("glb") / "t.glb"
    create_writer("glb").write(path, replace(mesh, motion=replace(motion, to_photo=still)))
    return path, GLTF2().load(path)


def accessor(document, number):
    a = document.accessors[number]
    view = document.bufferViews[a.bufferView]
    kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[a.componentType]
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    return np.frombuffer(data, kind).reshape(a.count, -1).astype(float)


def channels(document):
    """Path -> (times, values)."""
    (animation,) = document.animations
    out = {}
    for channel in animation.channels:
        assert channel.target.node == 0
        sampler = animation.samplers[channel.sampler]
        assert sampler.interpolation == "LINEAR"
        seconds = accessor(document, sampler.input).ravel()
        out[channel.target.path] = seconds, accessor(document, sampler.output)
    return out


def test_played_frames_lie_where_the_photo_shows_them(faces, played):
    """Vertices by targets, node and camera, as glTF defines them, against the faces recorded."""
    _, document = played
    found = channels(document)
    primitive = document.meshes[0].primitives[0]
    base = accessor(document, primitive.attributes.POSITION)
    targets = [accessor(document, t["POSITION"]) for t in primitive.targets]
    weights = found["weights"][1].reshape(-1, len(targets))
    camera = next(n for n in document.nodes if n.camera is not None)
    assert camera.rotation is None and camera.translation is None
    lens = document.cameras[camera.camera].perspective
    assert lens.aspectRatio == pytest.approx(SIZE[1] / SIZE[0])
    height = SIZE[0]
    for k, face in enumerate(faces):
        local = base + np.tensordot(weights[k], targets, 1)
        x, y, z, w = found["rotation"][1][k]
        turned = local @ quaternion_to_matrix([w, x, y, z]).T
        assert np.abs(turned - face.shape @ face.rotation.T * MM_PER_UNIT / 1e3).max() < 2e-4
        placed = turned + found["translation"][1][k]
        f = height / 2 / np.tan(lens.yfov / 2)
        pixels = placed[:, :2] / -placed[:, 2:] * f * (1, -1) + (SIZE[1] / 2, height / 2) - 0.5
        for axis in (0, 1):  # a lens is no weak perspective, but all is the right way round
            assert np.corrcoef(pixels[:, axis], face.vertices[:, axis])[0, 1] > 0.9
        middle = placed.mean(0)
        seen = middle[:2] / -middle[2] * f * (1, -1) + (SIZE[1] / 2, height / 2) - 0.5
        assert np.abs(seen - face.vertices[:, :2].mean(0)).max() < 0.01
        assert -middle[2] == pytest.approx(
            FOCAL * SIZE[1] / face.scale * MM_PER_UNIT / 1e3, rel=1e-4
        )


def test_times_are_the_videos_own_and_turns_take_the_short_way(faces, played):
    found = channels(played[1])
    for seconds, _ in found.values():
        np.testing.assert_allclose(seconds, [times(k) for k in range(len(faces))], atol=1e-5)
    turns = found["rotation"][1]
    assert ((turns[1:] * turns[:-1]).sum(1) > 0.99).all()


def samples(text, name):
    """The values of an attribute over time, as USD's text has them: (codes, values)."""
    body = re.search(re.escape(name) + r"\.timeSamples = \{ (.*) \}", text)[1]
    pairs = re.findall(r"([\d.]+): [(\[]([^)\]]*)[)\]]", body)
    codes = np.array([float(code) for code, _ in pairs])
    return codes, np.array([row.split(",") for _, row in pairs], float)


def test_usd_plays_the_same_as_gltf(uv, faces, tmp_path):
    base, motion = recorded(faces)
    mesh = face_mesh(base, uv, SIZE[0], "metric", image_width=SIZE[1])
    path = tmp_path / "t.usdz"
    create_writer("usdz").write(path, replace(mesh, motion=motion))
    with zipfile.ZipFile(path) as archive:
        text = archive.read("face.usda").decode()
    (rate,) = re.findall(r"timeCodesPerSecond = (\d+)", text)
    assert rate == "30"
    rows = [
        np.array([row.split(",") for row in body.split("),(")], float)
        for body in re.findall(r"(?:points|offsets) = \[\((.*)\)\]", text)
    ]
    points, *offsets = rows
    assert len(offsets) == len(motion.targets)
    codes, places = samples(text, "xformOp:translate")
    turns, weights = (samples(text, n)[1] for n in ("xformOp:orient", "blendShapeWeights"))
    np.testing.assert_allclose(codes / 30, [times(k) for k in range(len(faces))], atol=1e-5)
    for k, face in enumerate(faces):
        local = points + np.tensordot(weights[k], offsets, 1)
        turned = local @ quaternion_to_matrix(turns[k]).T
        assert np.abs(turned - face.shape @ face.rotation.T * MM_PER_UNIT / 1e3).max() < 2e-4
    np.testing.assert_allclose(places, motion.path.places / 1e3, atol=1e-6)
    lens = [
        float(re.search(rf"{name} = ([\d.]+)", text)[1])
        for name in ("focalLength", "horizontalAperture")
    ]
    assert lens[0] / lens[1] == pytest.approx(FOCAL)
    usd = pytest.importorskip("pxr.Usd")  # the reference reader, where it is installed
    from pxr import Gf, UsdGeom, UsdSkel

    stage = usd.Stage.Open(usd.Stage.Open(str(path)).Flatten())
    place = np.array(
        UsdGeom.Xformable(stage.GetPrimAtPath("/Face")).ComputeLocalToWorldTransform(63)
    )
    assert UsdSkel.BakeSkinning(UsdSkel.Root(stage.GetPrimAtPath("/Face")), Gf.Interval(60, 90))
    baked = UsdGeom.Mesh(stage.GetPrimAtPath("/Face/Mesh")).GetPointsAttr().Get(63)
    assert np.abs(baked - faces[3].shape * MM_PER_UNIT / 1e3).max() < 2e-4
    np.testing.assert_allclose(place[:3, :3].T, faces[3].rotation, atol=1e-5)


def test_usd_of_a_face_that_keeps_its_shape_or_place_has_no_more_than_it_needs(uv, tmp_path):
    still = [posed_face(uv, yaw=k) for k in range(12)]
    for moves, faces in ((True, still), (False, [moving(uv, k) for k in range(25)])):
        base, motion = recorded(faces, 3, moves)
        mesh = face_mesh(base, uv, SIZE[0], "metric", image_width=SIZE[1])
        create_writer("usdz").write(tmp_path / "t.usdz", replace(mesh, motion=motion))
        with zipfile.ZipFile(tmp_path / "t.usdz") as archive:
            text = archive.read("face.usda").decode()
        assert ("xformOp" in text) == ("def Camera" in text) == moves
        assert ("BlendShape" in text) == ("SkelRoot" in text) == (not moves)


def test_what_plays_nothing_shows_the_best_frame(faces, played):
    head = played[1].nodes[0]
    x, y, z, w = head.rotation
    true = matrix_to_quaternion(faces[12].rotation)
    assert abs(np.dot([w, x, y, z], true)) == pytest.approx(1, abs=1e-6)
    assert head.translation[2] < -0.3
    assert np.allclose(played[1].meshes[0].weights, channels(played[1])["weights"][1][36:39, 0])


def test_bounds_are_those_of_the_values(played):
    document = played[1]
    for number, a in enumerate(document.accessors):
        if a.min:
            values = accessor(document, number)
            assert np.allclose(values.min(0), a.min) and np.allclose(values.max(0), a.max)


def test_the_head_stays_where_the_frame_is_canonical(uv, faces, tmp_path):
    base, motion = recorded(faces, moves=False)
    mesh = face_mesh(base, uv, SIZE[0], "canonical")
    create_writer("glb").write(tmp_path / "t.glb", replace(mesh, motion=motion))
    document = GLTF2().load(tmp_path / "t.glb")
    assert set(channels(document)) == {"weights"}
    assert document.cameras == [] and document.nodes[0].rotation is None


def test_a_real_video_and_its_way_back(tmp_path):
    """From the command: a file a track that plays, and that export reads as the mean face."""
    clip, out = ROOT / "examples" / "faces.mp4", tmp_path / "o"
    options = ["--format", "glb,npz", "--end", "0.4", "--no-index", "--out", str(out)]
    result = CliRunner().invoke(app, ["reconstruct", str(clip), *options])
    assert result.exit_code == 0, result.stderr
    lines = (out / "faces_landmarks.jsonl").read_text().splitlines()[1:]
    for track in (1, 2):
        document = GLTF2().load(out / f"faces_track{track}.glb")
        seconds, turns = channels(document)["rotation"]
        rows = [row for row in map(json.loads, lines) if row["track"] == track]
        np.testing.assert_allclose(seconds, [row["time"] for row in rows], atol=1e-4)
        assert len(turns) == len(rows)
        about = document.asset.extras["animation"]
        assert about["target_error_mm"] <= 0.05
        assert (out / f"faces_track{track}.glb").stat().st_size < 10e6
        true = np.load(out / f"faces_track{track}.npz")
        (out / f"faces_track{track}.npz").unlink()
        source = FaceSource(out / f"faces_track{track}.json", root=out)
        subject = load_subject(source, load_layout(find_weights(None)))
        assert subject.path.suffix == ".glb"
        apart = np.abs(subject.face.vertices - true["vertices_photo"]).max()
        assert apart < 0.01


def test_the_same_bytes_each_time(uv, faces):
    base, motion = recorded(faces)
    mesh = replace(face_mesh(base, uv, SIZE[0], "metric"), motion=motion)
    data = encode_glb(mesh)
    assert data == encode_glb(mesh)
    assert struct.unpack_from("<I", data, 8)[0] == len(data)
