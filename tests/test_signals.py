"""Runs that are asked to stop, or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from run_folders import document, rows

from sadr_cli.files import TEMPORARY_PREFIX
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import iter_sources

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes import FakeDetector, FakeReconstructor
from sadr_cli.pipeline import RunSettings, StopFlag, Work, run
from sadr_cli.sources import iter_sources

class Reconstructor(FakeReconstructor):
    # Once three photos are done, the next batch ends when the run is stopped, or never.
    def reconstruct_crops(self, *arguments):
        while len(done) >= 3 and not (stop and sys.argv[3] == "stopped"):
            time.sleep(0.01)
        return super().reconstruct_crops(*arguments)

def say(entry):
    done.append(entry)
    print(entry.name, flush=True)

done, stop = [], StopFlag()
with stop.on_signals(lambda text: print(text, flush=True)):
    summary = run(
        (Work(s) for s in iter_sources([sys.argv[1]])),
        Reconstructor(), FakeDetector,
        RunSettings(Path(sys.argv[2]), batch_size=2, jobs=2), stop=stop, on_entry=say,
    )
print("interrupted" if summary.interrupted else "finished", summary.ok, flush=True)
sys.exit(130 if summary.interrupted else 0)
"""


@contextmanager
def started(photos, out, batch_ends):
    """A run over 40 photos of which three are done, and a batch stands."""
    for k in range(40):
        photo_with(photos / f"{k:02}.png")
    code = SCRIPT.format(tests=str(TESTS))
    command = [sys.executable, "-c", code, str(photos), str(out), batch_ends]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            for _ in range(3):
                assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_signals_leave_whole_files_and_a_run_that_goes_on(tmp_path, name):
    photos, out = tmp_path / "photos", tmp_path / "out"
    with started(photos, out, "stopped") as process:
        process.send_signal(signal.Signals[name])
        rest, errors = process.communicate(timeout=600)
    assert "Traceback" not in errors
    if name == "SIGKILL":
        assert process.returncode == -signal.Signals[name]
    else:
        assert process.returncode == 130 and "finishing what is in flight" in rest
        assert document(out)["state"] == "interrupted"
    document(out)
    named = [path for path in out.iterdir() if not path.name.startswith(TEMPORARY_PREFIX)]
    for path in (path for path in named if path.suffix == ".json"):
        json.loads(path.read_text())
    for path in (path for path in named if path.suffix == ".obj"):
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
    with started(photos, out, "never") as process:
        process.send_signal(signal.SIGINT)
        while "finishing what is in flight" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    assert process.returncode == 130
    document(out)
