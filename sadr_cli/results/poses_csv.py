"""poses.csv: one row per face, appended as faces are finished, valid after any interruption.

Tables are opened in spreadsheets and shown in terminals. So text never starts a formula (``'`` is
put before a leading ``=``, ``+``, ``-`` or ``@``) and has no control characters (an escape becomes
``\\x1b``). The numbers are those of the face's record, from which a lost row can be restored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sadr_cli.expression import MEASURES
from sadr_cli.files import AppendFile, atomic_stream, output_error
from sadr_cli.folder import open_file
from sadr_cli.pose import matrix_to_yxz
from sadr_cli.results.entry import FaceEntry
from sadr_cli.text import FORMULA, table_text

NAME = "poses.csv"
_EULER = ("yaw_deg", "pitch_deg", "roll_deg")
MATRIX = tuple(f"r{row}{column}" for row in range(3) for column in range(3))
_BOX = ("box_x0_px", "box_y0_px", "box_x1_px", "box_y1_px")
YXZ = ("yaw_yxz_deg", "pitch_yxz_deg", "roll_yxz_deg")
# Names include the units. Angles as in sadr_cli.pose, rotation matrix by rows; translation in the
# photo with y up: photo x = tx, y = -ty. Expression measures are in [0, 1].
COLUMNS = [
    *("source", "name", "face", "confidence", "score"),
    *(*_EULER, "qw", "qx", "qy", "qz", *MATRIX),
    *("scale_px_per_unit", "px_per_mm", "tx_px", "ty_px", "tz_px"),
    *(*_BOX, "crop_x_px", "crop_y_px", "crop_size_px"),
    *("warnings", *MEASURES, "crop_angle_deg", *YXZ),
]

_BLOCK = 1 << 16  # bytes per write
_EXACT = ("face", "confidence", *_EULER, *_BOX)
_PLACES = [COLUMNS.index(name) for name in _EXACT]


def pose_row(record: Mapping[str, Any]) -> list[str]:
    """The cells of one face, in the order of :data:`COLUMNS`.

    record: of :func:`sadr_cli.results.face_record.face_json`, or :func:`face_numbers` with
    ``source``, ``name`` and ``face``. KeyError, TypeError or ValueError if it is damaged.
    """
    pose, crop, detection = record["pose"], record["crop"], record["detection"]
    (qw, qx, qy, qz), (x0, y0, x1, y1) = pose["quaternion_wxyz"], record["box"]
    (r0, r1, r2), (tx, ty, tz) = pose["rotation_matrix"], pose["translation"]
    return [
        table_text(record["source"]),
        table_text(record["name"]),
        str(int(record["face"])),
        _number(record["confidence"], 4),
        "" if detection is None else _number(detection["score"], 4),
        *(_number(pose[k], 4) for k in ("yaw", "pitch", "roll")),
        *(_number(v, 8) for v in (qw, qx, qy, qz, *r0, *r1, *r2)),
        _number(pose["scale"], 6),
        _number(pose["pixels_per_millimetre"], 6),
        *(_number(v, 4) for v in (tx, ty, tz)),
        *(_number(v, 3) for v in (x0, y0, x1, y1)),
        *(_number(crop[k], 4) for k in ("center_x", "center_y", "size")),
        table_text("; ".join(record["warnings"])),
        *(_number((record.get("expression") or {}).get(name), 4) for name in MEASURES),
        _number(crop.get("angle", 0.0), 4),
        *(_number(v, 4) for v in matrix_to_yxz(pose["rotation_matrix"])),
    ]


class _Rows(NamedTuple):
    """Position of a photo's rows in the file, and a hash of their values."""

    start: int
    size: int
    mark: int


