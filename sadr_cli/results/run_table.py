"""A finished run as typed records, and as a pandas table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import MissingDataError, NothingToDoError, UsageError
from sadr_cli.expression import MEASURES
from sadr_cli.folder import open_file
from sadr_cli.pose import matrix_to_yxz
from sadr_cli.results import poses_csv
from sadr_cli.results.entry import Entry, FaceEntry
from sadr_cli.results.face_record import read_face_json
from sadr_cli.results.manifest import NAME, Damage, read_manifest
from sadr_cli.text import table_text

_TEXT = ("source", "name", "face", "warnings")  # columns that are not measured numbers
_SHOWN = 20  # faces shown in a notebook
_COLUMNS = ("name", "face", "confidence", "yaw", "pitch", "roll")


@dataclass(frozen=True)
class FaceResult:
    """One face of a finished run; unknown values are None.

    source: its photo or video as the user named it. name: stem of the photo's files. face: number
    of the face in the photo, or of its track. track: True for a face tracked through a video.
    confidence: in [0, 1]. yaw, pitch, roll: degrees, see ``Face.euler``. box: x0, y0, x1, y1 of the
    landmarks in pixels. warnings: limits of its reliability. json: the file of its record.
    files: format -> mesh or other file. numbers: the numbers of its row of ``poses.csv`` by column
    name; empty if the row is missing.
    """

    source: str
    name: str
    face: int
    track: bool
    confidence: float | None
    yaw: float | None
    pitch: float | None
    roll: float | None
    box: tuple[float, ...] | None
    warnings: tuple[str, ...]
    json: Path
    files: Mapping[str, Path]
    numbers: Mapping[str, float] = field(repr=False)

    @property
    def expression(self) -> dict[str, float]:
        """The measures of ``Face.expression``; empty for runs of versions without them."""
        return {k: self.numbers[k] for k in MEASURES if k in self.numbers}

    @property
    def euler_yxz(self) -> tuple[float, float, float] | None:
        """Yaw, pitch, roll in degrees as in ``Face.euler_yxz``, from the rotation matrix if
        ``poses.csv`` lacks these columns; None if the row is missing."""
        yxz, matrix = (
            [self.numbers[name] for name in names if name in self.numbers]
            for names in (poses_csv.YXZ, poses_csv.MATRIX)
        )
        if len(yxz) < 3 and len(matrix) == 9:
            yxz = matrix_to_yxz(np.reshape(matrix, (3, 3))).tolist()
        return (yxz[0], yxz[1], yxz[2]) if len(yxz) == 3 else None

    def record(self) -> dict[str, Any]:
        """The face's JSON document, see docs/export.md; InputError if it is missing or damaged."""
        return read_face_json(self.json, self.json.parent)

    def landmarks(self) -> NDArray[np.float64]:
        """(68, 3) in pixels of the photo, y down, 300-W order; InputError as :meth:`record`."""
        return np.array(self.record()["landmarks"]["points"], np.float64)


@dataclass(frozen=True)
class InputResult:
    """Result of one input: status (ok, no_face, failed or skipped) and its reason."""

    source: str
    status: str
    reason: str | None
    faces: int


@dataclass(frozen=True)
class Run(Sequence[FaceResult]):
    """A finished run: a sequence of its faces, in the order of the inputs.

    folder: its output folder. inputs: all inputs, also those without a face. damage: a sentence
    for each manifest entry that cannot be used.
    """

    folder: Path
    faces: tuple[FaceResult, ...] = field(repr=False)
    inputs: tuple[InputResult, ...] = field(repr=False)
    damage: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.faces)

    @overload
    def __getitem__(self, index: int) -> FaceResult: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[FaceResult, ...]: ...
    def __getitem__(self, index: int | slice) -> FaceResult | tuple[FaceResult, ...]:
        return self.faces[index]

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with one row per face: ``source``, ``name``, ``face``, ``track``,
        the columns of ``poses.csv``, ``warnings``, and the paths of ``json`` and each format.

        MissingDataError if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDataError(
                "a table needs pandas: pip install pandas; without it, iterate over the run"
            ) from error
        return pandas.DataFrame([_row(face) for face in self.faces])

    def _repr_html_(self) -> str:
        """The first faces as a table, for notebooks."""
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(getattr(f, k)))}</td>" for k in _COLUMNS) + "</tr>"
            for f in self.faces[:_SHOWN]
        )
        more = len(self.faces) - _SHOWN
        rest = f"<p>and {more} more</p>" if more > 0 else ""
        return (
            f"<p>{len(self.faces)} faces of {len(self.inputs)} inputs in "
            f"{escape(str(self.folder))}</p><table><tr>{head}</tr>{rows}</table>{rest}"
        )


def read_run(folder: str | os.PathLike[str]) -> Run:
    """A finished run of ``sadr reconstruct``, read from its folder.

    Only the manifest and ``poses.csv`` are read; each face reads its own files on demand.
    Raises UsageError if there is no such folder, NothingToDoError if it holds no run, and
    MissingDataError if the manifest is damaged or was written by another version.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"no run folder at {path}")
    if not os.path.lexists(path / NAME):
        raise NothingToDoError(f"{path} holds no run of sadr: {NAME} is missing")
    reader = read_manifest(path)
    numbers = _numbers(path)
    faces: list[FaceResult] = []
    inputs: list[InputResult] = []
    damage: list[str] = []
    for entry in reader:
        if isinstance(entry, Damage):
            damage.append(str(entry))
            continue
        inputs.append(InputResult(entry.source, entry.status, entry.reason, len(entry.faces)))
        faces += [_face(path, entry, face, numbers) for face in entry.faces]
    return Run(path, tuple(faces), tuple(inputs), tuple(damage))


def _face(
    folder: Path, entry: Entry, face: FaceEntry, numbers: Mapping[tuple[str, str], dict[str, float]]
) -> FaceResult:
    return FaceResult(
        source=entry.source,
        name=entry.name,
        face=face.face,
        track=face.span is not None,
        confidence=face.confidence,
        yaw=face.yaw,
        pitch=face.pitch,
        roll=face.roll,
        box=face.box,
        warnings=face.warnings,
        json=folder / face.json,
        files={kind: folder / name for kind, name in face.files.items()},
        numbers=numbers.get((table_text(entry.name), str(face.face)), {}),
    )


def _numbers(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """(name, face) as written in the table -> the numbers of the row."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    try:
        with open_file(folder / poses_csv.NAME, folder) as file:
            lines = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
            for row in csv.DictReader(lines):
                key = row.get("name") or "", row.get("face") or ""
                found[key] = dict(_measured(row))
    except (OSError, csv.Error):  # the manifest has the most important numbers
        return found
    return found


def _measured(row: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    for name, cell in row.items():
        if name is None or name in _TEXT or not isinstance(cell, str) or not cell:
            continue
        try:
            yield name, float(cell)
        except ValueError:
            continue


def _row(face: FaceResult) -> dict[str, Any]:
    about = {"source": face.source, "name": face.name, "face": face.face, "track": face.track}
    known = {"confidence": face.confidence, **dict(face.numbers)}
    paths = {"json": str(face.json), **{kind: str(path) for kind, path in face.files.items()}}
    return {**about, **known, "warnings": "; ".join(face.warnings), **paths}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
