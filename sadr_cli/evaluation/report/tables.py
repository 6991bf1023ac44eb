"""The tables common to all reports; those of a benchmark come from its protocol."""

from __future__ import annotations

import math
from typing import Any

from sadr_cli.evaluation.measures.metrics import BIN_NAMES
from sadr_cli.evaluation.report.record import Report
from sadr_cli.evaluation.report.table import Table


def build(report: Report[Any]) -> list[Table]:
    """All tables of a report."""
    tables = report.protocol.tables(report)
    if report.comparison:
        tables.append(_comparison(report))
    if "occlusion" in report.extras:
        tables.append(occlusion_table(report.extras["occlusion"]))
    return [table for table in tables if table.rows]


def coverage(report: Report[Any], *path: str) -> Table:
    """The numbers of images behind the figures; path: keys of the CED figures in the results."""
    table = Table("Images", ["method", "evaluated", "no face", "left out", "AUC@8 %", "failures %"])
    excluded = len(report.benchmark.excluded)
    for entry in report.entries:
        s: Any = entry.scores.results
        for key in path:
            s = s[key]
        cells = [str(s["count"]), str(s["missing"]), str(excluded), s["auc"], s["failure_rate"]]
        table.add([entry.label, *cells], ours=True)
    return table


def occlusion_table(results: dict[str, Any]) -> Table:
    """Visibility and attention on synthetic occlusion."""
    table = Table("Synthetic occlusion: attention and visibility", ["measure", "value"])
    for name, value in results["figures"].items():
        table.add([name, value], ours=True, digits=3)
    table.note = results["protocol"]
    return table


def _comparison(report: Report[Any]) -> Table:
    a, b = (entry.label for entry in report.entries)
    table = Table(
        f"{b} minus {a}, paired bootstrap (95 % intervals)",
        ["measure", a, b, "difference", "low", "high", "p", "images"],
    )
    for key, figures in report.comparison.items():
        for part in (*BIN_NAMES, "balanced", "mean"):
            s = figures.get(part)
            if s is not None:
                values = [s[k] for k in ("a", "b", "difference", "low", "high")]
                p = "-" if math.isnan(s["p"]) else f"{s['p']:.4f}"
                name = report.protocol.measures.get(key, key.replace("_", " "))
                table.add([f"{name}, {part}", *values, p, str(s["count"])], digits=3)
    return table
