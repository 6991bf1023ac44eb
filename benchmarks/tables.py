"""Markdown tables for the scripts beside this file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sadr_cli.evaluation.measures.metrics import BIN_NAMES

YAW_COLUMNS = [*BIN_NAMES, "balanced", "mean"]


def head(*columns: str) -> Iterator[str]:
    yield row(*columns)
    yield "|" + "---|" * len(columns)


def row(*cells: Any) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def yaw_cells(figures: dict[str, Any]) -> list[float]:
    """The figures by yaw, balanced and mean, of a result of ``sadr evaluate``."""
    return [*(figures["bins"][name] for name in BIN_NAMES), figures["balanced"], figures["mean"]]


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if math.isfinite(cell) else "-"
    return "-" if cell is None else str(cell)
