"""What the workers of a cluster load in tests, and runs on clusters."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from fakes import FakeDetector, FakeReconstructor

from sadr_cli import watchdog
from sadr_cli.pipeline import Cluster, RunSettings, Work, run
from sadr_cli.sources import SourceList

TESTS = Path(__file__).parent
PATH = f"{TESTS}{os.pathsep}{TESTS.parent}"  # PYTHONPATH of workers


@dataclass(frozen=True)
class Fakes:
    """Loaded by the workers. With SADR_TEST_LOG they leave a line there.

    seconds: of a batch. killer, staller: a photo with a face centred there ends its worker, or
    makes it stand still, by the watchdog's clock for ever. held, gate: a photo with a face centred
    at ``held`` makes the file ``gate``.held, which has the worker's number, and waits for the file
    ``gate``. stillborn: loading ends the worker.
    """

    seconds: float = 0.0
    killer: int = -1
    staller: int = -1
    held: int = -1
    gate: str = ""
    stillborn: bool = False

    def __call__(self):
        if log := os.environ.get("SADR_TEST_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()}\n")
        if self.stillborn:
            os._exit(1)
        return Reconstructor(self), FakeDetector


class Reconstructor(FakeReconstructor):
    def __init__(self, asked: Fakes) -> None:
        super().__init__(asked.seconds)
        self.asked = asked

    def reconstruct_crops(self, images, crops, detections=None):
        centres = {round(crop.center_x) for crop in crops}
        if self.asked.killer in centres:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        while self.asked.staller in centres:
            watchdog._last = float("-inf")
            time.sleep(0.1)
        if self.asked.held in centres:
            held = Path(f"{self.asked.gate}.held")
            held.with_suffix(".new").write_text(str(os.getpid()))
            held.with_suffix(".new").replace(held)
            until(Path(self.asked.gate).exists)
        return super().reconstruct_crops(images, crops, detections)


def go(photos, out, address=None, fakes=None, on_entry=None, stop=None, stall=None):
    """A run's summary, and the names of its entries in their order."""
    entries = []

    def keep(entry):
        entries.append(entry)
        if on_entry is not None:
            on_entry(entry)

    works = (Work(s) for s in SourceList(recursive=True).expand(str(photos)))
    settings = RunSettings(
        out, batch_size=4, jobs=1, formats=("stl",), overlay=True, two_pass=False, stall=stall
    )
    cluster = Cluster(address, fakes or Fakes()) if address else None
    summary = run(
        works,
        FakeReconstructor(),
        FakeDetector,
        settings,
        on_entry=keep,
        stop=stop,
        cluster=cluster,
    )
    return summary, [e.name for e in entries]


def files(folder):
    """All that a run has written, but for its manifest, which has times."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "manifest.json"
    }


def until(condition, seconds=600.0):
    """Wait for ``condition()``; AssertionError when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
