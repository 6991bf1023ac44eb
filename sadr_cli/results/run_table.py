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
from sadr_cli.results.entry import Entry, FaceEntry
from sadr_cli.results.face_record import read_face_json
from sadr_cli.results.manifest import NAME, SCHEMA, Damage, ManifestReader
from sadr_cli.text import table_text

_POSES = "poses.csv"
_TEXT = ("source", "name", "face", "warnings")  # columns that are no measured numbers
_SAFE = ("yaw_yxz_deg", "pitch_yxz_deg", "roll_yxz_deg")
_MATRIX = tuple(f"r{row}{column}" for row in range(3) for column in range(3))
_SHOWN = 20  # faces of a notebook's table
_COLUMNS = ("name", "face", "confidence", "yaw", "pitch", "roll")


@dataclass(frozen=True)
class FaceResult:
    """One face of a finished run.

    source: its photo or video as the user named it. name: stem of the photo's files. face: its
    number in the photo, or of its track. track: True for a face followed through a video.
    confidence: in [0, 1]. yaw, pitch, roll: degrees, see ``Face.euler``. box: x0, y0, x1, y1 of the
    landmarks in pixels. warnings: what to know before relying on it. json: the file of its record.
    files: format -> mesh or other file. numbers: every number of its row of ``poses.csv``, by the
    column's name; empty where the row is gone. What is not known is None.
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
        """The measures of ``Face.expression``; empty in runs of versions that had none."""
        return {k: self.numbers[k] for k in MEASURES if k in self.numbers}

    @property
    def euler_yxz(self) -> tuple[float, float, float] | None:
        """Yaw, pitch, roll in degrees that are safe at profiles, see ``Face.euler_yxz``; of runs
        whose ``poses.csv`` has no such columns, from its rotation. None where the row is gone."""
        for names in (_SAFE, _MATRIX):
            values = [self.numbers.get(name) for name in names]
            known = [value for value in values if value is not None]
            if len(known) == len(names):
                a, b, c = known if names is _SAFE else matrix_to_yxz(np.reshape(known, (3, 3)))
                return float(a), float(b), float(c)
        return None

    def record(self) -> dict[str, Any]:
        """The face's JSON document, see docs/export.md; InputError when it is gone or damaged."""
        return read_face_json(self.json, self.json.parent)

    def landmarks(self) -> NDArray[np.float64]:
        """(68, 3) in pixels of the photo, y down, 300-W order; InputError as :meth:`record`."""
        return np.array(self.record()["landmarks"]["points"], np.float64)


@dataclass(frozen=True)
class InputResult:
    """What became of one input: status ``ok``, ``no_face``, ``failed`` or ``skipped``, and why."""

    source: str
    status: str
    reason: str | None
    faces: int


@dataclass(frozen=True)
class Run(Sequence[FaceResult]):
    """A finished run: a sequence of its faces, in the order of the inputs.

    folder: where it is. inputs: all of them, also those without a face. damage: a sentence for
    each entry of the manifest that cannot be used.
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
        """A ``pandas.DataFrame``, one row a face: ``source``, ``name``, ``face``, ``track``,
        the columns of ``poses.csv`` under their names, ``warnings``, and ``json`` and the formats
        as paths.

        MissingDataError when pandas is not installed.
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

    Nothing but the manifest and ``poses.csv`` is read; faces read their own files when asked.
    Raises UsageError when there is no such folder, NothingToDoError when it holds no run, and
    MissingDataError when the manifest is damaged or of another version.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"no run folder at {path}")
    if not os.path.lexists(path / NAME):
        raise NothingToDoError(f"{path} holds no run of sadr: {NAME} is missing")
    try:
        reader = ManifestReader(path)
    except OSError as error:
        raise MissingDataError(f"{path / NAME} cannot be read: {error.strerror}") from error
    if reader.schema != SCHEMA:
        raise MissingDataError(
            f"{path} was written by another version of sadr (layout {reader.schema!r:.20}, this "
            f"one reads {SCHEMA}): reconstruct it again"
        )
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
    """(name, face) as the table has them -> the numbers of the row."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    try:
        with open_file(folder / _POSES, folder) as file:
            lines = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
            for row in csv.DictReader(lines):
                key = row.get("name") or "", row.get("face") or ""
                found[key] = dict(_measured(row))
    except (OSError, csv.Error):  # the manifest says the most important
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
