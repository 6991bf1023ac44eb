"""The listing, read ahead by a thread: a slow disk or pipe never holds up what is in flight."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_END = object()
NAME = "sadr-listing"
# Inputs listed ahead, about 1 KB each: up to so many, the total is known while the first are done.
LISTED = 20_000


class Feed(Generic[T]):
    """At most ``ahead`` items are read ahead of :meth:`take`."""

    def __init__(self, items: Iterable[T], ahead: int) -> None:
        self._queue: queue.Queue[T | object] = queue.Queue(max(ahead, 1))
        self._stopped = threading.Event()
        self.error: BaseException | None = None
        self.over = False
        # A daemon: nobody can wake it from a pipe in which nothing comes.
        self._thread = threading.Thread(target=self._read, args=(items,), daemon=True, name=NAME)
        self._thread.start()

    def take(self, timeout: float = 0.0) -> T | None:
        """The next item; None when there is none yet, or none any more (:attr:`over`)."""
        if self.over:
            return None
        try:
            item = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None
        if item is _END:
            self.over = True
            return None
        return item  # type: ignore[return-value]

    def stop(self) -> None:
        """Take nothing any more."""
        self.over = True
        self._stopped.set()

    def _read(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # raised by the run once what is in flight is done
            self.error = error
        finally:
            self._put(_END)

    def _put(self, item: T | object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


def ordered_map(
    work: Callable[[T], R], items: Iterable[T], jobs: int, stop: Callable[[], bool]
) -> Iterator[tuple[T, R]]:
    """(item, ``work(item)``) in order, from ``jobs`` threads, at most ``jobs`` + 2 in flight.

    Up to :data:`LISTED` items are taken ahead of that: they should be small.

    Once ``stop()`` is true nothing new is begun and what is in flight comes out. Raises what
    ``items`` raised, after what came before, and what ``work`` raises.
    """
    feed = Feed(items, LISTED)
    flight: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                if stop():
                    feed.stop()
                while len(flight) < jobs + 2:
                    item = feed.take(timeout=0.0 if flight else 0.1)
                    if item is None:
                        break
                    flight.append((item, pool.submit(work, item)))
                if flight:
                    item, future = flight.popleft()
                    if not (stop() and future.cancel()):
                        yield item, future.result()
                elif feed.over:
                    break
        finally:
            feed.stop()
            for _, future in flight:
                future.cancel()
    if feed.error is not None and not stop():
        raise feed.error
