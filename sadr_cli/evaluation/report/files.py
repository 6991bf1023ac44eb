"""The files of a report: report.json, per_image.csv and report.html."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from sadr_cli.evaluation.report.html import render
from sadr_cli.evaluation.report.record import Report
from sadr_cli.files import atomic_write, make_folder
from sadr_cli.text import table_text


def write_files(report: Report[Any], out: Path) -> list[Path]:
    """report.json, per_image.csv and report.html in ``out``; returns them."""
    # All contents are made before the first file is written: a report is never incomplete.
    text = json.dumps(report.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
    header, rows = report.rows()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    contents = {
        "report.json": (text + "\n").encode("utf-8", "surrogateescape"),
        "per_image.csv": buffer.getvalue().encode("utf-8", "surrogateescape"),
        "report.html": render(report).encode("utf-8", "replace"),
    }
    make_folder(out)
    for name, content in contents.items():
        atomic_write(out / name, content)
    return [out / name for name in contents]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6f}" if math.isfinite(value) else ""
    return table_text(value) if isinstance(value, str) else value
