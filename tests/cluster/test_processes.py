"""Runs in several processes of this machine, some of which die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress

import psutil
import pytest
from clusters import PATH, Fakes, files, go, until
from fakes import FakeDetector, FakeReconstructor, photo_with

from sadr_cli.errors import NothingToDoError, OutputError, UsageError
from sadr_cli.pipeline import Cluster, RunSettings, StopFlag, Work, run
from sadr_cli.pipeline.cluster import _Coordinator
from sadr_cli.pipeline.ledger import Ledger
from sadr_cli.pipeline.pools import Processes, parse_address
from sadr_cli.pipeline.worker import Lease, WorkerDiedError, do_chunk, load_tools
from sadr_cli.sources import SourceList

COUNT = 40
MARK = 101  # centre of the one face that is like no other's, in photo 020
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "photos"
    for k in range(COUNT):
        faces = [(20, 30, 40), (110, 60, 40)] if k % 2 else [(20, 30, 40)]
        photo_with(folder / f"{k:03}.png", [(81, 40, 41)] if k == 20 else faces)
    (folder / "030b.png").write_bytes(b"not a photo")
    return folder


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def workers(parent=None):
    """Processes that ``parent``, by default this one, has started for its runs."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "popen_loky" in " ".join(process.cmdline()):
                found.append(process)
    return found


def lives(process):
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE  # which nobody has taken note of yet
    return False


@pytest.mark.slow
def test_same_files_in_the_same_order_as_without_a_cluster(photos, tmp_path):
    alone, order = go(photos, tmp_path / "alone")
    summary, names = go(photos, tmp_path / "many", "loky://2")
    assert summary.ok == alone.ok == COUNT and summary.failed == alone.failed == 1
    assert names == order and files(tmp_path / "many") == files(tmp_path / "alone")
    again, _ = go(photos, tmp_path / "many", "loky://2")
    assert again.skipped == COUNT
    until(lambda: not workers())


@posix
@pytest.mark.slow
def test_a_killed_process_loses_nothing(photos, tmp_path):
    killed, gate = [], tmp_path / "gate"

    def kill(entry):
        if entry.name == "003":
            until(gate.with_suffix(".held").exists)
            for process in workers():
                killed.append(process.pid)
                process.kill()
            gate.touch()

    _, order = go(photos, tmp_path / "alone")
    fakes = Fakes(0.1, held=MARK, gate=str(gate))
    summary, names = go(photos, tmp_path / "many", "loky://2", fakes, on_entry=kill)
    assert len(killed) == 2
    assert summary.ok == COUNT and summary.failed == 1 and names == order
    many = {name: data for name, data in files(tmp_path / "many").items() if "-tmp-" not in name}
    assert many == files(tmp_path / "alone")
    [(address, said)] = summary.notes
    assert address == "loky://2" and "times a worker ended before its photos were done" in said


@posix
def test_a_process_that_ends_while_it_has_nothing_to_do_is_replaced():
    pool = Processes(1)
    try:
        future = pool.submit(os.getpid)
        until(future.done)
        first = pool.result(future)
        os.kill(first, signal.SIGKILL)
        (executor,) = pool._free
        until(lambda: executor._flags.broken)  # loky has noticed
        future = pool.submit(os.getpid)
        until(future.done)
        assert pool.result(future) != first
    finally:
        pool.close()


@posix
@pytest.mark.slow
def test_a_photo_that_kills_its_worker_twice_is_named_and_the_others_are_done(photos, tmp_path):
    log = []
    summary, _ = go(
        photos, tmp_path / "out", "loky://2", Fakes(killer=MARK), lambda e: log.append(e.name)
    )
    assert log == sorted(log)
    assert summary.ok == COUNT - 1 and summary.failed == 2
    reasons = {name.rpartition(os.sep)[2]: reason for name, reason in summary.failures}
    assert reasons["020.png"].startswith("the process that worked on it ended, twice")
    again, _ = go(photos, tmp_path / "out", "loky://2")
    assert (again.ok, again.skipped, again.failed) == (COUNT, COUNT - 1, 1)


