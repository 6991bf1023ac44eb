"""The scripts of ``benchmarks/`` as modules, and the tables they print."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import pytest
from shell import ROOT


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module


@pytest.fixture
def rows_of() -> Callable[[str], dict[str, list[str]]]:
    """First cell -> the other cells, of all rows of Markdown tables."""

    def rows_of(text: str) -> dict[str, list[str]]:
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
        return {cells[0]: cells[1:] for cells in rows}

    return rows_of
