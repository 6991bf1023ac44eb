"""poses.csv: one row per face, appended as faces are finished, valid after any interruption."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from sadr_cli.faces import Face
from sadr_cli.files import atomic_write, output_error
from sadr_cli.uv import MM_PER_UNIT

# Units are part of the names. Angles as in sadr_cli.pose; r00..r22 by rows; t in the photo
# turned y up: photo x = tx, y = -ty.
COLUMNS = [
    "source",
    "name",
    "face",
    "confidence",
    "score",
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "qw",
    "qx",
    "qy",
    "qz",
    "r00",
    "r01",
    "r02",
    "r10",
    "r11",
    "r12",
    "r20",
    "r21",
    "r22",
    "scale_px_per_unit",
    "px_per_mm",
    "tx_px",
    "ty_px",
    "tz_px",
    "box_x0_px",
    "box_y0_px",
    "box_x1_px",
    "box_y1_px",
    "crop_x_px",
    "crop_y_px",
    "crop_size_px",
    "warnings",
]


def pose_row(face: Face, source: str, name: str, index: int) -> list[str]:
    """The cells of one face, in the order of :data:`COLUMNS`."""
    score = "" if face.detection is None else f"{face.detection.score:.4f}"
    crop = (face.crop.center_x, face.crop.center_y, face.crop.size)
    return [
        source,
        name,
        str(index),
        f"{face.confidence:.4f}",
        score,
        *(f"{a:.4f}" for a in face.euler),
        *(f"{q:.8f}" for q in face.quaternion),
        *(f"{r:.8f}" for r in face.rotation.ravel()),
        f"{face.scale:.6f}",
        f"{face.scale / MM_PER_UNIT:.6f}",
        *(f"{t:.4f}" for t in face.translation),
        *(f"{b:.3f}" for b in face.box),
        *(f"{c:.4f}" for c in crop),
        "; ".join(face.warnings),
    ]


class PosesCSV:
    """An append-only table of poses that can be resumed.

    Rows that an earlier run left are kept when their name is in ``keep``; a row that a killed
    run left torn is dropped. :meth:`close` puts the rows into the order of ``order``.
    """

    def __init__(self, path: Path, keep: Iterable[str] = ()) -> None:
        self.path = path
        self._rows: dict[str, list[str]] = {}
        keep = set(keep)
        for row in read_rows(path):
            if row[1] in keep:
                self._rows.setdefault(row[1], []).append(_line(row))
        self._in_order = not self._rows
        self._write_all(self._rows)
        self._file = self._open()

    def append(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Add the rows of the photo ``name``, replacing older ones of that name."""
        if self._rows.pop(name, None) is not None:
            self._in_order = False
        if not rows:
            return
        lines = self._rows[name] = [_line(row) for row in rows]
        try:
            self._file.write("".join(lines).encode("utf-8", "surrogateescape"))
            self._file.flush()
        except OSError as error:
            raise output_error(self.path, error) from error

    def close(self, order: Iterable[str] = ()) -> None:
        """Finish; ``order``: names in the order wanted, unless the rows have it already."""
        try:
            self._file.close()
        except OSError as error:
            raise output_error(self.path, error) from error
        names = [n for n in order if n in self._rows]
        if not self._in_order or names != list(self._rows):
            rest = [n for n in self._rows if n not in set(names)]
            self._write_all({n: self._rows[n] for n in [*names, *rest]})

    def __enter__(self) -> PosesCSV:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self._file.close()

    def _open(self) -> io.BufferedWriter:
        try:
            return self.path.open("ab")
        except OSError as error:
            raise output_error(self.path, error) from error

    def _write_all(self, rows: dict[str, list[str]]) -> None:
        lines = [_line(COLUMNS), *(line for group in rows.values() for line in group)]
        atomic_write(self.path, "".join(lines).encode("utf-8", "surrogateescape"))


def read_rows(path: Path) -> list[list[str]]:
    """Rows of an earlier run; none when there is no such file or its columns are others."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise output_error(path, error) from error
    if not text.endswith("\n"):  # torn by a kill
        text = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows or rows[0] != COLUMNS:
        return []
    return [row for row in rows[1:] if len(row) == len(COLUMNS)]


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
