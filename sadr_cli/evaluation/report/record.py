"""The report of a benchmark: one record with every figure and every choice, and its files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sadr_cli.evaluation.data.benchmark import Benchmark
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.scoring import Scores
from sadr_cli.evaluation.report import published

SCHEMA = 1

PROTOCOL_POSED = {
    "points": "68 landmarks, 300-W order",
    "nme": "mean point distance / sqrt(w h), w and h the extent in x and y of the evaluated true "
    "points themselves (Eq 25), percent",
    "nme 3d": "x, y, z after subtracting each side's mean z; the same normaliser",
    "bins": "|yaw| <= 30, <= 60, > 60 degrees; 'fitted': yaw of Pose_Para, 'new': the second "
    "yaw file of 3DDFA",
    "balanced": "plain mean of the three bin means",
    "mean": "over all images",
    "pose": "mean absolute difference of yaw (asin, within +-90), pitch, roll in degrees, no "
    "wrapping; images with a true angle beyond 99 degrees left out (Eq 26)",
    "pose fix": "also without images of yaw error < 5 and pitch or roll error > 20 degrees",
    "geodesic": "acos((trace(R1' R2) - 1) / 2) over the images of the plain pose error",
    "ced": "AUC and failure rate at 8 % over all images, a missed face is a failure",
    "missing": "faces not found are left out of the averages and counted beside them",
    "P": "measures ending in _p are those of the network's pose-dependent face before "
    "self-alignment",
}
PROTOCOL_DENSE = {
    "dense": "all vertices of the UV layout, normaliser from the box of those true points",
    "reconstruction": "mean distance of corresponding vertices after alignment / 3-D outer-eye "
    "distance of the truth (landmarks 37 and 46), percent",
    "template": "the reconstruction error of the face model's mean for the same faces",
}
PROTOCOL_CONTOUR = {
    "points": "68 landmarks, 300-W order, x and y; inner51: without the jaw (points 1-17), which "
    "in 300-W follows the visible contour and in a 3-D face the surface",
    "nme_box": "mean point distance / sqrt(w h) of the box of the 68 true points, percent",
    "nme_inter_ocular": "over the distance of the outer eye corners (37, 46)",
    "nme_inter_pupil": "over the distance of the eyes' centres (means of 37-42 and 43-48)",
    "ced": "AUC and failure rate at 8 % over all images, a missed face is a failure",
    "missing": "faces not found are left out of the mean and counted beside it",
}


@dataclass(frozen=True, eq=False)
class Entry:
    """One method on the benchmark."""

    label: str
    predictions: Predictions
    scores: Scores
    method: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Report:
    """Everything a run of ``sadr evaluate`` knows.

    comparison: measure -> figures of ``measures.compare.paired_difference``.
    extras: further results by topic (synthetic occlusion). protocol: choices of this run.
    main: the error that orders faces and draws the yaw chart; ``reconstruction`` for scans.
    """

    benchmark: Benchmark
    entries: tuple[Entry, ...]
    version: str
    comparison: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    main: str = "nme_2d"

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
            "protocol": {**self._protocol(), **self.protocol},
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
            "published": _published() if b.name in ("aflw2000", "florence") else {},
        }
        if self.comparison:
            record["comparison"] = {
                "a": self.entries[0].label,
                "b": self.entries[1].label,
                "method": "b - a, paired bootstrap, 95 % percentile intervals",
                **self.comparison,
            }
        record.update(self.extras)
        plain: dict[str, Any] = clean(record)
        return plain

    def _protocol(self) -> dict[str, str]:
        if self.main == "reconstruction":
            return {}
        if self.benchmark.angles is None:
            return PROTOCOL_CONTOUR
        dense = any("reconstruction" in e.scores.per_image for e in self.entries)
        return {**PROTOCOL_POSED, **(PROTOCOL_DENSE if dense else {})}

    def rows(self) -> tuple[list[str], list[list[Any]]]:
        """Header and rows of per_image.csv: one row an image, or a method and image."""
        b = self.benchmark
        columns: list[str] = []
        for entry in self.entries:
            columns += [key for key in entry.scores.per_image if key not in columns]
        header = ["name"] + (["method"] if len(self.entries) > 1 else [])
        if b.angles is not None:
            header += ["yaw", "pitch", "roll", "bin"]
        if b.yaw_new is not None:
            header += ["yaw_new", "bin_new"]
        if b.groups:
            header.append("group")
        header += [*columns, "missing"]
        rows = []
        for entry in self.entries:
            for i, name in enumerate(b.names):
                row: list[Any] = [name] + ([entry.label] if len(self.entries) > 1 else [])
                if b.angles is not None:
                    row += [float(v) for v in b.angles[i]] + [_bin(b.angles[i, 0])]
                if b.yaw_new is not None:
                    row += [float(b.yaw_new[i]), _bin(b.yaw_new[i])]
                if b.groups:
                    row.append(b.groups[i])
                for key in columns:
                    values = entry.scores.per_image.get(key)
                    row.append(math.nan if values is None else float(values[i]))
                rows.append([*row, entry.predictions.reasons.get(name, "")])
        return header, rows


def citation(report: Report, entry: Entry) -> str:
    """One sentence with the main figures and everything that makes them comparable."""
    b, results = report.benchmark, entry.scores.results
    weights = entry.method.get("weights", {})
    by = f"sadr {report.version}, {entry.label}"
    for source in (weights.get("sha256"), entry.predictions.details.get("sha256")):
        by += f" (SHA-256 {source[:12]})" if source else ""
    images = f"{b.name}, {len(b)} images (list SHA-256 {b.list_sha256[:12]})"
    crop = entry.predictions.details.get("crop")
    crop = f", {crop} crop" if crop else ""
    if report.main == "reconstruction":
        s = results["reconstruction"]["all"]
        what = "mean distance to the scan after rigid ICP over the 3-D outer-eye distance"
        figures = f"{s['mean']:.2f} %"
    elif b.angles is None:
        s = results["nme_box"]["all"]
        what = "68 points, 2-D, NME over sqrt(w h) of the true points"
        figures = (
            f"mean {s['mean']:.2f} %, AUC@8 % {s['auc']:.2f}, failures {s['failure_rate']:.2f} %"
        )
    else:
        s = results["nme_2d"]["fitted"]
        what = "68 points, 2-D, NME over sqrt(w h) of the true points, original truth, fitted yaw"
        figures = " / ".join(f"{v:.2f}" for v in s["bins"].values())
        figures += f" %, balanced {s['balanced']:.2f}, mean {s['mean']:.2f}"
    missed = f", {s['missing']} faces missed and left out of the averages" if s["missing"] else ""
    return f"{images}, {what}{crop}: {figures}{missed} ({by})."


def clean(value: Any) -> Any:
    """Plain JSON types; NaN and infinity, which JSON lacks, as None."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return clean(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | bool) or value is None else str(value)


def _published() -> dict[str, Any]:
    tables = {
        "alignment": published.ALIGNMENT,
        "reconstruction": published.RECONSTRUCTION,
        "pose": published.POSE,
    }
    return {
        name: [{"method": r.method, "source": r.source, **r.values} for r in rows]
        for name, rows in tables.items()
    }


def _bin(yaw: float) -> str:
    return metrics.BIN_NAMES[int(metrics.yaw_bin(yaw))] if math.isfinite(yaw) else ""
