"""Progress of a run: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

EVERY = 10.0  # seconds between lines
_WINDOW = 7  # lines over which the rate is averaged


class ProgressBar:
    """Counts finished items; this base class shows nothing.

    label: what is being done. total: number of items, None until it is known. unit: "%" if progress
    is a percentage, else empty.
    """

    def __init__(self, label: str = "", total: float | None = None, unit: str = "") -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.completed: float = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def advance(self, n: float = 1) -> None:
        self.completed += n
        self.changed()

    def update(self, total: float | None = None, label: str | None = None) -> None:
        self.total = self.total if total is None else total
        self.label = self.label if label is None else label
        self.changed()

    def counting(self, items: Iterable[T]) -> Iterator[T]:
        """Yields ``items`` unchanged; at their end, sets the total to their number."""
        number = 0
        for item in items:
            number += 1
            yield item
        self.update(total=number)

    def changed(self) -> None:
        """Called after every change, from any thread."""


class TerminalBar(ProgressBar):
    """A bar with count, rate and remaining time, below other output."""

    def __init__(self, console: Console, label: str, total: float | None, unit: str = "") -> None:
        super().__init__(label, total, unit)
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn() if unit else MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        # Leave a redirected standard output alone.
        self._progress = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        self._task = self._progress.add_task(label, total=total, rate="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def changed(self) -> None:
        task = self._progress.tasks[0]
        self._progress.update(
            self._task,
            completed=self.completed,
            total=self.total,
            description=self.label,
            rate=f"{task.speed:.1f}/s" if task.speed and not self.unit else "",
        )


class LinesBar(ProgressBar):
    """A line every :data:`EVERY` seconds, for logs; ``say`` prints a line."""

    def __init__(
        self,
        say: Callable[[str], None],
        label: str,
        total: float | None,
        unit: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(label, total, unit)
        self._say, self._clock = say, clock
        self._past: deque[tuple[float, float]] = deque([(clock(), 0)], _WINDOW)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sadr-progress", daemon=True)

    def __enter__(self) -> ProgressBar:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            self._say(self.line())

    def line(self) -> str:
        """``Detecting: 120 of 5000, 3.1/s, 26 min left``"""
        now, done, total = self._clock(), self.completed, self.total
        then, before = self._past[0]
        self._past.append((now, done))
        rate = max(done - before, 0) / max(now - then, 1e-9)
        count = "so far" if total is None else f"of {total}"
        parts = [
            f"{self.label}: " + (f"{done:.0f} {self.unit}" if self.unit else f"{done} {count}")
        ]
        if rate and not self.unit:
            parts.append(f"{rate:.1f}/s")
        if rate and total is not None and total > done:
            parts.append(f"{duration((total - done) / rate)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """``40 s``, ``26 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
