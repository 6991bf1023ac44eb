"""Tables shaped like the papers': plain data for the report page, rich tables for the screen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass
class Table:
    """Rows of text. ``ours``: indices of rows measured here. ``note``: below the table."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    ours: list[int] = field(default_factory=list)
    note: str = ""

    @property
    def marked(self) -> list[int]:
        """Rows to stand out: ours among others'; none where all are ours."""
        return self.ours if len(self.ours) < len(self.rows) else []

    def add(self, cells: list[Any], ours: bool = False, digits: int = 2) -> None:
        if ours:
            self.ours.append(len(self.rows))
        self.rows.append([_text(cell, digits) for cell in cells])


def to_rich(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as Rich
    from rich.text import Text

    out = Rich(
        title=Text(table.title, "bold"),
        caption=Text(table.note, "dim") if table.note else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for k, name in enumerate(table.columns):
        # Two short lines instead of one wide one: eight figures fit beside a name in 80 columns.
        header = Text(name if k == 0 else name.replace(" ", "\n"))
        if k == 0:
            out.add_column(header, justify="left", min_width=20, overflow="fold")
        else:
            out.add_column(header, justify="right", no_wrap=True)
    for k, row in enumerate(table.rows):
        out.add_row(*(Text(cell) for cell in row), style="bold" if k in table.marked else None)
    return out


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return value if isinstance(value, str) else f"{value:.{digits}f}"