@posix
@pytest.mark.slow
def test_a_process_that_stands_still_says_so_and_the_run_goes_on(photos, tmp_path, capfd):
    summary, _ = go(photos, tmp_path / "out", "loky://2", Fakes(staller=MARK), stall=300)
    assert summary.ok == COUNT - 1 and summary.failed == 2
    errors = capfd.readouterr().err
    said = "error: no progress for 5 min: stopped; the photos of this worker are tried once more"
    assert errors.count(said) == 3 and " in reconstruct_crops\n" in errors


@pytest.mark.slow
def test_processes_that_end_before_they_begin_end_the_run(photos, tmp_path):
    with pytest.raises(UsageError, match=r"end before they begin with a photo .*run again"):
        go(photos, tmp_path / "out", "loky://1", Fakes(stillborn=True))


@posix
@pytest.mark.slow
def test_what_a_callback_raises_ends_the_run_and_its_processes(photos, tmp_path):
    def fail(entry):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        go(photos, tmp_path / "out", "loky://2", on_entry=fail)
    until(lambda: not workers())
    assert not list((tmp_path / "out").glob(".sadr-tmp-chunk*"))


@pytest.mark.slow
def test_a_stopped_run_finishes_what_is_in_flight_and_can_be_resumed(tmp_path):
    photos, many = tmp_path / "photos", 3 * COUNT  # more than two workers have at once
    for k in range(many):
        photo_with(photos / f"{k:03}.png")
    stop = StopFlag()
    summary, names = go(
        photos, tmp_path / "out", "loky://2", Fakes(0.1), lambda e: stop.set(), stop
    )
    assert summary.interrupted and 0 < summary.inputs < many and names == sorted(names)
    again, _ = go(photos, tmp_path / "out", "loky://2")
    assert again.ok == many and again.skipped == summary.ok
    assert not list((tmp_path / "out").glob(".sadr-tmp*"))


