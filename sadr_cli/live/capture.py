"""Where pictures come from while they happen, and what becomes of those there is no time for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sadr_cli.errors import InputError
from sadr_cli.faces import Frame
from sadr_cli.pipeline.feed import Feed
from sadr_cli.sources import SourceList, iter_frames, probe_video
from sadr_cli.sources.camera import Camera, camera_number
from sadr_cli.sources.stream import Stream, is_stream

_AHEAD = 4  # decoded frames of a file that wait


class Waiting(Protocol):
    """Frames that are read by a thread of their own: ``pipeline.feed.Feed`` or :class:`Newest`."""

    error: BaseException | None
    over: bool

    def take(self, timeout: float = 0.0) -> Frame | None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Capture:
    """An open camera, stream or file.

    label, name: for messages, and for files made of it. rate: frames a second, None unknown.
    live: what is not taken in time is lost. dropping: frames are left out when there is no time
    for them; else every one is taken. frames: those of ``(start, end, step)``, by default all.
    """

    label: str
    name: str
    rate: float | None
    live: bool
    dropping: bool
    frames: Callable[..., Iterator[Frame]]

    def start(self, start: float = 0.0, end: float | None = None, step: int = 1) -> Waiting:
        """Begin to read: every ``step``-th frame from ``start`` to before ``end`` (seconds)."""
        frames: Iterable[Frame] = self.frames(start, end, step)
        if not self.dropping:
            return Feed(frames, _AHEAD)
        return Newest(frames if self.live else _paced(frames))


def open_capture(text: str, size: tuple[int, int] = (640, 480), realtime: bool = False) -> Capture:
    """``0`` or ``/dev/video0``: a camera; an address with ``://``: a stream; else a video file.

    size: (width, height) that a camera is asked for. realtime: leave out frames of a file, too,
    when they come faster than they can be done. Raises InputError when it cannot be opened.
    """
    number = camera_number(text)
    if number is not None and not Path(text).is_file():
        camera = Camera(number, size)
        return Capture(camera.label, camera.name, camera.rate, True, True, _part(camera.frames))
    if is_stream(text):
        stream = Stream(text)
        live = not stream.finite
        dropping = live or realtime
        frames = _part(stream.frames)
        return Capture(stream.label, stream.name, stream.rate, live, dropping, frames)
    if not Path(text).is_file():
        raise InputError(f"{text}: no such video file, and no number of a camera")
    source = SourceList().source(Path(text))
    rate = probe_video(source).rate

    def chosen(start: float = 0.0, end: float | None = None, step: int = 1) -> Iterator[Frame]:
        return iter_frames(source, start=start, end=end, step=step)

    return Capture(source.label, source.name, rate, False, realtime, chosen)


class Newest:
    """Keeps the newest frame only; ``dropped`` counts those that nobody took."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.error: BaseException | None = None
        self.over = False
        self.dropped = 0
        self._frame: Frame | None = None
        self._ended = self._stopped = False
        self._change = threading.Condition()
        # A daemon: nobody can wake it from a camera that gives nothing.
        self._thread = threading.Thread(
            target=self._read, args=(frames,), daemon=True, name="sadr-camera"
        )
        self._thread.start()

    def take(self, timeout: float = 0.0) -> Frame | None:
        """The newest frame, once; None when there is none yet, or none any more (``over``)."""
        with self._change:
            self._change.wait_for(lambda: self._frame is not None or self._ended, timeout)
            frame, self._frame = self._frame, None
            self.over = frame is None and self._ended
            return frame

    def stop(self) -> None:
        """Read nothing any more."""
        with self._change:
            self._stopped = self.over = True
        self._thread.join(1.0)  # a camera should be closed before the process ends

    def _read(self, frames: Iterable[Frame]) -> None:
        iterator = iter(frames)
        try:
            for frame in iterator:
                with self._change:
                    if self._stopped:
                        break
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._change.notify()
        except BaseException as error:  # raised by the session once it has closed its files
            self.error = error
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            with self._change:
                self._ended = True
                self._change.notify()


def _part(read: Callable[[], Iterator[Frame]]) -> Callable[..., Iterator[Frame]]:
    """Every ``step``-th frame from ``start`` to before ``end`` of those that ``read()`` gives."""

    def chosen(start: float = 0.0, end: float | None = None, step: int = 1) -> Iterator[Frame]:
        taken = 0
        with closing(read()) as frames:  # type: ignore[type-var]
            for frame in frames:
                seconds = frame.time or 0.0
                if end is not None and seconds >= end:
                    return
                if seconds >= start:
                    if taken % step == 0:
                        yield frame
                    taken += 1

    return chosen


def _paced(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Each frame not before its time, as a camera gives them."""
    began: float | None = None
    for frame in frames:
        seconds = frame.time or 0.0
        began = time.perf_counter() - seconds if began is None else began
        time.sleep(max(began + seconds - time.perf_counter(), 0))
        yield frame
