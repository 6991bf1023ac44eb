"""What a run is told, what it reports, and how it is asked to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sadr_cli.errors import ExitCode
from sadr_cli.faces import LOW_CONFIDENCE
from sadr_cli.render.overlay import LAYERS
from sadr_cli.results.entry import Entry
from sadr_cli.watchdog import OneShot
from sadr_cli.writers.compose import Look

# Called with a video's name, the number of its frame that is being done, and how many there are.
OnFrame = Callable[[str, int, int | None], None]


def unobserved(_name: str, _frame: int, _frames: int | None) -> None:
    """Nobody looks on."""


@dataclass(frozen=True)
class VideoSettings:
    """How videos are read, followed and written.

    start, end: seconds; step: every step-th frame. smooth: of ``video.STRENGTHS``.
    detect_every: frames after which the detector looks again though nothing asks for it.
    mesh_every: also write the meshes of every Nth frame, besides the mean one of each track.
    """

    start: float = 0.0
    end: float | None = None
    step: int = 1
    smooth: str = "light"
    detect_every: int = 30
    mesh_every: int | None = None

    def deciding(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RunSettings:
    """How a run works and what it writes.

    formats: of ``writers.FORMATS``; frame: of ``writers.FRAMES``; texture_size, face_model: see
    ``Look``. jaw: "surface" or "contour"; contour: every face gets its ``Face.contour``.
    index: keep what ``sadr_cli.gallery`` makes index.html of.
    layers: what overlays show, of ``render.overlay.LAYERS``.
    faces: see ``detection.select_faces``; min_confidence: faces below it are left out.
    two_pass: crop again around the first pass's landmarks.
    batch_size: faces the network sees at once; batches: how many such at once.
    jobs: threads that read, and that write.
    memory: bytes of decoded photos in flight.
    stall: seconds without progress after which the process is ended; None: it may take any time.
    """

    out: Path
    formats: tuple[str, ...] = ("obj",)
    frame: str = "image"
    overlay: bool = False
    layers: tuple[str, ...] = LAYERS
    index: bool = False
    faces: str | int = "all"
    min_confidence: float = 0.0
    detector: str = "centerface"
    two_pass: bool = True
    batch_size: int = 8
    batches: int = 1
    jobs: int = 2
    overwrite: bool = False
    max_pixels: int = 500_000_000
    memory: int = 256 * 1024**2
    stall: float | None = None
    texture_size: int | None = None
    face_model: Path | None = None
    jaw: str = "surface"
    video: VideoSettings = VideoSettings()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def look(self) -> Look:
        return Look(self.formats, self.frame, self.texture_size, self.face_model)

    def deciding(self) -> dict[str, Any]:
        """The settings that decide what the files contain: other ones, and files are redone."""
        return {
            "formats": sorted(self.formats),
            "frame": self.frame,
            "texture_size": self.texture_size,
            "overlay": self.overlay,
            "index": self.index,
            "faces": self.faces,
            "detector": self.detector,
            "two_pass": self.two_pass,
            **({"layers": sorted(self.layers)} if self.overlay and self.layers != LAYERS else {}),
            **({"min_confidence": self.min_confidence} if self.min_confidence else {}),
            **({} if self.jaw == "surface" else {"jaw": self.jaw}),
            **self.extra,
        }


@dataclass
class Summary:
    """Counts of a run.

    ok: inputs with a face, of which ``videos`` are videos, with ``frames`` frames in all; faces:
    of photos, and the ``tracks`` of videos; doubtful: those of low confidence. failures: (input,
    reason) of what failed, faceless: of what shows no face; notes: (input, phrase) of what went
    through and should be looked at.
    """

    inputs: int = 0
    ok: int = 0
    no_face: int = 0
    failed: int = 0
    skipped: int = 0
    faces: int = 0
    doubtful: int = 0
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)
    faceless: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def count(self, entry: Entry) -> None:
        """Add one input."""
        self.inputs += 1
        self.skipped += entry.skipped
        if not entry.skipped:  # else an earlier run has said it
            self.notes += [(entry.source, note) for note in entry.notes]
        self.ok += entry.status == "ok"
        self.faces += len(entry.faces)
        self.doubtful += sum((f.confidence or 0.0) < LOW_CONFIDENCE for f in entry.faces)
        if entry.kind == "video" and entry.status == "ok":
            self.videos += 1
            self.frames += entry.frames or 0
            self.tracks += len(entry.faces)
        if entry.status == "failed":
            self.failed += 1
            self.failures.append((entry.source, entry.reason or ""))
        elif entry.status == "no_face":
            self.no_face += 1
            self.faceless.append((entry.source, entry.reason or "no face found"))

    def counts(self) -> dict[str, Any]:
        """The numbers, for the manifest and JSON."""
        names = ["inputs", "ok", "no_face", "failed", "skipped", "faces", "doubtful", "interrupted"]
        if self.videos:
            names += ["videos", "frames", "tracks"]
        return {**{n: getattr(self, n) for n in names}, "seconds": round(self.seconds, 3)}


class StopFlag:
    """Set once: the run takes nothing new and finishes what is in flight."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def on_signals(self, say: Callable[[str], None]) -> Iterator[StopFlag]:
        """Set by the first SIGINT, SIGTERM or SIGHUP; the second ends the process at once.

        A thread answers them, since the main thread may stand still in native code; and where no
        thread of Python can run, the second one has its default action. Files are renamed into
        place and the journal is flushed line by line, so even that leaves nothing half written.
        """
        names = [n for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
        numbers = [signal.Signals[n] for n in names]
        # What is ignored stays so: nohup, jobs in the background of a script.
        numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        before = {n: signal.signal(n, lambda *_: None) for n in numbers}
        shots = [OneShot(n) for n in numbers]
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def listen() -> None:
            while number := os.read(reader, 1):
                if number[0] in numbers:
                    if self:
                        os._exit(int(ExitCode.INTERRUPTED))
                    self.set()
                    for shot in shots:  # before it says so: the second may follow at once
                        shot.arm()
                    with suppress(Exception):  # nobody would read it
                        say("stopping: finishing what is in flight (once more to stop at once)")

        listener = threading.Thread(target=listen, name="sadr-signals", daemon=True)
        listener.start()
        try:
            yield self
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)
            listener.join()
            os.close(reader)
