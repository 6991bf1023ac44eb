"""What comes in from outside never crashes a run, and nothing of it is silently dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor
from hostile import FORMATS, encoded, make, video
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import InputError
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import Source, iter_frames, iter_sources, read_image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="makes names that Windows has not")
LIMIT = 50_000_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "in"
    return folder, make(folder)


def inside(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def test_a_run_over_the_corpus(corpus, tmp_path):
    folder, expected = corpus
    assert len(expected) >= 200
    before = inside(folder)
    out = tmp_path / "out"
    entries = []
    vanished = tmp_path / "vanishes.png"
    vanished.write_bytes(encoded("PNG"))

    def works():
        sources = iter_sources(
            [str(folder), str(vanished), str(tmp_path / "never.png")], recursive=True
        )
        for source in sources:
            if source.path == vanished:
                vanished.unlink()  # between listing and reading
            yield Work(source)

    summary = run(
        works(),
        FakeReconstructor(),
        FakeDetector,
        RunSettings(out, batch_size=8, faces=2, max_pixels=LIMIT, formats=("stl",), index=False),
        on_entry=lambda e: entries.append(e.to_json()),
    )
    status = {
        os.path.relpath(e["source"], folder): ("good", "bad")[e["status"] == "failed"]
        for e in entries
    }
    wrong = {n: v for n, v in expected.items() if v != "any" and status.get(n) != v}
    assert not wrong
    assert len(entries) == len(expected) + 2 == summary.inputs  # every one accounted for, once
    assert all(e["reason"] and "\n" not in e["reason"] for e in entries if e["status"] == "failed")
    assert not [e["reason"] for e in entries if "Error" in (e.get("reason") or "")]

    outputs = [name for e in entries for name in e["outputs"]]
    assert len({n.casefold() for n in outputs}) == len(outputs)  # on any file system
    made = inside(out)
    assert set(outputs) <= made
    others = {n for n in made if not n.startswith(".cards/")} - set(outputs)
    assert others == {"manifest.json", "poses.csv"}
    assert inside(folder) == before and inside(tmp_path) == {f"out/{n}" for n in made}
    assert len(json.loads((out / "manifest.json").read_text())["inputs"]) == len(entries)


def test_detect_over_the_corpus(corpus, tmp_path, monkeypatch):
    folder, expected = corpus
    monkeypatch.setattr("sadr_cli.pipeline.detect.create_detector", lambda *a: FakeDetector())
    arguments = ["detect", str(folder), "-r", "--json", "--max-pixels", "50", "--faces", "2"]
    pictures = ["--crops", str(tmp_path / "c"), "--overlay", str(tmp_path / "o")]
    result = CliRunner().invoke(app, [*arguments, *pictures])
    assert result.exit_code == 3 and "Traceback" not in result.stderr
    *lines, last = [json.loads(line) for line in result.stdout.splitlines()]
    told = {os.path.relpath(line["file"], folder): line for line in lines}
    assert set(told) == set(expected) and last["summary"]["files"] == len(expected)
    wrong = {
        name: verdict
        for name, verdict in expected.items()
        if verdict != "any" and ("error" in told[name]) != (verdict == "bad")
    }
    assert not wrong
    assert len(inside(tmp_path)) >= len([v for v in expected.values() if v == "good"])


def test_what_is_to_be_said_of_a_photo_is_said_once(tmp_path, monkeypatch):
    path, out, entries = tmp_path / "a.jpg", tmp_path / "out", []
    path.write_bytes(encoded("JPEG")[:-2])
    settings = RunSettings(out, formats=("stl",), index=False)
    works = [Work(source) for source in iter_sources([str(path)])]
    first, again = (
        run(works, FakeReconstructor(), FakeDetector, settings, on_entry=entries.append)
        for _ in range(2)
    )
    ((source, note),) = first.notes  # decoders differ in how much of the end they give up
    assert source == str(path) and note.startswith("cut short: ") and note.endswith(" missing")
    assert again.notes == [] and first.ok == again.ok == 1
    assert [e.notes for e in entries] == [(note,), (note,)]
    monkeypatch.setattr("sadr_cli.pipeline.detect.create_detector", lambda *a: FakeDetector())
    result = CliRunner().invoke(app, ["detect", str(path)])
    assert result.exit_code == 0 and f"warning: {path}: {note}" in result.stderr


def mutations(seeds: list[bytes], count: int):
    """``count`` damaged copies of ``seeds``."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        data = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 12)):
            place, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
            kind = rng.integers(4)
            if kind == 0:
                data[place : place + length] = rng.bytes(length)
            elif kind == 1:
                del data[place : place + length]
            elif kind == 2:
                data[place:place] = data[:length]
            else:
                data[place : place + length] = bytes([255 * int(rng.integers(2))]) * length
        yield bytes(data)


def test_fuzz_photos():
    read = 0
    for data in mutations([encoded(f) for f in FORMATS], 3000):
        try:
            image = read_image(data, max_pixels=1_000_000, label="photo")
        except InputError as error:
            assert str(error).startswith("photo: ") and "\n" not in str(error)
        else:
            read += 1
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            assert image.shape[0] * image.shape[1] <= 1_000_000
    assert read > 10


def test_fuzz_videos(tmp_path):
    seeds = [video(tmp_path / "a.mp4", "mp4v", 3), video(tmp_path / "a.avi", "MJPG", 3)]
    for data in mutations(seeds, 300):
        path = tmp_path / "clip.mp4"
        path.write_bytes(data)
        source = Source("clip", "clip", path, kind="video")
        try:
            for number, frame in enumerate(iter_frames(source, max_pixels=1_000_000)):
                assert frame.image.shape[2] == 3 and frame.image.dtype == np.uint8
                assert np.isfinite(frame.time) and number < 100
        except InputError as error:
            assert str(error).startswith("clip: ")
