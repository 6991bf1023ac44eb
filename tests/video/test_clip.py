from __future__ import annotations

import csv
import json
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from fakes import FakeDetector, photo_with
from made_videos import write_avi
from test_tracker import Following, picture
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.pipeline import RunSettings, StopFlag, VideoSettings, Work, run
from sadr_cli.sources import SourceList


def scenes(k):
    """Two faces that drift, and from frame 12 on another scene with one."""
    if k < 12:
        return picture((40 + 2 * k, 50, 48), (220 - 2 * k, 120, 64))
    return picture((120, 80, 64), ground=170)


def write_clip(path, frames=20, rate=10, picture_of=scenes):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (320, 240))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write videos")
    for k in range(frames):
        writer.write(picture_of(k))
    writer.release()
    return path


def go(out, *inputs, network=None, stop=None, **settings):
    entries = []
    sources = SourceList()
    works = (Work(s) for i in inputs for s in sources.expand(str(i)))
    summary = run(
        works,
        network or Following(),
        FakeDetector,
        RunSettings(out, jobs=2, **settings),
        stop=stop,
        on_entry=lambda e: entries.append(e.to_json()),
    )
    return summary, entries


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return {p.name for p in folder.iterdir() if not p.name.startswith(".manifest")}


def test_files_of_a_video(tmp_path):
    clip, out = write_clip(tmp_path / "my clip.mp4"), tmp_path / "out"
    photo = photo_with(tmp_path / "a.png", size=(300, 300))
    summary, entries = go(out, photo, clip, overlay=True, formats=("ply",))
    assert (summary.ok, summary.faces, summary.failed) == (2, 4, 0)
    assert [e["name"] for e in entries] == ["a", "my clip"]
    entry = entries[1]
    assert entry["kind"] == "video" and entry["frames"] == 20
    assert [(f["track"], f["frames"], f["first_frame"]) for f in entry["faces"]] == [
        (1, 12, 0),
        (2, 12, 0),
        (3, 8, 12),
    ]
    assert entry["faces"][2]["start"] == pytest.approx(1.2, abs=0.01)
    assert all((out / name).stat().st_size > 200 for name in entry["outputs"])
    assert not any(name.startswith(".sadr-tmp") for name in names(out))

    rows = table(out / "my clip_poses.csv")
    assert len(rows) == 32 and [int(r["frame"]) for r in rows[:4]] == [0, 0, 1, 1]
    assert float(rows[-1]["time_s"]) == pytest.approx(1.9, abs=0.01)
    head, *lines = map(json.loads, (out / "my clip_landmarks.jsonl").read_text().splitlines())
    assert head["frame"]["units"] == "pixels" and len(lines) == 32
    where = {(line["frame"], line["track"]): np.array(line["landmarks"]) for line in lines}
    large = (entry["faces"][0]["box"][0] < 150 and 2) or 1
    assert abs(where[11, large][:, 0].mean() - (220 - 22 + 32)) < 12
    assert {r["name"]: r["face"] for r in table(out / "poses.csv")}["my clip"] == "3"
    record = json.loads((out / "my clip_track1.json").read_text())
    assert record["track"]["frames"] == 12 and record["track"]["shape"] == "mean over the track"

    capture = cv2.VideoCapture(str(out / "overlays" / "my clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 320
    again, _ = go(out, photo, clip, overlay=True, formats=("ply",))
    assert again.skipped == 2 and len(table(out / "poses.csv")) == 4
    other, entries = go(
        out, photo, clip, overlay=True, formats=("ply",), video=VideoSettings(smooth="off")
    )
    assert other.skipped == 1 and entries[0]["skipped"]  # only the video is done again


def test_meshes_of_frames_start_end_and_step(tmp_path):
    clip, out = write_clip(tmp_path / "c.mp4"), tmp_path / "out"
    video = VideoSettings(start=0.45, end=1.1, step=2, mesh_every=2)
    _, (entry,) = go(out, clip, faces="largest", formats=("stl",), video=video)
    assert [int(r["frame"]) for r in table(out / "c_poses.csv")] == [5, 7, 9]
    meshes = {n for n in names(out) if n.endswith(".stl")}
    assert meshes == {"c_frame000005_track1.stl", "c_frame000009_track1.stl", "c_track1.stl"}
    assert meshes < set(entry["outputs"])
    go(out, clip, faces="largest", formats=("stl",))  # what is not made any more goes
    assert {n for n in names(out) if n.endswith(".stl")} == {"c_track1.stl", "c_track2.stl"}


def test_bad_videos_fail_alone(tmp_path):
    clip, out = write_clip(tmp_path / "a.mp4", picture_of=lambda k: picture()), tmp_path / "out"
    (tmp_path / "b.mp4").write_bytes(clip.read_bytes()[:300])
    (tmp_path / "c.mp4").write_bytes(b"")
    good = photo_with(tmp_path / "d.png", size=(300, 300))
    inputs = [tmp_path / f"{n}.mp4" for n in "abc"]
    summary, entries = go(out, *inputs, good, overlay=True)
    assert [e["status"] for e in entries] == ["no_face", "failed", "failed", "ok"]
    assert summary.failed == 2 and "no face" in entries[0]["reason"]
    left = {n for n in names(out) if n.startswith((".sadr-tmp", "b", "c"))}
    assert not left and not [p for p in (out / "overlays").iterdir() if "sadr-tmp" in p.name]


def test_a_video_cut_short_says_so(tmp_path):
    """An AVI whose end is missing: its header still announces all frames."""
    path = tmp_path / "c.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(40):
        writer.write(scenes(0))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, (entry,) = go(tmp_path / "out", path)
    assert entry["status"] in ("ok", "failed")
    assert "cut short" in entry["reason"] or "not a video" in entry["reason"]


def test_a_picture_that_cannot_be_encoded_costs_the_drawn_video_only(tmp_path):
    """The tables are there, the next input is done, and the reason is the true one."""
    wide = write_avi(tmp_path / "wide.avi", [np.zeros((2, 20_000, 3), np.uint8)] * 3)
    photo = photo_with(tmp_path / "a.png")
    summary, (entry, after) = go(tmp_path / "out", wide, photo, overlay=True)
    note = "not drawn: pictures of 2048 x 1 cannot be encoded as MP4"
    assert (entry["status"], after["status"]) == ("no_face", "ok") and entry["notes"] == [note]
    assert summary.notes == [(str(wide), note)]
    assert "wide_poses.csv" in entry["outputs"] and "overlays/wide.mp4" not in entry["outputs"]
    assert {p.name for p in (tmp_path / "out" / "overlays").iterdir()} == {"a.jpg"}


def test_frames_of_other_sizes_are_fitted_into_the_first(tmp_path):
    path = write_avi(tmp_path / "c.avi", [scenes(0)] * 4 + [scenes(0)[::2, ::2]] * 3)
    _, (entry,) = go(tmp_path / "out", path, overlay=True)
    assert entry["status"] == "ok" and entry["frames"] == 7 and entry["frames_detected"] == 1
    assert entry["notes"] == ["frames of 160 x 120 among those of 320 x 240: fitted into these"]


def test_stopping_leaves_nothing_of_an_unfinished_video(tmp_path):
    clip, out = write_clip(tmp_path / "c.mp4"), tmp_path / "out"
    photo = photo_with(tmp_path / "a.png", size=(300, 300))
    stop = StopFlag()

    class Stopping(Following):
        def reconstruct_crops(self, *arguments):
            if len(self.log) == 5:
                stop.set()
            self.log.append(1)
            return super().reconstruct_crops(*arguments)

    summary, _ = go(out, photo, clip, network=Stopping(), stop=stop, overlay=True)
    assert summary.interrupted and summary.ok == 1
    assert not [n for n in names(out) if n.startswith(("c", ".sadr-tmp"))]
    assert not list((out / "overlays").glob(".*"))
    summary, _ = go(out, photo, clip, overlay=True)
    assert (summary.ok, summary.skipped) == (2, 1)


def test_a_full_disk_stops_the_run(tmp_path, monkeypatch):
    from sadr_cli.errors import OutputError
    from sadr_cli.pipeline import face_files as module

    def full(*arguments, **named):
        raise OutputError("cannot write x: the disk is full")

    monkeypatch.setattr(module, "write_formats", full)
    clip = write_clip(tmp_path / "c.mp4")
    with pytest.raises(OutputError, match="full"):
        go(tmp_path / "out", clip)
    monkeypatch.undo()
    assert go(tmp_path / "out", clip)[0].ok == 1


@pytest.mark.parametrize("disk", [True, False])
def test_what_goes_wrong_behind_the_network_ends_the_video(tmp_path, monkeypatch, disk):
    """Tables are written while the next frame is looked at: their error is still the video's."""
    from sadr_cli.errors import OutputError
    from sadr_cli.pipeline.clip_files import ClipTables

    add, seen = ClipTables.add, []

    def failing(self, face, frame, track):
        seen.append(frame.index)
        if frame.index == 9:
            raise OutputError("the disk is full") if disk else ValueError("odd")
        add(self, face, frame, track)

    monkeypatch.setattr(ClipTables, "add", failing)
    clip, out = write_clip(tmp_path / "c.mp4"), tmp_path / "out"
    if disk:
        with pytest.raises(OutputError, match="full"):
            go(out, clip, overlay=True)
    else:
        _, (entry,) = go(out, clip, overlay=True)
        assert entry["status"] == "failed" and "odd" in entry["reason"]
    assert seen == sorted(seen) and max(seen) < 14  # a few frames later at most
    assert not [n for n in names(out) if n.startswith(("c", ".sadr-tmp"))]
    assert not list((out / "overlays").glob(".*"))


def test_whoever_is_slower_the_files_are_the_same(tmp_path, monkeypatch):
    from sadr_cli.pipeline.clip_files import ClipTables

    add = ClipTables.add
    clip = write_clip(tmp_path / "c.mp4")
    made = []
    for network, tables in ((0.0, 0.004), (0.004, 0.0)):
        monkeypatch.setattr(
            ClipTables,
            "add",
            lambda *a, s=tables: (time.sleep(s), add(*a)),  # type: ignore
        )
        out = tmp_path / f"{network}"
        video = VideoSettings(mesh_every=4)
        go(out, clip, network=Slow(network), formats=("ply",), video=video)
        made.append({p.name: p.read_bytes() for p in out.iterdir() if p.suffix != ".html"})
    first, second = made
    assert first.keys() == second.keys() and len(first) > 10
    assert [n for n in first if first[n] != second[n]] in ([], ["manifest.json"])


class Slow(Following):
    def reconstruct_crops(self, *arguments):
        time.sleep(self.seconds)
        return super().reconstruct_crops(*arguments)


def test_variable_frame_rate_keeps_its_times(tmp_path):
    path, out = tmp_path / "v.mp4", tmp_path / "out"
    times = np.cumsum([0, *([0.04, 0.12] * 9)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for t in times:
            frame = av.VideoFrame.from_ndarray(scenes(0), format="rgb24")
            frame.pts, frame.time_base = round(1000 * t), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    go(out, path, faces="largest", overlay=True)
    rows = table(out / "v_poses.csv")
    np.testing.assert_allclose([float(r["time_s"]) for r in rows], times, atol=0.002)
    with av.open(str(out / "overlays" / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        shown = [float(f.pts * stream.time_base) for f in container.decode(video=0)]
    np.testing.assert_allclose(np.diff(shown), np.diff(times), atol=0.002)


def test_the_closing_line_counts_tracks_and_frames(tmp_path, monkeypatch):
    monkeypatch.setattr("sadr_cli.reconstructor.Reconstructor", lambda *a, **k: Following())
    monkeypatch.setattr("sadr_cli.detection.create_detector", lambda *a: FakeDetector())
    write_clip(tmp_path / "in" / "clip.mp4", picture_of=lambda k: picture((40 + k, 50, 48)))
    run_again = ["reconstruct", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, run_again)
    assert "1 track in 1 video of 20 frames (" in result.stderr and "photo" not in result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])["summary"]
    assert (summary["videos"], summary["frames"], summary["tracks"]) == (1, 20, 1)
    photo_with(tmp_path / "in" / "a.png")
    result = CliRunner().invoke(app, run_again)
    line = "1 face in 1 photo, 1 track in 1 video of 20 frames, 1 done before"
    assert line in result.stderr
