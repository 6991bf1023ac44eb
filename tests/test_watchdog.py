"""Runs that stand still, in processes of their own: they say so, end, and can be resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with

from sadr_cli.errors import ExitCode
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import iter_sources

TESTS = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]
STALL = 5  # seconds

SCRIPT = """
import ctypes, itertools, sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes import FakeDetector, FakeReconstructor
from sadr_cli import watchdog
from sadr_cli.pipeline import RunSettings, StopFlag, Work, run
from sadr_cli.sources import iter_sources, load_frame

photos, out, stall, trouble = sys.argv[1:]
watchdog.PATIENCE = 3.0
watchdog._GRACE = 5.0 if trouble.endswith("deaf") else 60.0
for source in iter_sources([photos]):  # whatever is loaded is loaded now
    load_frame(source)
calls, done, still = itertools.count(1), [], threading.Event()

def go_on():  # a busy machine is no standstill
    while not still.wait(0.5):
        watchdog.progress()

def stand_still(where):
    if where == trouble.partition(" ")[0] and next(calls) == 5:
        while not done:
            time.sleep(0.05)
        still.set()
        print("stands still", flush=True)
        if trouble.endswith("lock"):
            threading.Semaphore(0).acquire()
        library = ctypes.CDLL if trouble.endswith("native") else ctypes.PyDLL
        mutex = ctypes.create_string_buffer(256)
        for _ in range(2):
            library(None).pthread_mutex_lock(mutex)

class Detector(FakeDetector):
    def detect(self, image):
        stand_still("reader")
        return super().detect(image)

class Reconstructor(FakeReconstructor):
    def reconstruct_crops(self, *arguments):
        stand_still("main")
        return super().reconstruct_crops(*arguments)

if trouble != "none":
    threading.Thread(target=go_on, daemon=True).start()
stop = StopFlag()
with stop.on_signals(lambda text: print(text, flush=True)):
    summary = run(
        (Work(s) for s in iter_sources([photos])), Reconstructor(seconds=0.2), Detector,
        RunSettings(Path(out), formats=("stl",), batch_size=1, jobs=2, two_pass=False,
                    stall=float(stall)),
        stop=stop, on_entry=done.append,
    )
print("interrupted" if stop else "finished", flush=True)
"""


class Process:
    """A run with a thread that stands still: in a lock, in native code (``native``), or in
    native code that keeps the interpreter's lock (``deaf``)."""

    def __init__(self, photos: Path, out: Path, stall: float, trouble: str) -> None:
        code = SCRIPT.format(tests=str(TESTS))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(photos), str(out), str(stall), trouble],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, line: str) -> None:
        assert self.process.stdout is not None
        for got in self.process.stdout:
            if line in got:
                return
        raise AssertionError(f"no {line!r}: {self.process.communicate()[1]}")

    def end(self) -> tuple[int, str]:
        """Exit code as a shell has it, and standard error; TimeoutExpired when it does not end."""
        errors = self.process.communicate(timeout=600)[1]
        code = self.process.returncode
        return (128 - code if code < 0 else code), errors


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k in range(8):
        photo_with(tmp_path / "photos" / f"{k}.png")
    return tmp_path / "photos"


def resumes(photos: Path, out: Path) -> None:
    works = (Work(s) for s in iter_sources([str(photos)]))
    settings = RunSettings(out, formats=("stl",), batch_size=1, jobs=2, two_pass=False)
    summary = run(works, FakeReconstructor(), FakeDetector, settings)
    assert summary.ok == 8 and summary.skipped >= 1
    assert json.loads((out / "manifest.json").read_text())["state"] == "finished"


@pytest.mark.parametrize("trouble", ["reader lock", "reader deaf", "main native", "main deaf"])
def test_a_run_that_stands_still_says_so_and_ends_resumable(photos, tmp_path, trouble) -> None:
    out = tmp_path / "out"
    with Process(photos, out, STALL, trouble) as process:
        process.wait_for("stands still")
        code, errors = process.end()
    assert code == ExitCode.STALLED, errors
    assert " in stand_still\n" in errors  # the stack of the thread that does
    if not trouble.endswith("deaf"):  # then only the stacks can be said
        assert f"error: no progress for {STALL} s: stopped; run again to resume" in errors
    resumes(photos, out)


@pytest.mark.parametrize(
    ("number", "trouble"),
    [("SIGINT", "reader lock"), ("SIGTERM", "main native"), ("SIGHUP", "reader native")],
)
def test_one_signal_ends_a_run_that_stands_still(photos, tmp_path, number, trouble) -> None:
    out = tmp_path / "out"
    with Process(photos, out, 600, trouble) as process:
        process.wait_for("stands still")
        process.process.send_signal(signal.Signals[number])
        process.wait_for("finishing what is in flight")
        code, errors = process.end()
    assert code == ExitCode.INTERRUPTED and "s while stopping" in errors
    resumes(photos, out)


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_two_signals_end_an_interpreter_that_stands_still(photos, tmp_path, number, code) -> None:
    out = tmp_path / "out"
    with Process(photos, out, 600, "reader deaf") as process:
        process.wait_for("stands still")
        for _ in range(600):  # the second that arrives: signals of one kind that wait are one
            process.process.send_signal(signal.Signals[number])
            with suppress(subprocess.TimeoutExpired):
                process.process.wait(0.5)
                break
        assert process.end()[0] == code
    resumes(photos, out)


def test_time_in_which_the_process_was_stopped_does_not_count(photos, tmp_path) -> None:
    out = tmp_path / "out"
    for k in range(8, 40):
        photo_with(photos / f"{k}.png")
    with Process(photos, out, 2 * STALL, "none") as process:
        while not list(out.glob("*.stl")):
            assert process.process.poll() is None
            time.sleep(0.05)
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5 * STALL)
        process.process.send_signal(signal.SIGCONT)
        code, errors = process.end()
    assert code == 0, errors


def test_waiting_for_names_is_no_standstill(tmp_path: Path) -> None:
    photo = photo_with(tmp_path / "a.png")
    code = SCRIPT.format(tests=str(TESTS)).replace(
        "(Work(s) for s in iter_sources([photos]))", "map(Work, slowly())"
    )
    code = code.replace(
        "stop = StopFlag()",
        f"def slowly():\n    yield from iter_sources([photos])\n    time.sleep({2.5 * STALL})\n"
        "stop = StopFlag()",
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(photo),
        str(tmp_path / "out"),
        str(2 * STALL),
        "none",
    ]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr
