"""The record of an evaluation, and what a benchmark must say for one: its protocol."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from sadr_cli.documents import plain
from sadr_cli.evaluation.data.benchmark import Array, Benchmark
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures.compare import paired_difference
from sadr_cli.evaluation.measures.scoring import Scores
from sadr_cli.evaluation.report.charts import ced_chart
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.settings import Settings, Tools

SCHEMA = 1
B = TypeVar("B", bound=Benchmark)


class Cited(NamedTuple):
    """The figures of one sentence to cite, what they are, and how many faces were missed."""

    what: str
    figures: str
    missing: int


class Protocol(ABC, Generic[B]):
    """One benchmark: how it is measured, and how its report reads.

    name: what ``sadr evaluate NAME`` calls it.
    main: the error, a key of ``Scores.per_image``, that orders the faces of the page.
    measures: what tables and charts call the errors.
    drawn: errors with a curve in a report of one method; drawn_together: of several.
    refused: option of :class:`Settings` -> why it does not go with this benchmark.
    """

    name: ClassVar[str]
    main: ClassVar[str]
    measures: ClassVar[Mapping[str, str]]
    drawn: ClassVar[Sequence[str]]
    drawn_together: ClassVar[Sequence[str]]
    refused: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def run(self, settings: Settings, tools: Tools) -> Report[B]:
        """Truth, predictions and scores; nothing but caches is written."""

    def reads(self, folder: Path) -> bool:
        """Whether any ``folder`` can be measured by this protocol: ``sadr evaluate DIR``."""
        return False

    @abstractmethod
    def choices(self, entries: Sequence[Entry]) -> dict[str, str]:
        """What the figures are, for ``protocol`` of report.json."""

    @abstractmethod
    def tables(self, report: Report[B]) -> list[Table]:
        """The tables of this benchmark; those of every benchmark come behind them."""

    @abstractmethod
    def cited(self, results: dict[str, Any]) -> Cited:
        """The main figures of ``Scores.results`` in words."""

    def published(self, benchmark: B) -> dict[str, Any]:
        """Published figures for report.json."""
        return {}

    def columns(self, benchmark: B) -> dict[str, Sequence[Any]]:
        """Columns (N,) of per_image.csv between the names and the errors."""
        return {"group": benchmark.groups} if benchmark.groups else {}

    def caption(self, benchmark: B, index: int) -> str:
        """What stands below a face of the page, behind its name and error."""
        return ""

    def charts(self, report: Report[B]) -> list[str]:
        """SVG pictures of the errors."""
        several = len(report.entries) > 1
        curves: dict[str, Array] = {}
        for entry in report.entries:
            for key in self.drawn_together if several else self.drawn:
                if key in entry.scores.per_image:
                    name = self.measures[key]
                    label = f"{entry.label}, {name}" if several else name
                    curves[label] = entry.scores.per_image[key]
        return [ced_chart(curves)]

    def compare(self, benchmark: B, key: str, a: Array, b: Array, seed: int) -> dict[str, Any]:
        """Figures of ``b - a`` for the error ``key``, (N,) each."""
        return paired_difference(a, b, seed=seed)


@dataclass(frozen=True, eq=False)
class Entry:
    """One method on the benchmark."""

    label: str
    predictions: Predictions
    scores: Scores
    method: dict[str, Any] = field(default_factory=dict)

    @property
    def doubts(self) -> list[str]:
        """Sentences that say why the figures cannot be right."""
        return list(self.method.get("doubts", ()))


@dataclass(frozen=True, eq=False)
class Report(Generic[B]):
    """Everything a run of ``sadr evaluate`` knows.

    comparison: measure -> figures of ``measures.compare.paired_difference``.
    extras: further results by topic (synthetic occlusion). choices: those of this run.
    """

    protocol: Protocol[B]
    benchmark: B
    entries: tuple[Entry, ...]
    version: str
    comparison: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record of report.json (NaN as None)."""
        b = self.benchmark
        record = {
            "format": "sadr-evaluation",
            "schema": SCHEMA,
            "sadr": self.version,
            "benchmark": {
                "name": b.name,
                "folder": str(b.folder),
                "images": len(b),
                "points": int(b.landmarks.shape[1]),
                "dimensions": b.dimensions,
                "image list sha256": b.list_sha256,
                "truth sha256": b.truth_sha256,
                "excluded": b.excluded,
                "choices": b.choices,
            },
            "protocol": {**self.protocol.choices(self.entries), **self.choices},
            "to cite": [citation(self, entry) for entry in self.entries],
            "methods": [
                {
                    "label": entry.label,
                    **entry.method,
                    **entry.predictions.details,
                    "results": entry.scores.results,
                    "left out": entry.scores.left_out,
                    "missing": entry.predictions.reasons,
                    "predictions without an image": list(entry.predictions.extra),
                }
                for entry in self.entries
            ],
            "published": self.protocol.published(b),
        }
        if self.comparison:
            record["comparison"] = {
                "a": self.entries[0].label,
                "b": self.entries[1].label,
                "method": "b - a, paired bootstrap, 95 % percentile intervals",
                **self.comparison,
            }
        record.update(self.extras)
        cleaned: dict[str, Any] = plain(record)
        return cleaned

    def rows(self) -> tuple[list[str], list[list[Any]]]:
        """Header and rows of per_image.csv: one row an image, or a method and image."""
        several = len(self.entries) > 1
        about = self.protocol.columns(self.benchmark)
        errors = list(dict.fromkeys(key for e in self.entries for key in e.scores.per_image))
        header = ["name", *(["method"] if several else []), *about, *errors, "missing"]
        rows = []
        for entry in self.entries:
            for i, name in enumerate(self.benchmark.names):
                row: list[Any] = [name, entry.label] if several else [name]
                row += [column[i] for column in about.values()]
                for key in errors:
                    values = entry.scores.per_image.get(key)
                    row.append(math.nan if values is None else float(values[i]))
                rows.append([*row, entry.predictions.reasons.get(name, "")])
        return header, rows

    def records(self) -> Iterator[dict[str, Any]]:
        """JSON lines: each row, then the whole report."""
        header, rows = self.rows()
        for row in rows:
            yield {"type": "image", **dict(zip(header, row, strict=True))}
        yield {"type": "summary", **self.to_dict()}


def citation(report: Report[Any], entry: Entry) -> str:
    """One sentence with the main figures and everything that makes them comparable."""
    b = report.benchmark
    weights = entry.method.get("weights", {})
    by = f"sadr {report.version}, {entry.label}"
    for source in (weights.get("sha256"), entry.predictions.details.get("sha256")):
        by += f" (SHA-256 {source[:12]})" if source else ""
    images = f"{b.name}, {len(b)} images (list SHA-256 {b.list_sha256[:12]})"
    crop = entry.predictions.details.get("crop")
    crop = f", {crop} crop" if crop else ""
    what, figures, missing = report.protocol.cited(entry.scores.results)
    missed = f", {missing} faces missed and left out of the averages" if missing else ""
    doubtful = "".join(f" Doubtful: {text}." for text in entry.doubts)
    return f"{images}, {what}{crop}: {figures}{missed} ({by}).{doubtful}"
