"""Faces of many photos and videos, with crops and pictures of them: what ``sadr detect`` does."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sadr_cli.crop import extract_crop
from sadr_cli.detection import create_detector, crop_for_detection, select_faces
from sadr_cli.detection.draw import draw_detections
from sadr_cli.errors import InputError, OutputError
from sadr_cli.faces import Detection, Frame
from sadr_cli.files import atomic_write, check_writable
from sadr_cli.marks import CROP, PICTURE, mark_of, marked
from sadr_cli.pipeline.feed import ordered_map
from sadr_cli.pipeline.settings import StopFlag
from sadr_cli.sources import Source, iter_frames, load_frame

CROP_RESOLUTION = 256

Seen = tuple[Frame, list[Detection]]


@dataclass(frozen=True)
class DetectSettings:
    """How faces are looked for, and what is written.

    faces, min_score, min_size: see ``detection.create_detector``. start, end: seconds of a
    video; step: every step-th frame. jobs: threads that read and look.
    crops: folder for each face's 256 x 256 crop; overlay: folder for photos with their faces drawn.
    """

    detector: str = "centerface"
    device: str = "cpu"
    faces: str | int = "all"
    min_score: float = 0.0
    min_size: float = 0.0
    start: float = 0.0
    end: float | None = None
    step: int = 1
    max_pixels: int = 500_000_000
    jobs: int = 2
    crops: Path | None = None
    overlay: Path | None = None


@dataclass
class Counts:
    """Inputs looked at, faces found, inputs without a face, inputs that failed."""

    files: int = 0
    faces: int = 0
    no_face: int = 0
    failed: int = 0

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class FaceFinder:
    """Looks at photos in threads, each with its own detector; at videos frame by frame.

    Raises UsageError and MissingDataError for a detector that cannot run.
    """

    def __init__(self, settings: DetectSettings, stop: StopFlag) -> None:
        self._settings, self._stop = settings, stop
        self._local = threading.local()
        self._local.detector = self._create()

    def run(
        self,
        sources: Iterable[Source],
        on_frame: Callable[[Frame, list[Detection]], None],
        on_source: Callable[[Source, int, InputError | None], None],
    ) -> Counts:
        """Look at all ``sources`` in their order.

        on_frame: called with every photo, or frame of a video, and its faces.
        on_source: called after each input with the number of its faces, or what was wrong.
        Raises OutputError when a folder cannot be written, before anything is looked at.
        """
        count = Counts()
        for folder in (self._settings.crops, self._settings.overlay):
            if folder is not None:
                check_writable(folder)
        for source, seen in ordered_map(self._look, sources, self._settings.jobs, self._stopped):
            count.files += 1
            found, problem = 0, None
            try:
                for frame, detections in self._frames(source, seen):
                    found += len(detections)
                    self._write(frame, detections)
                    on_frame(frame, detections)
            except InputError as error:
                problem = error
            count.faces += found
            count.failed += problem is not None
            count.no_face += problem is None and not found
            on_source(source, found, problem)
        return count

    def _stopped(self) -> bool:
        return bool(self._stop)

    def _create(self) -> Any:
        s = self._settings
        return create_detector(s.detector, s.device, s.faces, s.min_score, s.min_size)

    def _find(self, frame: Frame) -> list[Detection]:
        if not hasattr(self._local, "detector"):
            self._local.detector = self._create()
        s = self._settings
        found = self._local.detector.detect(frame.image)
        return select_faces(found, s.faces, (frame.height, frame.width))

    def _look(self, source: Source) -> Seen | InputError | None:
        """A photo, in a thread of its own; None for a video, whose frames come one by one."""
        if source.kind == "video":
            return None
        try:
            frame = load_frame(source, self._settings.max_pixels)
            return frame, self._find(frame)
        except InputError as error:
            return error

    def _frames(self, source: Source, seen: Seen | InputError | None) -> Iterator[Seen]:
        if isinstance(seen, InputError):
            raise seen
        if seen is not None:
            yield seen
            return
        s = self._settings
        for frame in iter_frames(
            source, start=s.start, end=s.end, step=s.step, max_pixels=s.max_pixels
        ):
            yield frame, self._find(frame)
            if self._stop:
                return

    def _write(self, frame: Frame, detections: list[Detection]) -> None:
        name = frame.name if frame.index is None else f"{frame.name}_frame{frame.index:06d}"
        if self._settings.crops is not None:
            for number, detection in enumerate(detections):
                picture = extract_crop(frame.image, crop_for_detection(detection), CROP_RESOLUTION)
                _save(self._settings.crops / f"{name}_face{number}.png", picture, CROP)
        if self._settings.overlay is not None:
            drawn = draw_detections(frame.image, detections)
            _save(self._settings.overlay / f"{name}.jpg", drawn, PICTURE)


def default_jobs() -> int:
    """Threads that suit this machine: more only wait for each other."""
    return min(max(os.cpu_count() or 2, 2), 4)


def _save(path: Path, image: Any, kind: str) -> None:
    if path.exists() and mark_of(path) is None:
        raise OutputError(
            f"{path} is there already and was not made by sadr: choose another folder for "
            f"{'--crops' if kind == CROP else '--overlay'}"
        )
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG" if path.suffix == ".jpg" else "PNG", quality=90)
    atomic_write(path, marked(buffer.getvalue(), kind))
