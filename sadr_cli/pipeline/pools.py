"""Where chunks run: processes of this machine (loky), or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from typing import Any, Protocol

from sadr_cli.errors import ExitCode, MissingDataError, UsageError
from sadr_cli.pipeline.worker import WorkerDiedError

PATIENCE = 60  # seconds to wait for a worker, at the beginning and when all are gone
ANSWER = 10  # seconds for a scheduler to answer
_LOOK = 1.0  # seconds between two looks at a cluster's workers
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Pool(Protocol):
    """Workers; all calls come from one thread."""

    def room(self) -> int:
        """How many calls more it takes now. UsageError when there is nobody to take any."""
        ...

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]: ...

    def result(self, future: Future[Any]) -> Any:
        """Of a finished call. WorkerDiedError when the worker ended first."""
        ...

    def close(self) -> None: ...


def parse_address(text: str) -> tuple[str, str]:
    """``dask://host:port`` -> ("dask", "host:port"), ``loky://4`` -> ("loky", "4")."""
    kind, separator, place = text.partition("://")
    if separator and kind == "dask" and place.rpartition(":")[2].isdecimal() and ":" in place:
        return kind, place
    if separator and kind == "loky" and place.isdecimal() and int(place) > 0:
        return kind, place
    raise UsageError(
        f"--cluster takes dask://host:port (a scheduler of Dask) or loky://N (N processes of this "
        f"machine), not {text!r}"
    )


def open_pool(address: str) -> Pool:
    """The workers at ``address``; UsageError when there are none."""
    kind, place = parse_address(address)
    return Processes(int(place)) if kind == "loky" else Dask(place)


class Processes:
    """Processes of this machine, each an executor of its own: when one dies, it is known which
    call it was at, and the others go on."""

    def __init__(self, count: int) -> None:
        share = str(max((os.cpu_count() or 1) // count, 1))
        self._environment = {name: os.environ.get(name, share) for name in _THREADS}
        self._free: list[Executor | None] = [None] * count  # None: not started
        self._busy: dict[Future[Any], Executor] = {}

    def room(self) -> int:
        return len(self._free)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        executor = self._free.pop() or self._start()
        try:
            future = executor.submit(call, *arguments)
        except BrokenExecutor:  # its process ended while there was nothing to do
            executor.shutdown(wait=False)
            executor = self._start()
            future = executor.submit(call, *arguments)
        self._busy[future] = executor
        return future

    def _start(self) -> Executor:
        from joblib.externals.loky import ProcessPoolExecutor

        parent = (os.getpid(),)
        executor: Executor = ProcessPoolExecutor(
            1, initializer=obey, initargs=parent, env=self._environment
        )
        return executor

    def result(self, future: Future[Any]) -> Any:
        executor = self._busy.pop(future)
        try:
            result = future.result()
        except BrokenExecutor as error:
            executor.shutdown(wait=False)
            self._free.append(None)
            raise WorkerDiedError(str(error)) from None
        except BaseException:
            self._free.append(executor)
            raise
        self._free.append(executor)
        return result

    def close(self) -> None:
        for executor in self._busy.values():
            executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
        for idle in self._free:
            if idle is not None:
                idle.shutdown(wait=True)


def obey(parent: int) -> None:
    """In a process of :class:`Processes`: signals to the whole group (Ctrl-C, a closed terminal)
    are for the ``parent`` to answer, and without it there is nothing left to do."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(signal.Signals[name], signal.SIG_IGN)

    def follow() -> None:
        import psutil

        while os.getppid() == parent and psutil.pid_exists(parent):
            time.sleep(1)
        os._exit(int(ExitCode.INTERRUPTED))

    threading.Thread(target=follow, name="sadr-parent", daemon=True).start()


class Dask:
    """The workers of a Dask scheduler, as many as there are at the moment. When one dies, Dask
    gives its calls to another one."""

    def __init__(self, place: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingDataError(
                "--cluster dask:// needs the package distributed (pip install 'sadr[cluster]')"
            ) from error
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
        self._place = place
        try:
            self._client = Client(place, set_as_default=False, timeout=ANSWER)
        except Exception as error:  # of another version: whatever a handshake may raise
            raise UsageError(
                f"no Dask scheduler answers at {place} (or one of another version): start one, "
                "or look up its address"
            ) from error
        try:
            self._meet()
            self._executor = self._client.get_executor(pure=False)
        except BaseException:
            self._client.close()
            raise
        self._looked = self._seen = time.monotonic()
        self._threads = 1
        self._flight = 0

    def _meet(self) -> None:
        """Wait for the first worker, and compare versions."""
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE)
            found = self._client.get_versions(packages=["sadr"])
        except TimeoutError as error:
            raise UsageError(
                f"the Dask scheduler at {self._place} has no workers: start some with `dask "
                f"worker {self._place}`"
            ) from error
        except Exception as error:
            raise self._gone() from error
        mine = _versions(found["client"])
        others = {"scheduler": found["scheduler"], **found["workers"]}
        for place, theirs in others.items():
            if place == "scheduler":
                theirs = {**theirs, "packages": {**theirs["packages"], "sadr": mine["sadr"]}}
            for name, version in _versions(theirs).items():
                if version != mine[name]:
                    who = "scheduler" if place == "scheduler" else f"worker {place}"
                    raise UsageError(
                        f"the Dask {who} has {name} {version or '-'}, this machine "
                        f"{mine[name] or '-'}: install the same versions everywhere"
                    )

    def _gone(self) -> UsageError:
        return UsageError(
            f"the Dask scheduler at {self._place} is gone: start it and run again to resume"
        )

    def room(self) -> int:
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked = now
            try:
                if self._client.status != "running":
                    raise OSError
                self._threads = sum(self._client.nthreads().values())
            except Exception as error:
                raise self._gone() from error
            if self._threads:
                self._seen = now
            elif now - self._seen > PATIENCE:
                raise UsageError(
                    f"the Dask scheduler at {self._place} has lost all its workers: start some "
                    "and run again to resume"
                )
        return 2 * self._threads - self._flight  # one at work, one that waits for it

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self._flight += 1
        future: Future[Any] = self._executor.submit(call, *arguments)
        return future

    def result(self, future: Future[Any]) -> Any:
        from distributed.scheduler import KilledWorker

        self._flight -= 1
        try:
            return future.result()
        except KilledWorker as error:
            raise WorkerDiedError(str(error)) from None
        except CancelledError as error:  # nobody here cancels
            raise self._gone() from error

    def close(self) -> None:
        with suppress(Exception):  # all is done, whether the scheduler answers or not
            self._client.close(timeout=5)


def _versions(description: dict[str, Any]) -> dict[str, str | None]:
    """Of what has to be the same everywhere."""
    packages = description["packages"]
    found = {name: packages.get(name) for name in ("distributed", "sadr")}
    python = ".".join((packages.get("python") or "").split(".")[:2])
    return {"Python": python, **found}
