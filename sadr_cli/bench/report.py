"""Measurements as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """value in ``unit``; ratio: to the quantity in ``note``; aim: target of ratio or value."""

    group: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    aim: str = ""
    note: str = ""

    def cells(self) -> list[str]:
        digits = 0 if abs(self.value) >= 1000 else 1 if abs(self.value) >= 10 else 3
        ratio = "" if self.ratio is None else f"{self.ratio:.3f}"
        value = f"{self.value:,.{digits}f} {self.unit}"
        target = f"target: {self.aim}" if self.aim else ""
        return [self.group, self.what, value, ratio, "; ".join(filter(None, (self.note, target)))]


HEAD = ("", "What", "Measured", "Ratio", "")


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|--:|--:|---|"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines)
