"""The same work on many machines: Dask, or processes of this machine.

The process that was started keeps the books and hands out chunks of photos; a worker loads the
weights once and takes each chunk through the same loop as a run on one machine, writing to the
shared folder. A worker that dies loses nothing: files are renamed into place whole, and its photos
are done again one by one. Workers also die for reasons of their own, so only a photo that was
alone with two of them when they died is given up.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import PickleError
from typing import Any

from sadr_cli.errors import OutputError, SadrError, UsageError
from sadr_cli.pipeline.feed import LISTED, Feed
from sadr_cli.pipeline.ledger import Ledger
from sadr_cli.pipeline.photo import Photo, Work, Written
from sadr_cli.pipeline.pools import Pool, open_pool
from sadr_cli.pipeline.settings import RunSettings, StopFlag
from sadr_cli.pipeline.worker import Lease, Tools, WorkerDiedError, do_chunk
from sadr_cli.results.entry import Entry
from sadr_cli.watchdog import progress

CHUNK = 16  # photos handed out at once: few enough to share evenly, many enough for full batches
_DEATHS = 2  # of workers that had only this photo
_STILLBORN = 5  # workers, one after the other, that end before they begin with a photo


@dataclass(frozen=True)
class Cluster:
    """address: ``dask://host:port`` or ``loky://N``.

    load: makes a worker's reconstructor and detectors; called once a process, sent by pickle.
    """

    address: str
    load: Callable[[], Tools]


def run_on_cluster(
    cluster: Cluster,
    works: Iterable[Work],
    ledger: Ledger,
    settings: RunSettings,
    stop: StopFlag,
) -> None:
    """All ``works`` on the cluster, settled in their order.

    Raises UsageError when there is no such scheduler or no worker, OutputError when a worker
    cannot write to the output folder, and what listing the works raised.
    """
    pool = open_pool(cluster.address)
    coordinator = _Coordinator(pool, cluster, works, ledger, settings, stop)
    try:
        coordinator.run()
    finally:
        pool.close()
        coordinator.tidy()


@dataclass
class _Task:
    """Photos that go to a worker together. deaths: of workers that had the only one of them."""

    photos: list[Photo]
    deaths: int = 0
    token: str = field(default_factory=lambda: secrets.token_hex(8))


class _Coordinator:
    """Hands out and keeps the books, all of it in the thread that calls :meth:`run`."""

    def __init__(
        self,
        pool: Pool,
        cluster: Cluster,
        works: Iterable[Work],
        ledger: Ledger,
        settings: RunSettings,
        stop: StopFlag,
    ) -> None:
        self._pool, self._cluster, self._ledger, self._stop = pool, cluster, ledger, stop
        self._settings = replace(settings, out=settings.out.absolute())
        self._feed = Feed(works, LISTED)
        self._order: deque[Photo | Entry] = deque()  # to be settled, in the order of the inputs
        self._done: dict[str, Written] = {}  # by the key of the photo
        self._flight: dict[Future[list[Written]], _Task] = {}
        self._again: deque[_Task] = deque()
        self._deaths = self._stillborn = 0
        self._failure: Exception | None = None
        self._called_off = False

    def run(self) -> None:
        """Until everything is settled, or what was in flight when the run was stopped."""
        try:
            while self._step():
                pass
        finally:
            with suppress(OutputError):  # a failing disk must not hide the first error
                self._call_off()
        self._settle(rest=True)
        if self._deaths:
            said = f"{self._deaths} times a worker ended before its photos were done"
            self._ledger.summary.notes.append((self._cluster.address, said))
        problem = self._failure or self._feed.error
        if problem is not None and not self._stop:
            raise problem

    def tidy(self) -> None:
        """Once no worker is left: remove the leases of those that were at work."""
        for task in self._flight.values():
            self._lease(task).drop()

    def _step(self) -> bool:
        """Hand out, settle and collect; False when nothing is left."""
        if not self._flight or any(self._lease(task).taken() for task in self._flight.values()):
            progress()  # who has begun is watched where it is; that nobody begins is a standstill
        try:
            room = self._pool.room()
        except UsageError as error:  # nobody is left
            self._failure = self._failure or error
            return False
        if not self._over:
            self._hand_out(room)
        self._settle()  # which may end the run
        if self._over:
            self._call_off()
        if self._flight:
            done = wait(self._flight, timeout=0.2, return_when=FIRST_COMPLETED).done
            for future in done:
                self._collect(future)
            return True
        return not (self._called_off or (self._feed.over and not self._again))

    @property
    def _over(self) -> bool:
        return bool(self._stop) or self._failure is not None

    def _call_off(self) -> None:
        """Once asked to stop: nothing new, and workers finish what they are at."""
        if not self._called_off:
            self._called_off = True
            self._feed.stop()
            for task in self._flight.values():
                self._lease(task).call_off()

    def _lease(self, task: _Task) -> Lease:
        return Lease(self._settings.out, task.token)

    # --- out --------------------------------------------------------------------------------

    def _hand_out(self, room: int) -> None:
        for _ in range(room):
            task = self._again.popleft() if self._again else self._next()
            if task is None:
                return
            call = self._cluster.load, task.photos, self._settings, task.token
            self._flight[self._pool.submit(do_chunk, *call)] = task

    def _next(self) -> _Task | None:
        """The next photos, or a video, which has a worker for itself."""
        photos: list[Photo] = []
        while len(photos) < CHUNK and len(self._order) < LISTED and not self._stop:
            work = self._feed.take(timeout=0.1)
            if work is None:
                break
            progress()
            item = self._ledger.admit(_anywhere(work))
            self._order.append(item)
            if isinstance(item, Photo):
                if item.work.source.kind == "video":
                    self._again.append(_Task([item]))
                    break
                photos.append(item)
        if photos:
            return _Task(photos)
        return self._again.popleft() if self._again else None

    # --- back -------------------------------------------------------------------------------

    def _collect(self, future: Future[list[Written]]) -> None:
        task = self._flight.pop(future)
        progress()
        try:
            results = self._pool.result(future)
        except WorkerDiedError:
            self._died(task)
        except Exception as error:
            self._failure = self._failure or _explained(error)
        else:
            self._stillborn = 0
            self._done.update((result.entry.key, result) for result in results)
            left = [photo for photo in task.photos if photo.key not in self._done]
            if left:  # called off, or somebody tidied up its lease
                self._again.append(_Task(left, task.deaths))

    def _died(self, task: _Task) -> None:
        """Do the photos of a dead worker again, each alone, or give up the one that killed it."""
        begun = self._lease(task).drop()
        if self._called_off:
            return
        if not begun:  # no photo's fault
            self._stillborn += 1
            self._again.append(_Task(task.photos, task.deaths))
            if self._stillborn >= _STILLBORN:
                self._failure = UsageError(
                    f"the workers of {self._cluster.address} end before they begin with a photo "
                    "(out of memory?): take fewer, and run again to resume"
                )
            return
        self._deaths += 1
        deaths = task.deaths + 1 if len(task.photos) == 1 else 0
        if deaths < _DEATHS:
            self._again.extend(_Task([photo], deaths) for photo in task.photos)
        else:
            self._done.update((photo.key, _given_up(photo)) for photo in task.photos)

    def _settle(self, rest: bool = False) -> None:
        """Settle what is known from the front of the order on; with ``rest`` leave out the others,
        which are to be done by the next run."""
        while self._order:
            head = self._order[0]
            result = head if isinstance(head, Entry) else self._done.pop(head.key, None)
            if result is None and not rest:
                return
            self._order.popleft()
            if result is not None:
                self._ledger.settle(result)


def _anywhere(work: Work) -> Work:
    """The same input by a name that holds on every machine that mounts the folder."""
    source = work.source
    if source.path is None:
        return work
    return replace(work, source=replace(source, path=Path(source.path).absolute()))


def _given_up(photo: Photo) -> Written:
    source = photo.work.source
    entry = Entry(
        source=source.label,
        key=photo.key,
        name=photo.name,
        kind="video" if source.kind == "video" else None,
        status="failed",
        reason="the process that worked on it ended, twice (out of memory, killed, or no progress)",
        settings=photo.settings,
        stamp=photo.stamp,
    )
    return Written(entry, [])


def _explained(error: Exception) -> Exception:
    """What a worker raised; one that does not know our names has another version of them."""
    if isinstance(error, SadrError) or not isinstance(
        error, (ImportError, AttributeError, PickleError)
    ):
        return error
    explained: Any = UsageError(
        f"a worker cannot do what this version of sadr asks for ({error}): install the same "
        "versions everywhere"
    )
    explained.__cause__ = error
    return explained
