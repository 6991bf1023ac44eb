"""JSON, CSV, manifest and atomic writing."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os

import numpy as np
import pytest
from synthetic import posed_face, yxz_to_matrix

from sadr_cli.errors import OutputError
from sadr_cli.faces import Frame
from sadr_cli.files import atomic_write, check_writable, remove_leftovers
from sadr_cli.pose import quaternion_to_matrix
from sadr_cli.results.entry import Entry
from sadr_cli.results.face_record import face_json, face_numbers, write_face_json
from sadr_cli.results.manifest import JOURNAL, Manifest
from sadr_cli.results.poses_csv import COLUMNS, PosesCSV, pose_row
from sadr_cli.writers import face_mesh


@pytest.fixture(scope="module")
def face(uv):
    return posed_face(uv, yaw=-40, pitch=12, roll=5)


@pytest.fixture
def frame():
    image = np.zeros((180, 240, 3), np.uint8)
    return Frame(image, source="photos/ä b.jpg", name="ä b")


def test_json_says_everything_needed_to_use_it(tmp_path, uv, face, frame):
    mesh = face_mesh(face, uv, frame.height, "metric")
    path = tmp_path / "x.json"
    write_face_json(path, face_json(face, frame, 0, mesh, {"obj": "x.obj"}, "1.0"))
    record = json.loads(path.read_text())
    points = np.array(record["landmarks"]["points"])
    np.testing.assert_allclose(points, face.landmarks, atol=1e-3)
    pose = record["pose"]
    assert (pose["yaw"], pose["pitch"], pose["roll"]) == pytest.approx((-40, 12, 5), abs=1e-3)
    np.testing.assert_allclose(
        quaternion_to_matrix(pose["quaternion_wxyz"]), pose["rotation_matrix"], atol=1e-7
    )
    # The projection that the file states is the one that holds.
    shape = uv.mean_shape[record["landmarks"]["vertices"]]
    p = pose["scale"] * shape @ np.array(pose["rotation_matrix"]).T + pose["translation"]
    np.testing.assert_allclose(p * (1, -1, 1), points, atol=2e-3)
    back = (
        np.c_[mesh.vertices[mesh.landmarks], np.ones(68)] @ np.array(record["mesh"]["to_photo"]).T
    )
    np.testing.assert_allclose(back[:, :3], points, atol=2e-3)
    assert record["frame"]["axes"].startswith("x right, y down")
    assert "positive" in pose["convention"]["yaw"]
    yxz = [pose["yxz"][name] for name in ("yaw", "pitch", "roll")]
    assert np.allclose(yxz_to_matrix(*yxz), pose["rotation_matrix"], atol=1e-5)
    assert "Ry(yaw) Rx(pitch) Rz(roll)" in pose["convention"]["yxz"]
    assert record["mesh"]["units"] == "millimetres"
    assert len(record["landmarks"]["visibility"]) == len(record["landmarks"]["confidence"]) == 68
    assert record["source"] == "photos/ä b.jpg"


def test_json_stays_strict_with_numbers_that_are_not_finite(uv, face, frame):
    broken = dataclasses.replace(face, confidence=float("nan"))
    record = face_json(broken, frame, 0, face_mesh(face, uv, frame.height))
    assert record["confidence"] is None
    json.dumps(record, allow_nan=False)


def row(face, source, name, index):
    return pose_row({**face_numbers(face), "source": source, "name": name, "face": index})


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_poses_append_resume_and_order(tmp_path, face):
    path = tmp_path / "poses.csv"
    with PosesCSV(path) as poses:
        poses.append("b", [row(face, "in/b, odd.jpg", "b", 0), row(face, "in/b", "b", 1)])
        assert len(rows_of(path)) == 2  # on the disk at once
    with path.open("ab") as file:
        file.write(b"in/torn.jpg,torn,0,0.9")  # a killed run
    with PosesCSV(path, keep=["b", "torn"]) as poses:
        poses.append("a", [row(face, "in/a.jpg", "a", 0)])
        poses.close(order=["a", "b"])
    rows = rows_of(path)
    assert [(r["name"], r["face"]) for r in rows] == [("a", "0"), ("b", "0"), ("b", "1")]
    assert rows[1]["source"] == "in/b, odd.jpg" and list(rows[0]) == COLUMNS
    assert float(rows[0]["yaw_deg"]) == pytest.approx(-40, abs=1e-3)
    safe = [float(rows[0][f"{name}_yxz_deg"]) for name in ("yaw", "pitch", "roll")]
    assert safe == pytest.approx(face.euler_yxz, abs=1e-3)
    with PosesCSV(path, keep=["a"]) as poses:  # b is done again: its rows do not double
        poses.append("b", [row(face, "in/b", "b", 0)])
        poses.close(order=["a", "b"])
    assert [r["name"] for r in rows_of(path)] == ["a", "b"]


def test_poses_of_other_columns_are_not_mixed(tmp_path, face):
    path = tmp_path / "poses.csv"
    path.write_text("name,yaw\nx,1\n")
    with PosesCSV(path, keep=["x"]) as poses:
        poses.append("a", [row(face, "a", "a", 0)])
    assert [r["name"] for r in rows_of(path)] == ["a"]


def entry(key, **more):
    return Entry(**{"key": key, "source": key, "name": key, "status": "ok", **more})


def test_manifest_survives_a_kill(tmp_path):
    first = Manifest(tmp_path, {"version": "1"})
    first.add(entry("a"))
    first.add(entry("b", status="failed", reason="truncated"))
    # Killed here: no close. The file is whole, the journal knows the rest, its end may be torn.
    assert json.loads((tmp_path / "manifest.json").read_text())["state"] == "running"
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"key": "c", "sta')
    first._journal.close()
    second = Manifest(tmp_path, {"version": "1"})
    assert [key for _, key in second.names()] == ["a", "b"]
    assert second.get("b").reason == "truncated"
    second.add(entry("c"))
    second.keep(second.get("a").as_skipped())
    second.close("finished", {"faces": 3})
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert document["state"] == "finished" and document["summary"] == {"faces": 3}
    assert [e["key"] for e in document["inputs"]] == ["c", "a", "b"]
    assert document["inputs"][1]["skipped"] and "skipped" not in document["inputs"][0]
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"format": "sadr-manifest"}'])
def test_a_manifest_that_is_not_ours_is_never_overwritten(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    if "sadr" in text:
        Manifest(tmp_path, {}).close("finished", {})  # of another schema: started afresh
        return
    with pytest.raises(OutputError, match=r"manifest\.json"):
        Manifest(tmp_path, {})
    assert path.read_text() == text


def test_atomic_write_leaves_the_old_file_when_the_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "x"
    atomic_write(path, b"old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="the disk is full"):
        atomic_write(path, b"new", durable=True)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(OutputError, match="file"):
            check_writable(folder)
    check_writable(tmp_path / "new" / "deeper")
    assert list((tmp_path / "new" / "deeper").iterdir()) == []


def test_only_old_leftovers_are_removed(tmp_path):
    old, fresh, other = (tmp_path / n for n in (".sadr-tmp-1-0", ".sadr-tmp-2-0", "x.obj"))
    for path in (old, fresh, other):
        path.write_text("")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    assert (
        remove_leftovers(tmp_path) == 1 and not old.exists() and fresh.exists() and other.exists()
    )
