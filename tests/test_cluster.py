"""Work on several machines, played by several processes of this one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with

from sadr_cli.errors import NothingToDoError, OutputError, UsageError
from sadr_cli.pipeline import Cluster, RunSettings, Work, run
from sadr_cli.pipeline.cluster import parse_address
from sadr_cli.sources import SourceList

TESTS = Path(__file__).parent
COUNT = 100


def fakes(seconds=0.0):
    """Loaded by the workers; leaves a line so that the test sees how often."""
    log = os.environ.get("SADR_TEST_LOG")
    if log:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")
    return FakeReconstructor(seconds), FakeDetector


class Fakes:
    """``fakes`` with an argument, found by its module's name on the workers."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self):
        return fakes(self.seconds)


def go(photos, out, address=None, seconds=0.0, on_entry=None):
    entries = []

    def keep(entry):
        entries.append(entry)
        if on_entry is not None:
            on_entry(entry)

    works = (Work(s) for s in SourceList(recursive=True).expand(str(photos)))
    summary = run(
        works,
        FakeReconstructor(),
        FakeDetector,
        RunSettings(out, batch_size=4, jobs=1, formats=("stl",), overlay=True),
        on_entry=keep,
        cluster=Cluster(address, Fakes(seconds)) if address else None,
    )
    return summary, [e.name for e in entries]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "photos"
    for k in range(COUNT):
        photo_with(folder / f"{k:03}.png", [(20, 30, 40), (110, 60, 60)][: 1 + k % 2])
    (folder / "050b.png").write_bytes(b"not a photo")
    return folder


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "manifest.json"
    }


@pytest.fixture
def dask(tmp_path, monkeypatch):
    """A scheduler and two workers: (address, their processes, the log of what they load)."""
    pytest.importorskip("distributed")
    log = tmp_path / "loads.txt"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
        "OMP_NUM_THREADS": "1",
        "SADR_TEST_LOG": str(log),
    }
    note = tmp_path / "scheduler.json"

    def start(*arguments):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        return subprocess.Popen(
            command,
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    quiet = ["--no-dashboard"]
    local = ["--host", "127.0.0.1"]
    running = [
        start("dask_scheduler", *local, "--port", "0", "--scheduler-file", str(note), *quiet)
    ]
    try:
        until = time.monotonic() + 60
        while not note.exists() and time.monotonic() < until:
            time.sleep(0.1)
        import json

        time.sleep(0.2)
        address = json.loads(note.read_text())["address"].removeprefix("tcp://")
        for _ in range(2):
            options = ["--nthreads", "1", "--nworkers", "1", "--no-nanny", *quiet, *local]
            running.append(start("dask_worker", address, *options))
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield f"dask://{address}", running[1:], log
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_same_files_as_on_one_machine_though_a_worker_is_killed(photos, tmp_path, dask):
    address, workers, log = dask
    alone, order = go(photos, tmp_path / "alone")
    assert alone.ok == COUNT and alone.failed == 1

    def kill(entry):
        if entry.name == "020":
            workers[0].kill()

    summary, names = go(photos, tmp_path / "many", address, seconds=0.05, on_entry=kill)
    assert workers[0].poll() is not None and workers[1].poll() is None
    assert (summary.ok, summary.failed, summary.faces) == (alone.ok, alone.failed, alone.faces)
    assert names == order
    many = {k: v for k, v in files(tmp_path / "many").items() if ".sadr-tmp" not in k}
    assert many == files(tmp_path / "alone")
    loads = log.read_text().split()
    assert len(loads) == len(set(loads)) == 2  # the weights once a worker
    again, _ = go(photos, tmp_path / "many", address)
    assert again.skipped == COUNT


def test_processes_of_this_machine(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")
    go(photos, tmp_path / "alone")
    summary, _ = go(photos, tmp_path / "many", "loky://2")
    assert summary.ok == COUNT and files(tmp_path / "many") == files(tmp_path / "alone")


def test_addresses():
    assert parse_address("dask://node7:8786") == ("dask", "node7:8786")
    assert parse_address("loky://4") == ("loky", "4")
    for wrong in ("dask", "dask://", "dask://node", "ray://x:1", "loky://0", "node:8786"):
        with pytest.raises(UsageError, match="--cluster"):
            parse_address(wrong)


def test_no_scheduler(photos, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    import distributed

    class Absent:
        def __init__(self, *arguments, **options):
            raise OSError("refused")

    monkeypatch.setattr(distributed, "Client", Absent)
    with pytest.raises(UsageError, match="no Dask scheduler answers at 127.0.0.1:1"):
        go(photos, tmp_path / "out", "dask://127.0.0.1:1")


def test_a_listing_that_breaks_and_a_folder_out_of_sight(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")

    def listing():
        yield from (Work(s) for s in SourceList().expand(str(photos / "001.png")))
        raise NothingToDoError("gone")

    settings = RunSettings(tmp_path / "out", jobs=1, formats=("stl",))
    with pytest.raises(NothingToDoError):
        run(
            listing(),
            FakeReconstructor(),
            FakeDetector,
            settings,
            cluster=Cluster("loky://1", Fakes(0)),
        )
    assert (tmp_path / "out" / "001.stl").exists()

    from sadr_cli.pipeline.cluster import do_chunk

    with pytest.raises(OutputError, match="does not see"):
        do_chunk(Fakes(0), [object()], RunSettings(tmp_path / "elsewhere"))
    assert threading.active_count() < 50
