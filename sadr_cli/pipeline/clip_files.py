"""The tables and the drawn video of a clip: they grow with its frames and are whole or absent."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.documents import rounded
from sadr_cli.faces import Face, Frame
from sadr_cli.files import Draft
from sadr_cli.pipeline.face_files import check_finite
from sadr_cli.pipeline.settings import RunSettings
from sadr_cli.render.overlay import render_overlay
from sadr_cli.results.entry import OVERLAYS
from sadr_cli.results.face_record import PHOTO_FRAME, POSE_CONVENTION, contour_numbers, face_numbers
from sadr_cli.results.poses_csv import COLUMNS, pose_row
from sadr_cli.uv import UVLayout
from sadr_cli.version import __version__
from sadr_cli.video.writer import VideoWriter

POSES, LANDMARKS = "_poses.csv", "_landmarks.jsonl"


def landmarks_head() -> dict[str, Any]:
    """The first of the JSON lines: how to read the others."""
    return {
        "format": "sadr-video-landmarks",
        "schema": 1,
        "version": __version__,
        "frame": PHOTO_FRAME,
        "landmarks": "300-W, 68 points: x, y, z",
        "pose": {k: POSE_CONVENTION[k] for k in ("angles", "yaw", "pitch", "roll")},
        "expression": "0 to 1, left and right are the person's own; see docs/expression.md",
        "time": "seconds",
    }


def landmarks_of(face: Face, frame: Frame, track: int, numbers: dict[str, Any]) -> dict[str, Any]:
    """A face of a frame as one of the JSON lines; ``numbers``: its ``face_numbers``."""
    return {
        "frame": frame.index,
        "time": None if frame.time is None else rounded(frame.time, 4),
        "track": track,
        "confidence": numbers["confidence"],
        **{k: numbers["pose"][k] for k in ("yaw", "pitch", "roll")},
        "expression": numbers["expression"],
        "landmarks": rounded(face.landmarks, 3),
        **contour_numbers(face),
        "visibility": rounded(face.landmark_visibility, 3),
    }


class ClipTables:
    """NAME_poses.csv and NAME_landmarks.jsonl: a line a face and frame."""

    def __init__(self, folder: Path, name: str) -> None:
        self._drafts: list[Draft] = []
        try:
            for end in (POSES, LANDMARKS):
                self._drafts.append(Draft(folder / f"{name}{end}"))
            self._begin()
        except BaseException:
            self.discard()
            raise

    def _begin(self) -> None:
        self._row("frame", "time_s", "track", *COLUMNS)
        self._line(landmarks_head())

    def add(self, face: Face, frame: Frame, track: int) -> None:
        """A face of a frame; ValueError when it is not finite, OutputError."""
        check_finite(face)
        numbers = face_numbers(face)
        record = {**numbers, "source": frame.source, "name": frame.name, "face": track}
        seconds = "" if frame.time is None else f"{frame.time:.4f}"
        self._row(frame.index, seconds, track, *pose_row(record))
        self._line(landmarks_of(face, frame, track, numbers))

    def finish(self) -> list[str]:
        """Put both in their places; returns their names."""
        for draft in self._drafts:
            draft.place()
        return [draft.path.name for draft in self._drafts]

    def discard(self) -> None:
        for draft in self._drafts:
            draft.discard()

    def _row(self, *cells: object) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._drafts[0].write(text.getvalue().encode())

    def _line(self, document: dict[str, object]) -> None:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
        self._drafts[1].write(text.encode() + b"\n")


class ClipDrawings:
    """overlays/NAME.mp4: drawn by threads, written in order."""

    def __init__(
        self,
        settings: RunSettings,
        name: str,
        rate: float,
        uv: UVLayout,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._draft = Draft(settings.out / OVERLAYS / f"{name}.mp4", root=settings.out)
        self.writer = VideoWriter(self._draft.temporary, rate)
        self._uv, self._pool, self._layers = uv, pool, settings.layers
        self._ahead = 2 * max(settings.jobs, 1)
        self._drawn: deque[tuple[Future[NDArray[np.uint8]], float]] = deque()

    def add(self, frame: Frame, faces: dict[int, Face]) -> None:
        """The next frame; faces by track."""
        labels = [f"track {number}" for number in faces]
        draw = partial(render_overlay, layers=self._layers, labels=labels)
        future = self._pool.submit(draw, frame.image, list(faces.values()), self._uv)
        self._drawn.append((future, frame.time or 0.0))
        while len(self._drawn) > self._ahead:
            self._write()

    def finish(self) -> list[str]:
        """Put the video in its place; returns its name, none when there was no frame."""
        while self._drawn:
            self._write()
        self.writer.close()
        if self.writer.codec is None:
            return []
        self._draft.place()
        return [f"{OVERLAYS}/{self._draft.path.name}"]

    def discard(self) -> None:
        self._drawn.clear()
        self._draft.discard()

    def _write(self) -> None:
        future, seconds = self._drawn.popleft()
        self.writer.write(future.result(), seconds)
