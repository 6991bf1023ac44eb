"""The record of an evaluation, and the interface of a benchmark: its protocol."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from sadr_cli.documents import plain
from sadr_cli.evaluation.data.benchmark import Array, Benchmark, PosedBenchmark
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures.compare import paired_difference
from sadr_cli.evaluation.measures.metrics import BIN_NAMES, yaw_bin
from sadr_cli.evaluation.measures.scoring import Scores
from sadr_cli.evaluation.report.charts import ced_chart, yaw_chart
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.settings import Settings, Tools

SCHEMA = 1
B = TypeVar("B", bound=Benchmark)


class Cited(NamedTuple):
    """The parts of a citation: what was measured, the figures, the number of missed faces."""

    what: str
    figures: str
    missing: int


class Protocol(ABC, Generic[B]):
    """One benchmark: how it is measured and reported.

    name: its name in ``sadr evaluate NAME``.
    main: the error, a key of ``Scores.per_image``, by which the faces of the page are sorted.
    measures: error -> its name in tables and charts.
    drawn: errors drawn as curves in a report of one method; drawn_together: of several.
    refused: option of :class:`Settings` -> why this benchmark does not support it.
    """

    name: ClassVar[str]
    main: ClassVar[str]
    measures: ClassVar[Mapping[str, str]]
    drawn: ClassVar[Sequence[str]]
    drawn_together: ClassVar[Sequence[str]]
    refused: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def run(self, settings: Settings, tools: Tools) -> Report[B]:
        """Truth, predictions and scores; writes nothing but caches."""

    def reads(self, folder: Path) -> bool:
        """Whether this protocol fits the files in ``folder``: ``sadr evaluate DIR``."""
        return False

    @abstractmethod
    def choices(self, entries: Sequence[Entry]) -> dict[str, str]:
        """How the figures are defined, for ``protocol`` of report.json."""

    @abstractmethod
    def tables(self, report: Report[B]) -> list[Table]:
        """The tables of this benchmark; those common to all are appended to them."""

    @abstractmethod
    def cited(self, results: dict[str, Any]) -> Cited:
        """The main figures of ``Scores.results``, for a citation."""

    def published(self, benchmark: B) -> dict[str, Any]:
        """Published figures for report.json."""
        return {}

    def columns(self, benchmark: B) -> dict[str, Sequence[Any]]:
        """Columns (N,) of per_image.csv between the names and the errors."""
        return {"group": benchmark.groups} if benchmark.groups else {}

    def caption(self, benchmark: B, index: int) -> str:
        """Text after the name and error of a face on the page."""
        return ""

    def charts(self, report: Report[B]) -> list[str]:
        """SVG charts of the errors."""
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


class PosedProtocol(Protocol[PosedBenchmark]):
    """A protocol whose faces have a known head pose: yaw in columns, captions and charts."""

    def columns(self, benchmark: PosedBenchmark) -> dict[str, Sequence[Any]]:
        angles = zip(("yaw", "pitch", "roll"), benchmark.angles.T.tolist(), strict=True)
        columns: dict[str, Sequence[Any]] = dict(angles)
        columns["bin"] = _bins(benchmark.angles[:, 0])
        if benchmark.yaw_new is not None:
            columns["yaw_new"] = benchmark.yaw_new.tolist()
            columns["bin_new"] = _bins(benchmark.yaw_new)
        return {**columns, **super().columns(benchmark)}

    def caption(self, benchmark: PosedBenchmark, index: int) -> str:
        return f", yaw {benchmark.angles[index, 0]:.0f}°"

    def charts(self, report: Report[PosedBenchmark]) -> list[str]:
        name = self.measures[self.main]
        several = len(report.entries) > 1
        errors = {
            (e.label if several else name): e.scores.per_image[self.main] for e in report.entries
        }
        by_yaw = yaw_chart(errors, report.benchmark.angles[:, 0], f"{name} (%)")
        return [*super().charts(report), by_yaw]


def _bins(yaws: Array) -> list[str]:
    """The name of the bin of each yaw (N,); empty for NaN."""
    return [BIN_NAMES[yaw_bin(yaw)] if math.isfinite(yaw) else "" for yaw in yaws]


@dataclass(frozen=True, eq=False)
class Entry:
    """One method on the benchmark."""

    label: str
    predictions: Predictions
    scores: Scores
    method: dict[str, Any] = field(default_factory=dict)

    @property
    def doubts(self) -> list[str]:
        """Reasons why the predictions seem to be in another frame."""
        return list(self.method.get("doubts", ()))


@dataclass(frozen=True, eq=False)
class Report(Generic[B]):
    """The complete result of one ``sadr evaluate``.

    comparison: measure -> figures of ``measures.compare.paired_difference``.
    extras: further results by topic (synthetic occlusion). choices: protocol choices of this run.
    """

    protocol: Protocol[B]
    benchmark: B
    entries: tuple[Entry, ...]
    version: str
    comparison: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json (NaN as None)."""
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
        """Header and rows of per_image.csv: one row per image, or per method and image."""
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
        """JSON records: one per row, then the whole report."""
        header, rows = self.rows()
        for row in rows:
            yield {"type": "image", **dict(zip(header, row, strict=True))}
        yield {"type": "summary", **self.to_dict()}


def citation(report: Report[Any], entry: Entry) -> str:
    """One sentence with the main figures and what is needed to compare them."""
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
