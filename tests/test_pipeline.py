from __future__ import annotations

import csv
import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with

from sadr_cli.errors import NothingToDoError, OutputError
from sadr_cli.faces import Detection
from sadr_cli.pipeline import RunSettings, StopFlag, Work, run
from sadr_cli.pipeline.photo import write_face
from sadr_cli.sources import Source, SourceList


def works(*inputs, recursive=False):
    sources = SourceList(recursive=recursive)
    for text in inputs:
        yield from (Work(s) for s in sources.expand(str(text)))


def go(inputs, out, reconstructor=None, **settings):
    """(summary, entries by source's file name) of a run."""
    entries = []
    stop = settings.pop("stop", None)
    summary = run(
        inputs,
        reconstructor or FakeReconstructor(),
        FakeDetector,
        RunSettings(out, **{"batch_size": 4, **settings}),
        on_entry=lambda e: entries.append(e.to_json()),
        stop=stop,
    )
    return summary, {Path(e["source"]).name: e for e in entries}


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


def poses(out):
    with (out / "poses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def snapshot(folder):
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def folder(tmp_path):
    """Good photos, one without a face, one with two, and two that cannot be read."""
    photos = tmp_path / "photos"
    photo_with(photos / "a.png")
    photo_with(photos / "b two.png", [(20, 30, 40), (110, 60, 60)])
    photo_with(photos / "c none.png", [])
    photo_with(photos / "d.png", [(90, 40, 30)])
    (photos / "e broken.jpg").write_bytes(photo_with(tmp_path / "x.jpg").read_bytes()[:300])
    (photos / "f empty.png").write_bytes(b"")
    return photos


def test_one_bad_file_never_stops_a_run(folder, tmp_path):
    out = tmp_path / "out"
    summary, entries = go(works(folder), out, overlay=True, formats=("obj", "ply"))
    assert (summary.inputs, summary.ok, summary.no_face, summary.failed) == (6, 3, 1, 2)
    assert summary.faces == 4 and not summary.interrupted
    assert [Path(name).name for name, _ in summary.failures] == [
        "e broken.jpg",
        "f empty.png",
    ]
    assert "empty" in entries["f empty.png"]["reason"]
    assert entries["c none.png"]["reason"] == "no face found"
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert names == {
        "a.obj", "a.ply", "a.json", "d.obj", "d.ply", "d.json",
        "b two.obj", "b two.ply", "b two.json",
        "b two_face1.obj", "b two_face1.ply", "b two_face1.json",
        "overlays/a.jpg", "overlays/b two.jpg", "overlays/d.jpg",
        "poses.csv", "manifest.json",
    }  # fmt: skip
    document = manifest(out)
    assert document["state"] == "finished" and document["weights"]["sha256"] == "0" * 64
    assert document["summary"]["faces"] == 4
    listed = [name for e in document["inputs"] for name in e["outputs"]]
    assert sorted(listed) == sorted(names - {"poses.csv", "manifest.json"})
    assert all(e["seconds"] >= 0 for e in document["inputs"])


def test_results_lie_where_the_faces_are(folder, tmp_path):
    out = tmp_path / "out"
    go(works(folder), out)
    for name, (x, y, side) in {
        "b two": (110, 60, 60),
        "b two_face1": (20, 30, 40),
        "a": (60, 50, 40),
    }.items():
        record = json.loads((out / f"{name}.json").read_text())
        points = np.array(record["landmarks"]["points"])
        center = (points[:, :2].max(0) + points[:, :2].min(0)) / 2
        np.testing.assert_allclose(center, [x + side / 2 - 0.5, y + side / 2 - 0.5], atol=0.5)
        assert record["files"] == {"obj": f"{name}.obj"}


def test_order_of_results_is_that_of_the_inputs(tmp_path):
    photos = tmp_path / "photos"
    for k in range(23):
        photo_with(photos / f"{k:02}.png", [(20, 20, 40)] * (k % 3 > 0) + [(100, 50, 50)] * (k % 2))
    rng, listed = np.random.default_rng(0), Event()

    def listing():
        yield from works(photos)
        listed.set()

    class Jittery(FakeDetector):
        def detect(self, image):
            assert listed.wait(300)  # or a batch would go before its other photos are known
            time.sleep(rng.uniform(0, 0.02))
            return super().detect(image)

    out, seen = tmp_path / "out", []
    reconstructor = FakeReconstructor()
    settings = RunSettings(out, batch_size=4, jobs=4)
    run(listing(), reconstructor, Jittery, settings, on_entry=lambda e: seen.append(e.name))
    expected = [f"{k:02}" for k in range(23)]
    assert seen == expected == [e["name"] for e in manifest(out)["inputs"]]
    names = [row["name"] for row in poses(out)]
    assert names == sorted(names)
    # Faces of different photos share batches: all but the last are full, in both passes.
    assert max(reconstructor.log) == 4 and sorted(reconstructor.log)[2:] == [4] * (
        len(reconstructor.log) - 2
    )


def test_repeating_a_run_does_nothing_and_changes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    go(works(folder), out)
    before = snapshot(out)
    reconstructor = FakeReconstructor()
    summary, entries = go(works(folder), out, reconstructor)
    assert not reconstructor.log
    assert summary.skipped == 4 and summary.faces == 4 and summary.failed == 2
    assert entries["a.png"]["skipped"] and "skipped" not in entries["f empty.png"]
    after = snapshot(out)
    for name in set(before) - {"manifest.json", "poses.csv"}:
        assert after[name] == before[name], name
    assert after["poses.csv"][0] == before["poses.csv"][0]


def test_what_decides_the_output_is_noticed(folder, tmp_path):
    out = tmp_path / "out"
    go(works(folder), out)
    for change in ({"frame": "metric"}, {"overlay": True}, {"formats": ("obj", "npz")}):
        assert go(works(folder), out, **change)[0].skipped == 0
        assert go(works(folder), out, **change)[0].skipped == 4
    assert go(works(folder), out, FakeReconstructor(sha256="1" * 64), **change)[0].skipped == 0
    again = FakeReconstructor(sha256="1" * 64)
    assert go(works(folder), out, again, **change, overwrite=True)[0].skipped == 0
    assert go(works(folder), out, again, **change, batch_size=1, jobs=1)[0].skipped == 4
    photo_with(folder / "a.png", [(10, 10, 70)])  # another photo of the same name
    os.utime(folder / "a.png", (1, 1))
    (out / "d.obj").unlink()
    _, entries = go(works(folder), out, again, **change)
    assert [n for n, e in entries.items() if e.get("skipped")] == ["b two.png", "c none.png"]
    assert (out / "d.obj").exists() and len(poses(out)) == 4


def test_files_of_an_earlier_result_do_not_stay_behind(folder, tmp_path):
    out = tmp_path / "out"
    go(works(folder), out, overlay=True)
    assert (out / "b two_face1.obj").exists()
    summary, _ = go(works(folder), out, faces="largest")
    assert summary.faces == 3 and not (out / "b two_face1.obj").exists()
    assert not (out / "overlays" / "a.jpg").exists() and len(poses(out)) == 3
    assert [r["face"] for r in poses(out)] == ["0"] * 3


def test_names_never_collide(tmp_path):
    """Same stems, the run's own names, names that look like a second face's, upper case."""
    photos = tmp_path / "photos"
    two = [(20, 30, 40), (110, 60, 60)]
    for name in ("x/a.png", "y/a.png", "y/A.png", "a_face1.png", "manifest.png", "poses.png"):
        photo_with(photos / name, two if "a" in name else [two[0]])
    out = tmp_path / "out"
    first, _ = go(works(photos / "x", photos / "a_face1.png"), out)
    summary, _ = go(works(photos / "y", photos / "manifest.png", photos / "poses.png"), out)
    assert first.failed == summary.failed == 0
    document = manifest(out)
    listed = [n for e in document["inputs"] for n in e["outputs"]]
    assert len({n.casefold() for n in listed}) == len(listed) == 2 * (first.faces + summary.faces)
    assert {e["source"] for e in document["inputs"]} >= {str(photos / "x" / "a.png")}
    for e in document["inputs"]:
        for face in e["faces"]:
            assert json.loads((out / face["json"]).read_text())["source"] == e["source"]


def test_an_input_named_twice_and_own_overlays(folder, tmp_path):
    out, own = folder / "out", SourceList().source(folder / "out" / "overlays" / "a.jpg")
    summary, _ = go(works(folder / "a.png", folder / "a.png", folder / "d.png"), out, overlay=True)
    assert (summary.inputs, summary.ok, summary.skipped) == (3, 2, 1)
    summary, entries = go(works(folder, recursive=True), out, overlay=True)
    assert summary.failed == 2 and summary.ok == 3 and "a.jpg" not in entries
    assert go([Work(own)], out)[1]["a.jpg"]["reason"] == "is an overlay of this folder"


def test_given_boxes_keep_their_order_and_numbers(folder, tmp_path):
    boxes = tuple(Detection(np.array(b, float)) for b in ([20, 30, 60, 70], [110, 60, 170, 120]))
    source = Source("b", "b", folder / "b two.png")
    out = tmp_path / "out"
    summary, entries = go(iter([Work(source, boxes, (3, 0))]), out, detector="boxes")
    assert summary.faces == 2
    assert [f["face"] for f in entries["b"]["faces"]] == [3, 0]
    assert json.loads((out / "b_face3.json").read_text())["detection"]["box"] == [20, 30, 60, 70]
    # Other boxes: done again. Numbers that are not unique: places.
    again, entries = go(iter([Work(source, boxes[::-1], (0, 0))]), out, detector="boxes")
    assert again.skipped == 0 and [f["face"] for f in entries["b"]["faces"]] == [0, 1]
    # The same photo once more, later: said, not dropped.
    split = [Work(source, boxes[:1], (0,)), Work(source, boxes[1:], (1,))]
    summary, _ = go(iter(split), out, detector="boxes")
    assert summary.failed == 1 and "consecutive" in summary.failures[0][1]


def test_a_crop_that_cannot_be_done_fails_its_photo_alone(folder, tmp_path):
    bad = round(110 + 30 - 0.5)
    out = tmp_path / "out"
    summary, entries = go(works(folder), out, FakeReconstructor(fail=[bad]))
    assert summary.ok == 2 and "cannot be done" in entries["b two.png"]["reason"]
    assert entries["b two.png"]["outputs"] == ["b two_face1.obj", "b two_face1.json"]
    assert entries["a.png"]["status"] == entries["d.png"]["status"] == "ok"


def test_a_face_that_is_not_finite_is_not_written(folder, tmp_path):
    class Broken(FakeReconstructor):
        def reconstruct_crops(self, *arguments):
            faces = super().reconstruct_crops(*arguments)
            return [replace(f, vertices=f.vertices * np.nan) for f in faces]

    summary, _ = go(works(folder / "a.png"), tmp_path / "out", Broken(), formats=("ply",))
    assert summary.failed == 1 and "not finite" in summary.failures[0][1]
    assert not (tmp_path / "out" / "a.ply").exists()


def test_nothing_to_do_leaves_no_folder(tmp_path):
    with pytest.raises(NothingToDoError):
        go(iter([]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_listing_that_breaks_finishes_what_came_before(folder, tmp_path):
    def listing():
        yield from works(folder / "a.png")
        raise NothingToDoError("gone")

    out = tmp_path / "out"
    with pytest.raises(NothingToDoError):
        go(listing(), out)
    assert (out / "a.obj").exists() and manifest(out)["inputs"][0]["status"] == "ok"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_unwritable_folder_stops_with_one_message(folder, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file"):
        go(works(folder), tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk_stops_the_run_and_leaves_it_resumable(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    real, count = os.replace, [0]

    def full(source, target, **folders):
        count[0] += str(target).endswith(".obj")
        if count[0] > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target, **folders)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="the disk is full"):
        go(works(folder), out, jobs=1, batch_size=1)
    monkeypatch.undo()
    assert not list(out.glob(".sadr-tmp*"))
    manifest(out)  # whole
    summary, _ = go(works(folder), out)
    assert summary.faces == 4 and len(poses(out)) == 4 and manifest(out)["state"] == "finished"


def test_stop_finishes_what_is_in_flight(tmp_path):
    photos = tmp_path / "photos"
    for k in range(60):
        photo_with(photos / f"{k:02}.png")
    stop, out, taken = StopFlag(), tmp_path / "out", []

    class Stopping(FakeReconstructor):
        def reconstruct_crops(self, images, *args):
            stop.set()
            taken.append(len(images))
            return super().reconstruct_crops(images, *args)

    summary, _ = go(works(photos), out, Stopping(), stop=stop)
    assert summary.interrupted and 1 <= sum(taken) <= summary.ok < 60
    document = manifest(out)
    assert document["state"] == "interrupted" and len(document["inputs"]) == summary.ok
    assert len(list(out.glob("*.obj"))) == len(poses(out)) == summary.ok
    rest, _ = go(works(photos), out)
    assert rest.skipped == summary.ok and rest.ok == 60
    assert [r["name"] for r in poses(out)] == [f"{k:02}" for k in range(60)]


def test_memory_in_flight_is_bounded(tmp_path):
    photos = tmp_path / "photos"
    for k in range(30):
        photo_with(photos / f"{k:02}.png", size=(400, 500))  # 600 kB decoded
    alive = []

    class Counting(FakeReconstructor):
        def reconstruct_crops(self, images, crops, detections=None):
            alive.append(len(images))
            return super().reconstruct_crops(images, crops, detections)

    summary, _ = go(
        works(photos), tmp_path / "out", Counting(), batch_size=16, memory=2_000_000, jobs=2
    )
    assert summary.ok == 30 and max(alive) <= 8  # 2 MB and what two threads overshoot


def test_two_batches_at_once_and_every_writing_thread_at_work(tmp_path, monkeypatch):
    """Barriers that break after a while: one by one, nobody would come to meet the first."""
    photos = tmp_path / "photos"
    for k in range(12):
        photo_with(photos / f"{k:02}.png")
    batches, faces, writing = Barrier(2, timeout=300), Barrier(2, timeout=300), write_face

    class Meeting(FakeReconstructor):
        def reconstruct_crops(self, *args):
            batches.wait()
            return super().reconstruct_crops(*args)

    def write(*args):
        faces.wait()
        return writing(*args)

    monkeypatch.setattr("sadr_cli.pipeline.writing.write_face", write)
    summary, _ = go(works(photos), tmp_path / "out", Meeting(), batch_size=1, batches=2, jobs=2)
    assert summary.ok == 12 and not summary.failures
    assert [row["name"] for row in poses(tmp_path / "out")] == [f"{k:02}" for k in range(12)]