class PosesCSV:
    """An append-only table of poses that can be resumed.

    Rows of an earlier run are kept if their name is in ``keep``; an incomplete last row is dropped.
    Only the positions of the rows are held in memory.
    """

    def __init__(self, path: Path, keep: Iterable[str] = ()) -> None:
        self.path = path
        self._rows: dict[str, _Rows] = {}
        self._whole = True  # the file holds exactly these rows, in this order
        self._file = AppendFile(path, self._begin(frozenset(keep)))

    def holds(self, name: str, faces: Sequence[FaceEntry]) -> bool:
        """Whether the rows of the photo ``name`` are exactly those of ``faces``."""
        found = self._rows.get(name)
        if found is None or not faces:
            return found is None and not faces
        return found.mark == hash(tuple(map(_cells, faces)))

    def append(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Add the rows of the photo ``name``, replacing older ones of that name."""
        if self._rows.pop(name, None) is not None:
            self._whole = False
        if rows:
            data = "".join(map(_line, rows)).encode()
            start = self._file.size
            self._file.append(data)
            self._rows[name] = _Rows(start, len(data), hash(tuple(map(_exact, rows))))

    def close(self, order: Iterable[str] = ()) -> None:
        """Finish, with the rows sorted by ``order``, a sequence of names."""
        names = dict.fromkeys(name for name in order if name in self._rows)
        names.update(dict.fromkeys(self._rows))
        if not self._whole or any(a != b for a, b in zip(names, self._rows, strict=True)):
            with atomic_stream(self.path) as file:
                file.write(_line(COLUMNS).encode())
                for name in names:
                    file.write(self._file.read(*self._rows[name][:2]))
        self._file.close()

    def __enter__(self) -> PosesCSV:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _begin(self, keep: frozenset[str]) -> Iterator[bytes]:
        """The header and the rows to keep, in blocks."""
        block, before = bytearray(_line(COLUMNS).encode()), 0
        for name, rows in _groups(_read_rows(self.path)):
            if name not in keep:
                continue
            if self._rows.pop(name, None) is not None:  # repeated by a killed run
                self._whole = False
            data = "".join(map(_line, rows)).encode("utf-8", "surrogateescape")
            mark = hash(tuple(map(_exact, rows)))
            self._rows[name] = _Rows(before + len(block), len(data), mark)
            block += data
            if len(block) > _BLOCK:
                yield bytes(block)
                before += len(block)
                block.clear()
        yield bytes(block)


def _read_rows(path: Path) -> Iterator[list[str]]:
    """Rows of an earlier run; none if the file is missing or has other columns."""
    try:
        file = open_file(path, path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise output_error(path, error) from error
    with file:
        # A killed run may have left an incomplete last line.
        lines = (b.decode("utf-8", "surrogateescape") for b in file if b.endswith(b"\n"))
        reader = csv.reader(lines)
        try:
            if next(reader, None) == COLUMNS:
                yield from (row for row in reader if len(row) == len(COLUMNS))
        except csv.Error:  # damaged from here on: missing rows are restored later
            return


def _groups(rows: Iterable[list[str]]) -> Iterator[tuple[str, list[list[str]]]]:
    """Name and rows of each photo; a repeated face starts a new group."""
    group: list[list[str]] = []
    faces: set[str] = set()
    for row in rows:
        if group and (row[1] != group[0][1] or row[2] in faces):
            yield _bare(group[0][1]), group
            group, faces = [], set()
        group.append(row)
        faces.add(row[2])
    if group:
        yield _bare(group[0][1]), group


def _cells(face: FaceEntry) -> tuple[str, ...]:
    """The cells of :data:`_EXACT` according to the manifest."""
    angles = (face.confidence, face.yaw, face.pitch, face.roll)
    box = face.box or (None,) * 4
    return str(face.face), *(_number(v, 4) for v in angles), *(_number(v, 3) for v in box)


def _exact(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[k] for k in _PLACES)


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{float(value):.{decimals}f}"


def _bare(cell: str) -> str:
    """The name from which :func:`table_text` made the cell."""
    return cell[1:] if cell.startswith(tuple("'" + c for c in FORMULA)) else cell


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
