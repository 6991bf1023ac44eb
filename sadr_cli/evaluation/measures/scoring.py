"""Errors per face and the figures of tables that several benchmarks share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sadr_cli.evaluation.data.benchmark import Array
from sadr_cli.evaluation.measures import metrics

CED_THRESHOLD = 8.0  # percent


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one set of predictions.

    per_image: measure -> (N,), NaN for a missed face, in the order of the benchmark's names.
    results: the figures of report.json. left_out: measure -> why it is not available.
    """

    per_image: dict[str, Array]
    results: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)


def ced_figures(errors: Array) -> dict[str, float | int]:
    """Mean and median over found faces, AUC and failure rate over all, and the counts."""
    found = np.isfinite(errors)
    return {
        "mean": float(errors[found].mean()) if found.any() else float("nan"),
        "median": float(np.median(errors[found])) if found.any() else float("nan"),
        "auc": metrics.auc(errors, CED_THRESHOLD),
        "failure_rate": metrics.failure_rate(errors, CED_THRESHOLD),
        "threshold": CED_THRESHOLD,
        "count": int(found.sum()),
        "missing": int((~found).sum()),
    }


def by_yaw(errors: Array, yaw: Array) -> dict[str, Any]:
    """The summary of ``errors`` (N,) in bins of ``yaw`` (N,) degrees, NaN where unknown."""
    known = np.isfinite(yaw)  # a second yaw file need not cover every image
    return asdict(metrics.summarise(errors[known], yaw[known]))
