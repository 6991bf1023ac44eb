"""Tables like those of the papers: plain data for the report page, lines for the screen."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

_NARROWEST = 20  # columns of a row's name


@dataclass
class Table:
    """Rows of text; the first cell of a row is its name.

    ours: indices of rows measured here; details: of rows shown only on request.
    note: below the table.
    """

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    ours: list[int] = field(default_factory=list)
    details: list[int] = field(default_factory=list)
    note: str = ""

    @property
    def marked(self) -> list[int]:
        """Rows to highlight: ours among others'; none where all are ours."""
        return self.ours if len(self.ours) < len(self.rows) else []

    def add(
        self, cells: list[Any], *, ours: bool = False, detail: bool = False, digits: int = 2
    ) -> None:
        if ours:
            self.ours.append(len(self.rows))
        if detail:
            self.details.append(len(self.rows))
        self.rows.append([_text(cell, digits) for cell in cells])


def screen_width() -> int:
    """Columns of the terminal; without one, enough for every row to stay on one line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def to_lines(table: Table, width: int, *, details: bool = True) -> Iterator[tuple[str, bool]]:
    """The table as lines of at most ``width`` columns, as far as its figures allow.

    Each line comes with whether to highlight it. details: include the rows that are details.
    """
    shown = [k for k in range(len(table.rows)) if details or k not in table.details]
    rows = [table.rows[k] for k in shown]
    # Headings of two words take two lines: a name and eight figures fit into 80 columns.
    heads = [[table.columns[0]], *(name.split(" ", 1) for name in table.columns[1:])]
    widths = [max(map(len, words)) for words in heads]
    for k in range(1, len(widths)):
        widths[k] = max(widths[k], *(len(row[k]) for row in rows))
    left = max(width - sum(w + 1 for w in widths[1:]), _NARROWEST)
    widths[0] = min(max(widths[0], *(len(row[0]) for row in rows)), left)

    def line(name: str, cells: list[str]) -> str:
        parts = [f" {cell:>{w}}" for cell, w in zip(cells, widths[1:], strict=True)]
        return (f"{name:<{widths[0]}}" + "".join(parts)).rstrip()

    yield from ((text, False) for text in wrap(table.title, width))
    if any(len(words) > 1 for words in heads):
        yield line("", [words[0] if len(words) > 1 else "" for words in heads[1:]]), False
    yield line(heads[0][0], [words[-1] for words in heads[1:]]), False
    yield "-" * (sum(widths) + len(widths) - 1), False
    for k, row in zip(shown, rows, strict=True):
        name, *more = wrap(row[0], widths[0]) or [""]
        for text in (line(name, row[1:]), *more):
            yield text, k in table.marked
    hidden = len(table.rows) - len(rows)
    note = [table.note, f"({hidden} more with -v, and in report.html.)" if hidden else ""]
    for text in wrap(" ".join(filter(None, note)), width):
        yield text, False
    yield "", False


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return value if isinstance(value, str) else f"{value:.{digits}f}"
