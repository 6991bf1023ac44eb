"""What is kept of a session: the faces as JSON lines, the drawn pictures as a video."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.documents import compact, plain
from sadr_cli.errors import OutputError, UsageError
from sadr_cli.faces import Face, Frame
from sadr_cli.files import AppendFile, Draft, check_writable, make_folder
from sadr_cli.pipeline.clip_files import LANDMARKS, landmarks_head, landmarks_of
from sadr_cli.results.face_record import face_numbers
from sadr_cli.video.writer import VideoWriter

_RATE = 25.0  # frames a second where the source says nothing


def check_record(path: Path, overwrite: bool) -> None:
    """UsageError unless ``path`` can become a recording."""
    if path.suffix.lower() != ".mp4":
        raise UsageError(f"--record writes MP4: {path.name} should end in .mp4")
    _check_free(path, overwrite)


def lines_path(out: Path, name: str, overwrite: bool) -> Path:
    """Where the JSON lines of the source ``name`` go; UsageError when something is there."""
    path = out / f"{name}{LANDMARKS}"
    _check_free(path, overwrite)
    return path


def _check_free(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} is there already: choose another name, or give --overwrite")


class Recorder:
    """Writes what it is given; ``problem`` says why the video ended early, else None.

    video: path of the MP4, or None. lines: path of the JSON lines, or None; each is on the disk
    as soon as its frame is done. rate: frames a second of the source, or None. emit: also gets
    every line, as a record. Raises OutputError.
    """

    def __init__(
        self,
        video: Path | None,
        lines: Path | None,
        rate: float | None,
        emit: Callable[[dict[str, Any]], None],
    ) -> None:
        self._emit = emit
        self._draft: Draft | None = None
        self._lines: AppendFile | None = None
        emit(landmarks_head())
        if lines is not None:
            check_writable(lines.parent)
            self._lines = AppendFile(lines, [_line(landmarks_head())])
        if video is not None:
            make_folder(video.parent)
            self._draft = Draft(video)
            self._writer = VideoWriter(self._draft.temporary, rate or _RATE)

    def add(self, frame: Frame, faces: dict[int, Face]) -> None:
        """The faces of a frame, by track."""
        for track, face in faces.items():
            record = landmarks_of(face, frame, track, face_numbers(face))
            self._emit(record)
            if self._lines is not None:
                self._lines.append(_line(record))

    def show(self, picture: NDArray[np.uint8], seconds: float) -> None:
        """The frame as it was drawn."""
        if self._draft is not None:
            self._writer.write(picture, seconds)

    @property
    def draws(self) -> bool:
        """Whether it wants pictures."""
        return self._draft is not None

    @property
    def problem(self) -> str | None:
        return None if self._draft is None else self._writer.problem

    def close(self) -> None:
        """Put the video in its place."""
        if self._lines is not None:
            self._lines.close()
        if self._draft is None:
            return
        try:
            self._writer.close()
            if self._writer.codec is not None:
                self._draft.place()
        finally:
            self._draft.discard()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What was recorded is kept, whatever has ended it, but for a disk that cannot."""
        if kind is not None and issubclass(kind, OutputError):
            if self._draft is not None:
                self._draft.discard()
            if self._lines is not None:
                self._lines.close()
            return
        self.close()


def _line(record: dict[str, Any]) -> bytes:
    return compact(plain(record)) + b"\n"
