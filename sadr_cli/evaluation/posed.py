"""What the reports of benchmarks with known head poses share: yaw in tables, charts, captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sadr_cli.evaluation.data.benchmark import PosedBenchmark
from sadr_cli.evaluation.measures.metrics import BIN_NAMES, yaw_bin
from sadr_cli.evaluation.report.charts import yaw_chart
from sadr_cli.evaluation.report.record import Protocol, Report


class PosedProtocol(Protocol[PosedBenchmark]):
    """A protocol whose faces have a true yaw."""

    def columns(self, benchmark: PosedBenchmark) -> dict[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = dict(
            zip(("yaw", "pitch", "roll"), benchmark.angles.T.tolist(), strict=True)
        )
        columns["bin"] = [_bin(yaw) for yaw in benchmark.angles[:, 0]]
        if benchmark.yaw_new is not None:
            columns["yaw_new"] = benchmark.yaw_new.tolist()
            columns["bin_new"] = [_bin(yaw) for yaw in benchmark.yaw_new]
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


def _bin(yaw: float) -> str:
    return BIN_NAMES[int(yaw_bin(yaw))] if math.isfinite(yaw) else ""
