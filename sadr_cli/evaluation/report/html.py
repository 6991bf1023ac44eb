"""report.html: tables, curves and faces in one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from sadr_cli.errors import InputError
from sadr_cli.evaluation.data.benchmark import read_image
from sadr_cli.evaluation.report.pictures import PREDICTION, TRUTH, face_jpeg
from sadr_cli.evaluation.report.record import Entry, Report, citation
from sadr_cli.evaluation.report.tables import build
from sadr_cli.pages import render_page

WORST, MEDIAN = 10, 5
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Faces:
    """A heading and figures: (caption, JPEG in base64)."""

    title: str
    figures: list[tuple[str, str]]


def render(report: Report[Any]) -> str:
    """The page. Faces are read from the benchmark's images; unreadable ones are skipped."""
    b = report.benchmark
    page = render_page(
        _HERE / "page.html",
        title=f"{b.name}: {' and '.join(entry.label for entry in report.entries)}",
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        report=report,
        citations=[citation(report, entry) for entry in report.entries],
        tables=build(report),
        charts=[Markup(chart) for chart in report.protocol.charts(report)],
        faces=[faces for entry in report.entries for faces in _faces(report, entry)],
        colors={"truth": TRUTH, "prediction": PREDICTION},
        details=list(_details(report)),
    )
    return "".join(page)


def _faces(report: Report[Any], entry: Entry) -> Iterator[_Faces]:
    errors = entry.scores.per_image[report.protocol.main]
    order = np.argsort(np.where(np.isfinite(errors), errors, -np.inf), kind="stable")
    order = order[np.isfinite(errors[order])]
    middle = max(len(order) // 2 - MEDIAN // 2, 0)
    suffix = f", {entry.label}" if len(report.entries) > 1 else ""
    for name, chosen in (
        ("Worst faces", order[::-1][:WORST]),
        ("Median faces", order[middle : middle + MEDIAN]),
    ):
        figures = [f for i in chosen if (f := _figure(report, entry, int(i), float(errors[i])))]
        if figures:
            yield _Faces(name + suffix, figures)


def _figure(report: Report[Any], entry: Entry, index: int, error: float) -> tuple[str, str] | None:
    b = report.benchmark
    path = b.images[index]
    if path is None:
        return None
    try:
        image = read_image(path)
        data = face_jpeg(image, b.landmarks[index], entry.predictions.landmarks[index])
    except InputError:
        return None
    text = f"{b.names[index]}: {error:.2f} %{report.protocol.caption(b, index)}"
    return text, base64.b64encode(data).decode()


def _details(report: Report[Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Headings, each with its details: name -> text."""
    record = report.to_dict()
    yield "Protocol", _texts({**record["protocol"], **record["benchmark"]["choices"]})
    for method in record["methods"]:
        skip = ("results", "left out", "missing", "predictions without an image")
        about: dict[str, Any] = {k: v for k, v in method.items() if k not in skip}
        for key, reason in method["left out"].items():
            about[f"left out: {key}"] = reason
        yield method["label"], _texts(about)
        if method["missing"]:
            yield f"Without a face: {len(method['missing'])}", _texts(method["missing"])
    if excluded := record["benchmark"]["excluded"]:
        yield f"Left out: {len(excluded)} images", _texts(excluded)


def _texts(items: dict[str, Any]) -> dict[str, str]:
    return {str(k): _plain(v) for k, v in items.items() if v not in (None, "")}


def _plain(value: Any) -> str:
    """A value of report.json as text."""
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    return str(value)
