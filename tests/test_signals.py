"""Runs that are asked to stop, or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from run_folders import document, rows

from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import iter_sources

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes import FakeDetector, FakeReconstructor
from sadr_cli.pipeline import RunSettings, StopFlag, Work, run
from sadr_cli.sources import iter_sources
stop = StopFlag()
with stop.on_signals(lambda text: print(text, flush=True)):
    summary = run(
        (Work(s) for s in iter_sources([sys.argv[1]])),
        FakeReconstructor(seconds=float(sys.argv[3])), FakeDetector,
        RunSettings(Path(sys.argv[2]), batch_size=2, jobs=2), stop=stop,
        on_entry=lambda e: print(e.name, flush=True),
    )
print("interrupted" if summary.interrupted else "finished", summary.ok, flush=True)
sys.exit(130 if summary.interrupted else 0)
"""


def start(photos, out, seconds=0.1):
    code = SCRIPT.format(tests=str(TESTS))
    command = [sys.executable, "-c", code, str(photos), str(out), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_signals_leave_whole_files_and_a_run_that_goes_on(tmp_path, name):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for k in range(40):
        photo_with(photos / f"{k:02}.png")
    process = start(photos, out)
    for _ in range(3):
        assert process.stdout.readline()
    process.send_signal(signal.Signals[name])
    rest, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    if name == "SIGKILL":
        assert process.returncode == -signal.Signals[name]
    else:
        assert process.returncode == 130 and "finishing what is in flight" in rest
        assert document(out)["state"] == "interrupted"
    document(out)
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    for path in out.glob("*.obj"):
        assert path.read_text().rstrip().splitlines()[-1].startswith("f ")
    summary = run(
        (Work(s) for s in iter_sources([str(photos)])),
        FakeReconstructor(),
        FakeDetector,
        RunSettings(out, batch_size=4),
    )
    assert summary.skipped >= 3 and summary.ok == 40
    assert [r["name"] for r in rows(out)] == [f"{k:02}" for k in range(40)]


def test_a_second_signal_stops_at_once(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for k in range(12):
        photo_with(photos / f"{k:02}.png")
    process = start(photos, out, seconds=1.0)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 3
    document(out)