SCRIPT = """
import sys
from pathlib import Path
from clusters import Fakes, go
from sadr_cli.pipeline import StopFlag
if __name__ == "__main__":
    stop = StopFlag()
    with stop.on_signals(lambda text: print(text, flush=True)):
        say = lambda entry: print(entry.name, flush=True)
        fakes = Fakes(0.2, held=int(sys.argv[3]), gate=sys.argv[4])
        summary, _ = go(sys.argv[1], Path(sys.argv[2]), "loky://2", fakes, say, stop, 600)
    print("interrupted" if summary.interrupted else "finished")
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGINT", "SIGHUP", "SIGKILL"])
def test_signals_to_the_run(photos, tmp_path, number):
    """Those of a terminal come to all processes; a run that is killed leaves none behind."""
    gate = tmp_path / "gate"
    command = [sys.executable, "-c", SCRIPT, str(photos), str(tmp_path / "out")]
    command += [str(MARK), str(gate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "000\n"
        until(lambda: len(workers(process.pid)) == 2)
        started = workers(process.pid)
        if number == "SIGKILL":
            process.kill()
        else:
            os.killpg(process.pid, signal.Signals[number])
            while "finishing what is in flight" not in process.stdout.readline():
                assert process.poll() is None
        gate.touch()
        said = process.communicate(timeout=600)[0]
        assert number == "SIGKILL" or said.endswith("interrupted\n")
        until(lambda: not any(map(lives, started)))
    finally:
        process.kill()
    summary, _ = go(photos, tmp_path / "out", "loky://2")
    assert summary.ok == COUNT and summary.skipped >= 1


def test_a_listing_that_breaks(photos, tmp_path):
    def listing():
        yield from (Work(s) for s in SourceList().expand(str(photos / "001.png")))
        raise NothingToDoError("gone")

    settings = RunSettings(tmp_path / "out", jobs=1, formats=("stl",))
    cluster, before = Cluster("loky://1", Fakes()), set(threading.enumerate())
    with pytest.raises(NothingToDoError):
        run(listing(), FakeReconstructor(), FakeDetector, settings, cluster=cluster)
    assert (tmp_path / "out" / "001.stl").exists()
    until(lambda: not set(threading.enumerate()) - before)


def test_what_a_worker_refuses(tmp_path):
    with pytest.raises(OutputError, match="does not see"):
        do_chunk(Fakes(), [], RunSettings(tmp_path / "elsewhere"), "0")
    with pytest.raises(UsageError, match="install the same version everywhere"):
        load_tools("0.0.1", None, "", "cpu", 1, "centerface")


def test_a_lease_is_taken_once_and_ends_the_work_when_it_is_called_off(tmp_path, monkeypatch):
    monkeypatch.setattr("sadr_cli.pipeline.worker._LOOK", 0.0)
    mine, other = Lease(tmp_path, "1"), Lease(tmp_path, "1")
    with mine.held():
        assert not mine
        with pytest.raises(WorkerDiedError), other.held():
            pass
        other.call_off()
        assert mine
    other.call_off()
    with pytest.raises(WorkerDiedError), Lease(tmp_path, "1").held():
        pass
    assert other.drop() and not other.drop() and not list(tmp_path.iterdir())
    with pytest.raises(OutputError), Lease(tmp_path / "gone", "1").held():
        pass


def test_waiting_for_workers_that_do_not_begin_is_a_standstill(photos, tmp_path, monkeypatch):
    class Idle:
        def __init__(self):
            self.submitted = []

        def room(self):
            return 1 - len(self.submitted)

        def submit(self, call, *arguments):
            self.submitted.append(arguments)
            return Future()

    counted = []
    monkeypatch.setattr("sadr_cli.pipeline.cluster.progress", lambda: counted.append(1))
    pool, settings = Idle(), RunSettings(tmp_path / "out")
    ledger = Ledger(FakeReconstructor(), settings)
    works = (Work(s) for s in SourceList().expand(str(photos / "001.png")))
    cluster = Cluster("loky://1", Fakes())
    coordinator = _Coordinator(pool, cluster, works, ledger, settings, StopFlag())
    until(lambda: coordinator._step() and pool.submitted)
    before = len(counted)
    assert coordinator._step() and len(counted) == before
    lease = Lease(settings.out, pool.submitted[0][-1])
    with lease.held():
        assert coordinator._step() and len(counted) == before + 1
    ledger.close("stopped")


def test_a_worker_that_is_late_begins_nothing_and_leaves_nothing(photos, tmp_path, monkeypatch):
    class Late:
        """Its worker turns to the photos as the run has already failed."""

        lease = None

        def room(self):
            if self.lease is not None:
                raise UsageError("nobody is left")
            return 1

        def submit(self, call, load, photos, settings, token):
            self.lease = Lease(settings.out, token)
            return Future()

        def close(self):
            self.began = self.lease.take()

    pool = Late()
    monkeypatch.setattr("sadr_cli.pipeline.cluster.open_pool", lambda address: pool)
    with pytest.raises(UsageError, match="nobody is left"):
        go(photos, tmp_path / "out", "loky://1")
    assert not pool.began and not list((tmp_path / "out").glob(".sadr-tmp*"))


def test_addresses():
    assert parse_address("dask://node7:8786") == ("dask", "node7:8786")
    assert parse_address("loky://4") == ("loky", "4")
    for wrong in ("dask", "dask://", "dask://node", "ray://x:1", "loky://0", "node:8786"):
        with pytest.raises(UsageError, match="--cluster"):
            parse_address(wrong)


class Mortal:
    """A pool of one worker that ends ``alone`` times with photo 020 alone, and whenever it has it
    together with others."""

    def __init__(self, alone):
        self.alone = alone
        self.sizes = []  # of the calls that it died of

    def room(self):
        return 1

    def submit(self, call, load, photos, settings, token):
        self.call = call, load, photos, settings, token
        future = Future()
        future.set_result(None)
        return future

    def result(self, future):
        call, load, photos, settings, token = self.call
        if any(photo.name == "020" for photo in photos):
            self.alone -= len(photos) == 1
            if self.alone >= 0:
                self.sizes.append(len(photos))
                Lease(settings.out, token).take()
                raise WorkerDiedError
        return call(load, photos, settings, token)

    def close(self):
        pass


@pytest.mark.parametrize(("alone", "failed"), [(1, 1), (2, 2)])
def test_only_a_photo_that_was_alone_with_two_dead_workers_is_given_up(
    photos, tmp_path, monkeypatch, alone, failed
):
    pool = Mortal(alone)
    monkeypatch.setattr("sadr_cli.pipeline.cluster.open_pool", lambda address: pool)
    summary, names = go(photos, tmp_path / "out", "loky://1")
    assert summary.failed == failed and summary.ok == COUNT + 1 - failed and names == sorted(names)
    assert pool.sizes == [16, *[1] * alone]
