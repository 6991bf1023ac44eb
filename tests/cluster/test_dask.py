"""Runs on the workers of a Dask scheduler, all of them real, some of which die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from contextlib import suppress

import psutil
import pytest
from clusters import PATH, Fakes, files, go, until
from fakes import photo_with

from sadr_cli.errors import UsageError
from sadr_cli.pipeline import pools

COUNT = 40
MARK = 101  # centre of the one face that is like no other's, in photo 020


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask") / "photos"
    for k in range(COUNT):
        photo_with(folder / f"{k:03}.png", [(81, 40, 41) if k == 20 else (20, 30, 40)])
    (folder / "030b.png").write_bytes(b"not a photo")
    return folder


class Dask:
    """A scheduler, and workers as they are asked for; all of them processes."""

    def __init__(self, folder) -> None:
        self.folder, self.log = folder, folder / "loads.txt"
        self.processes = []
        self.workers = []
        self.environment = {
            **os.environ,
            "PYTHONPATH": PATH,
            "OMP_NUM_THREADS": "1",
            "SADR_TEST_LOG": str(self.log),
        }

    def start(self, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:]]
        command += ["--no-dashboard", "--host", "127.0.0.1"]
        with (self.folder / f"{arguments[0]}.txt").open("a") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def start_scheduler(self):
        note = self.folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", str(note))
        until(lambda: note.exists() and note.read_text().rstrip().endswith("}"))
        self.place = json.loads(note.read_text())["address"].removeprefix("tcp://")
        self.address = f"dask://{self.place}"

    def start_workers(self, count, *options):
        from distributed import Client

        for _ in range(count):
            self.workers.append(self.start("worker", self.place, "--nthreads", "1", *options))
        with Client(self.place, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=600)

    def close(self):
        running = [psutil.Process(p.pid) for p in self.processes if p.poll() is None]
        children = [child for p in running for child in p.children(recursive=True)]
        for process in [*running, *children]:  # nannies before their workers
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.processes:
            process.wait()


@pytest.fixture
def dask(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(pools, "ANSWER", 300)
    cluster = Dask(tmp_path)
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.close()


def never_ends(folder):
    """A run whose second chunk waits for ever."""
    return Fakes(0.1, held=MARK, gate=str(folder / "gate"))


@pytest.mark.slow
def test_same_files_as_on_one_machine_though_a_worker_is_killed(photos, tmp_path, dask):
    dask.start_workers(2, "--no-nanny")
    alone, order = go(photos, tmp_path / "alone")
    gate, held = tmp_path / "gate", tmp_path / "gate.held"
    killed = []

    def kill(entry):
        if entry.name == "003":
            until(held.exists)
            (worker,) = (w for w in dask.workers if w.pid == int(held.read_text()))
            worker.kill()
            killed.append(worker)
            gate.touch()

    fakes = Fakes(0.1, held=MARK, gate=str(gate))
    summary, names = go(photos, tmp_path / "many", dask.address, fakes, kill)
    assert killed[0].wait() and [w.poll() is None for w in dask.workers].count(True) == 1
    assert (summary.ok, summary.failed, summary.faces) == (alone.ok, alone.failed, alone.faces)
    assert names == order
    many = {name: data for name, data in files(tmp_path / "many").items() if "-tmp-" not in name}
    assert many == files(tmp_path / "alone")
    loads = dask.log.read_text().split()
    assert len(loads) == len(set(loads)) == 2  # the weights once a worker
    again, _ = go(photos, tmp_path / "many", dask.address)
    assert again.skipped == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["killer", "staller"])
def test_a_photo_that_ends_its_worker_twice_is_named_and_the_others_are_done(
    photos, tmp_path, dask, trouble
):
    dask.start_workers(2)
    summary, names = go(photos, tmp_path / "out", dask.address, Fakes(**{trouble: MARK}), stall=300)
    said = (dask.folder / "worker.txt").read_text()
    assert (summary.ok, summary.failed) == (COUNT - 1, 2), f"{summary.failures}\n{said}"
    assert names == sorted(names)
    assert any(name.endswith("020.png") and "twice" in why for name, why in summary.failures)
    own = said.count(" in reconstruct_crops\n")
    assert own == 3 * (trouble == "staller"), said
    others = said.count("error: no progress for 5 min: stopped") - own
    if others:  # with innocent photos, which have been done again
        warnings.warn(f"a worker stood still\n{said}", stacklevel=1)
    # Two workers, and one more for each death.
    assert len(dask.log.read_text().split()) <= 5 + others


@pytest.mark.slow
def test_a_scheduler_that_goes_away_ends_the_run_resumable(photos, tmp_path, dask):
    dask.start_workers(1, "--no-nanny")

    def kill(entry):
        if entry.name == "003":
            dask.scheduler.kill()

    with pytest.raises(UsageError, match="the Dask scheduler at .* is gone: .* again to resume"):
        go(photos, tmp_path / "out", dask.address, never_ends(tmp_path), kill)
    again, _ = go(photos, tmp_path / "out")
    assert again.ok == COUNT and again.skipped >= 4


@pytest.mark.slow
def test_no_workers_at_the_beginning_or_later(photos, tmp_path, dask, monkeypatch):
    monkeypatch.setattr(pools, "PATIENCE", 2)
    with pytest.raises(UsageError, match="has no workers: start some with `dask worker"):
        go(photos, tmp_path / "out", dask.address)
    dask.start_workers(1, "--no-nanny")

    def kill(entry):
        dask.workers[0].kill()

    with pytest.raises(UsageError, match="has lost all its workers: start some and run again"):
        go(photos, tmp_path / "out", dask.address, never_ends(tmp_path), kill)


@pytest.mark.slow
def test_other_versions_are_said_before_anything_is_done(photos, tmp_path, dask):
    (tmp_path / "older.py").write_text(
        "from distributed import versions\n"
        "def older(names, real=versions.get_package_info):\n"
        "    return {**real(names), 'sadr': '0.0.1'}\n"
        "versions.get_package_info = older\n"
    )
    dask.start_workers(1, "--no-nanny", "--preload", str(tmp_path / "older.py"))
    with pytest.raises(UsageError, match=r"worker tcp://.* has sadr 0\.0\.1, this machine"):
        go(photos, tmp_path / "out", dask.address)


def test_no_scheduler(photos, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(pools, "ANSWER", 0.5)
    with pytest.raises(UsageError, match="no Dask scheduler answers at 127.0.0.1:9"):
        go(photos, tmp_path / "out", "dask://127.0.0.1:9")
