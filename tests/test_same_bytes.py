"""The same inputs give the same bytes, however the work is split."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from shell import ROOT
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.compiled import _processors

PHOTOS = ("astronaut.jpg", "hopper.jpg", "group.jpg")


def reconstruct(out: Path, photos: list[Path], *options: str) -> dict[str, bytes]:
    """Result files of a run -> their bytes, times and the machine's own paths left out."""
    command = ["reconstruct", *map(str, photos), "--out", str(out), "--device", "cpu", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {
        name: data
        for name, data in files.items()
        if Path(name).name not in ("manifest.json", "index.html") and "lock" not in name
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    names = [name for name in PHOTOS if (ROOT / "examples/photos" / name).exists()]
    for name in names:
        (folder / name).write_bytes((ROOT / "examples/photos" / name).read_bytes())
    assert len(names) > 1
    return sorted(folder.iterdir())


@pytest.mark.slow
def test_whatever_jobs_batches_and_runs(photos, tmp_path):
    pytest.importorskip("openvino")
    overlay = ["--overlay"]
    expected = reconstruct(tmp_path / "a", photos, "--jobs", "1", "--batch-size", "1", *overlay)
    kinds = {Path(name).suffix for name in expected}
    assert {".obj", ".json", ".jpg", ".csv"} <= kinds and len(expected) > 10
    found = reconstruct(tmp_path / "b", photos, "--jobs", "8", "--batch-size", "32", *overlay)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    # Two runs into one folder, as after an interruption.
    reconstruct(tmp_path / "c", photos[1:2], *overlay)
    resumed = reconstruct(tmp_path / "c", photos, *overlay)
    assert [name for name in expected if resumed[name] != expected[name]] == []


@pytest.mark.slow
def test_a_video_whatever_jobs_and_processors(tmp_path):
    pytest.importorskip("openvino")
    clip = [ROOT / "examples" / "faces.mp4"]
    options = ["--end", "0.8", "--overlay", "--mesh-every", "5", "--format", "glb"]
    expected = reconstruct(tmp_path / "a", clip, *options, "--jobs", "1")
    assert {".mp4", ".glb", ".json", ".jsonl", ".csv"} <= {Path(n).suffix for n in expected}
    found = reconstruct(tmp_path / "b", clip, *options, "--jobs", "8", "--batch-size", "32")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    # Its network computed by another number of threads, in a process of its own.
    threads = "1" if _processors() > 1 else "2"
    command = [sys.executable, "-m", "sadr_cli", "reconstruct", str(clip[0]), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads}
    command += ["--device", "cpu", "--out", str(tmp_path / "c")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for name in ("faces_landmarks.jsonl", "faces_poses.csv", "faces_track1.json"):
        assert (tmp_path / "c" / name).read_bytes() == expected[name]


VOLATILE = {"started", "updated", "summary", "seconds", "stamp", "skipped"}


def without_times(document):
    """A manifest without what tells one run from the next."""
    if isinstance(document, dict):
        return {k: without_times(v) for k, v in document.items() if k not in VOLATILE}
    return [without_times(v) for v in document] if isinstance(document, list) else document


KILLED = """
import os, signal
from sadr_cli.cli import main
from sadr_cli.pipeline.ledger import Ledger
settled, settle = [], Ledger.settle

def killing(self, result):
    settle(self, result)
    settled.append(result)
    if len(settled) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Ledger.settle = killing
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows kills otherwise")
def test_killed_and_resumed(photos, tmp_path):
    """A run killed in its midst and run again: every file as a run without a break has it."""
    pytest.importorskip("openvino")
    inputs = tmp_path / "photos"
    inputs.mkdir()
    for k in range(12):
        photo = cv2.imread(str(photos[k % len(photos)]))
        small = cv2.resize(photo, None, fx=1 - k / 40, fy=1 - k / 40, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(inputs / f"p{k:02}.png"), small)
    names = sorted(inputs.iterdir())
    whole, broken = (tmp_path / kind / "run" for kind in ("whole", "broken"))
    expected = reconstruct(whole, names, "--jobs", "2")
    command = [sys.executable, "-c", KILLED, "reconstruct", *map(str, names), "--device", "cpu"]
    command += ["--out", str(broken), "--jobs", "1", "--batch-size", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(broken.glob("*.obj"))) < len(list(whole.glob("*.obj")))
    resumed = reconstruct(broken, names, "--jobs", "8", "--batch-size", "32")
    assert resumed.keys() == expected.keys()
    assert [name for name in expected if resumed[name] != expected[name]] == []
    assert (broken / "index.html").read_bytes() == (whole / "index.html").read_bytes()
    manifests = [json.loads((out / "manifest.json").read_text()) for out in (whole, broken)]
    first, second = map(without_times, manifests)
    assert first == second
    assert [entry["source"] for entry in second["inputs"]] == list(map(str, names))
