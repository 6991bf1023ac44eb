"""A session: frames in, faces followed and smoothed, shown and recorded.

One thread reads, one follows the faces of the next frame, and the main one meanwhile draws and
shows those of the last: two cores are in use, and a face is on the screen a frame after it was
seen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError
from sadr_cli.faces import Face, Frame
from sadr_cli.live.capture import Capture, Waiting
from sadr_cli.live.picture import Picture, Rate
from sadr_cli.live.record import Recorder
from sadr_cli.pipeline.settings import VideoSettings
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.video import Tracker, TrackSmoother

_BRIEF = 0.02  # seconds to wait for a frame, a face or a key
Faces = dict[int, Face]


class Screen(Protocol):
    """:class:`sadr_cli.live.window.Window`."""

    closed: bool

    def show(self, image: NDArray[np.uint8]) -> None: ...

    def key(self, seconds: float) -> str: ...


@dataclass
class LiveSummary:
    """frames: that were done; dropped: left out for want of time; tracks: numbers of the faces
    that were followed; detections: frames the detector looked at; error: why the source ended
    early, or None."""

    frames: int = 0
    dropped: int = 0
    detections: int = 0
    seconds: float = 0.0
    tracks: set[int] = field(default_factory=set)
    error: str | None = None

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def counts(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "frames_detected": self.detections,
            "tracks": len(self.tracks),
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.rate, 2),
        }


class Session:
    """capture: where frames come from; video: which of them, and how faces are followed.

    faces: see ``Tracker``; min_confidence: faces below it are not shown. window: None without one.
    tell: called after every frame.
    """

    def __init__(
        self,
        capture: Capture,
        reconstructor: FaceReconstructor,
        detector: FaceDetector,
        recorder: Recorder,
        picture: Picture,
        window: Screen | None = None,
        video: VideoSettings | None = None,
        faces: str | int = "all",
        min_confidence: float = 0.0,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._capture, self._recorder = capture, recorder
        self._picture, self._window = picture, window
        self._video = video or VideoSettings()
        self._uv = reconstructor.uv
        self._tracker = Tracker(reconstructor, detector, faces, self._video.detect_every)
        self._smooth = TrackSmoother(self._video.smooth, self._uv.landmark_indices)
        self._least, self._tell = min_confidence, tell
        self._rate = Rate()
        self._paused = self._ended = False
        self._began: float | None = None  # the clock at second 0 of a file that is shown
        self._last: tuple[Frame, Faces] | None = None
        self._shown: NDArray[np.uint8] | None = None
        self._draws = window is not None or recorder.draws
        self.summary = LiveSummary()

    def run(self, stop: Callable[[], bool]) -> LiveSummary:
        """Until the source ends, the window is closed, a key ends it or ``stop()`` is true.

        Raises OutputError. A source that breaks off is no error: ``summary.error`` says so.
        """
        video, began = self._video, time.perf_counter()
        source = self._capture.start(video.start, video.end, video.step)
        flight: deque[Future[tuple[Frame, Faces]]] = deque()
        with ThreadPoolExecutor(1, "sadr-live") as pool:
            try:
                while not (self._ended or stop()):
                    self._fill(source, flight, pool)
                    if source.over and not flight:
                        break
                    self._drain(flight)
                    self._keys(_BRIEF / 20)
            finally:
                source.stop()
                for job in flight:
                    job.cancel()
        done = self.summary
        done.seconds = time.perf_counter() - began
        done.detections = self._tracker.detections
        done.dropped = getattr(source, "dropped", 0)
        if source.error is not None and not self._ended:
            if not isinstance(source.error, InputError):
                raise source.error
            done.error = str(source.error)
        return done

    def _fill(
        self,
        source: Waiting,
        flight: deque[Future[tuple[Frame, Faces]]],
        pool: ThreadPoolExecutor,
    ) -> None:
        """Let the next frame be followed while the last one is drawn."""
        while len(flight) < 2 and not self._paused:
            frame = source.take(0.0 if flight else _BRIEF)
            if frame is None:
                return
            flight.append(pool.submit(self._follow, frame))

    def _follow(self, frame: Frame) -> tuple[Frame, Faces]:
        """The faces of the next frame, by track."""
        faces = {}
        for item in self._tracker.step(frame.image):
            if item.face.confidence < self._least:
                continue
            faces[item.track] = self._smooth(item.track, item.face, frame.time or 0.0)
        self._smooth.keep(self._tracker.alive)
        return frame, faces

    def _drain(self, flight: deque[Future[tuple[Frame, Faces]]]) -> None:
        """Draw and record the oldest frame in flight, if it is done or nothing else is to do."""
        if not flight:
            return
        if not flight[0].done() and len(flight) < 2:
            wait([flight[0]], _BRIEF)
            return
        frame, faces = flight.popleft().result()
        self.summary.frames += 1
        self.summary.tracks.update(faces)
        self._rate.tick()
        self._recorder.add(frame, faces)
        if self._draws:
            picture = self._picture.draw(frame.image, faces)
            self._recorder.show(picture, frame.time or 0.0)
            self._last = frame, faces
            self._show(picture, frame)
        self._tell()

    def _show(self, picture: NDArray[np.uint8], frame: Frame) -> None:
        if self._window is None:
            return
        self._shown = picture
        if not self._capture.dropping:  # a file that is shown is not faster than it should be
            seconds, now = frame.time or 0.0, time.perf_counter()
            if self._began is None or self._began + seconds < now - 0.1:  # the machine is slower
                self._began = now - seconds
            while self._left(seconds) > 0 and not self._ended:
                self._keys(min(self._left(seconds), _BRIEF))
        self._refresh()

    def _left(self, seconds: float) -> float:
        """Until the time of a frame; none once a key has stopped the session."""
        return 0.0 if self._began is None else self._began + seconds - time.perf_counter()

    def _refresh(self) -> None:
        if self._window is not None and self._shown is not None:
            lines = [f"{self._rate():.1f} frames/s"]
            if self._paused:
                lines.append("stopped")
            self._window.show(self._picture.dress(self._shown, lines))

    def _keys(self, seconds: float) -> None:
        """Do what the key says that is pressed within ``seconds``."""
        if self._window is None:
            return
        key = self._window.key(seconds)
        if self._window.closed or key in ("q", "escape"):
            self._ended = True
        elif key == " ":
            self._paused = not self._paused
            self._began = None
            self._refresh()
        elif key and self._picture.switch(key) and self._last is not None:
            frame, faces = self._last
            self._shown = self._picture.draw(frame.image, faces)
            self._refresh()
