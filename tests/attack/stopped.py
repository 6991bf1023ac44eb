"""Runs that are stopped by every signal at many moments: order and rows are kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fakes import FakeDetector, FakeReconstructor
from hostile import video
from run_folders import document, go, leftovers, make_photos, rows

from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.pipeline.settings import StopFlag
from sadr_cli.sources import iter_sources

from .cases import Case, lasting_folder

LEAST = 24
NAMES = ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"]
MOMENTS = (0.0, 0.1, 0.25, 0.4, 0.6, 0.9)  # seconds after the manifest is there
ROWS = ["p0", "p1", "p2", "p2", "p3", "v"]


@cache
def _photos() -> Path:
    """Four photos, and a video that takes longer than all of them."""
    folder = make_photos(lasting_folder() / "photos")
    (folder / "v.avi").write_bytes(video(folder / "w.avi", "MJPG", 12))
    return folder


def cases() -> Iterator[Case]:
    if not hasattr(os, "fork"):
        return
    for name in NAMES:
        for moment in MOMENTS:
            yield Case(f"{name} after {moment} s", lambda n=name, m=moment: _stopped(n, m))


def _settings(out: Path) -> dict[str, Any]:
    return {"formats": ("stl",), "batch_size": 2, "jobs": 2, "overlay": True, "index": True}


def _stopped(name: str, moment: float) -> None:
    photos = _photos()
    with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
        out = Path(folder) / "out"
        # Forked off a process without threads, whose locks nobody can hold.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        child = context.Process(target=_in_the_child, args=(photos, out))
        child.start()
        while not (out / "manifest.json").exists():
            assert child.exitcode is None, "ended before it began"
            time.sleep(0.01)
        time.sleep(moment)
        assert child.pid is not None
        with suppress(ProcessLookupError):  # it has ended
            os.kill(child.pid, getattr(signal, name))
        child.join()
        if name != "SIGKILL":
            assert child.exitcode == 0, child.exitcode
            assert not leftovers(out), "something half written"
        # Nothing else promises a table: a run that is killed may not have come to it.
        written = name != "SIGKILL" or (out / "poses.csv").exists()
        before = [row["name"] for row in rows(out)] if written else []
        assert before == [n for n in ROWS if n in before], before
        summary, _ = go(photos, out, **_settings(out))
        assert summary.ok == 5 and not leftovers(out)
        assert [row["name"] for row in rows(out)] == ROWS
        assert [e["name"] for e in document(out)["inputs"]] == list(dict.fromkeys(ROWS))
        wanted = [name for entry in document(out)["inputs"] for name in entry["outputs"]]
        assert all((out / name).stat().st_size for name in wanted)
        assert len((out / "v_poses.csv").read_text().splitlines()) == 13


def _in_the_child(photos: Path, out: Path) -> None:
    """As ``sadr reconstruct`` does it, with a network that takes its time."""
    works = (Work(source) for source in iter_sources([str(photos)]))
    settings = RunSettings(out, **_settings(out))
    with StopFlag().on_signals(lambda text: None) as stop:
        run(works, FakeReconstructor(0.05), FakeDetector, settings, stop=stop)
        os._exit(0)  # while a late signal is still answered
