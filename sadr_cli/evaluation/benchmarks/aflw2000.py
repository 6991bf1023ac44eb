"""AFLW2000-3D and any folder in its layout, such as 300W-LP: NME by yaw, dense, pose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sadr_cli.evaluation.data import aflw2000
from sadr_cli.evaluation.data.benchmark import Array, PosedBenchmark, list_files
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.compare import paired_difference
from sadr_cli.evaluation.measures.dense import DenseTruth, dense_errors
from sadr_cli.evaluation.measures.metrics import BIN_NAMES
from sadr_cli.evaluation.measures.scoring import Scores, by_yaw, ced_figures
from sadr_cli.evaluation.photos import PhotoProtocol
from sadr_cli.evaluation.report import published
from sadr_cli.evaluation.report.record import Cited, Entry, PosedProtocol, Report
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.report.tables import coverage
from sadr_cli.evaluation.settings import Settings

CHOICES = {
    "points": "68 landmarks, 300-W order",
    "nme": "mean point distance / sqrt(w h), w and h the extents in x and y of the evaluated true "
    "points (Eq 25), percent",
    "nme 3d": "x, y, z after subtracting each side's mean z; the same normaliser",
    "bins": "|yaw| <= 30, <= 60, > 60 degrees; 'fitted': yaw of Pose_Para, 'new': the second "
    "yaw file of 3DDFA",
    "balanced": "plain mean of the three bin means",
    "mean": "over all images",
    "pose": "mean absolute difference of yaw (asin, within +-90), pitch, roll in degrees, no "
    "wrapping; images with a true angle beyond 99 degrees left out (Eq 26)",
    "pose fix": "also without images whose yaw error is < 5 and pitch or roll error > 20 degrees",
    "geodesic": "acos((trace(R1' R2) - 1) / 2) over the images of the plain pose error",
    "ced": "AUC and failure rate at 8 % over all images, a missed face is a failure",
    "missing": "faces not found are left out of the averages and counted separately",
    "P": "measures ending in _p are those of the network's pose-dependent face before "
    "self-alignment",
}
DENSE_CHOICES = {
    "dense": "all vertices of the UV layout, normaliser from the box of those true points",
    "reconstruction": "mean distance of corresponding vertices after alignment / 3-D outer-eye "
    "distance of the truth (landmarks 37 and 46), percent",
    "template": "the reconstruction error of the face model's mean for the same faces",
}
MEASURES = {
    "nme_2d": "2D 68",
    "nme_2d_p": "2D 68 of P",
    "nme_3d": "3D 68",
    "nme_3d_p": "3D 68 of P",
    "nme_2d_reannotated": "2D 68 re-annotated",
    "nme_2d_reannotated_p": "2D 68 of P re-annotated",
    "dense_2d": "2D dense",
    "dense_3d": "3D dense",
    "reconstruction": "reconstruction",
    "template": "mean template",
    "noise_floor": "noise floor",
}
REFUSED = {"jaw": "--jaw contour requires truth in 2-D (300-W): this truth is the surface's jaw"}
NOISE_FLOOR_NOTE = (
    "Noise floor: what the re-annotated truth itself scores against the original one. "
    "(fitted), (new): the yaw by which images are binned."
)
FACES = (("", ""), (", P", "_p"))  # suffixes of the method's label and of the measure's key
DENSE = ("dense_2d", "dense_3d", "reconstruction")
POSE_ERRORS = ("yaw_error", "pitch_error", "roll_error", "geodesic")


class AFLW2000(PosedProtocol, PhotoProtocol[PosedBenchmark]):
    """The paper's Tables I to III."""

    name = "aflw2000"
    main = "nme_2d"
    measures = MEASURES
    drawn = tuple(key for key in MEASURES if key not in ("nme_3d_p", "nme_2d_reannotated_p"))
    drawn_together = ("nme_2d", "nme_3d")
    refused = REFUSED

    def reads(self, folder: Path) -> bool:
        return bool(list_files(folder, (".mat",)))

    def load(self, folder: Path | None, settings: Settings) -> PosedBenchmark:
        return aflw2000.load(
            folder, allow_missing=settings.allow_missing, need_images=not settings.given
        )

    def score(
        self,
        benchmark: PosedBenchmark,
        predictions: Predictions,
        settings: Settings,
        *,
        dense_truth: DenseTruth | None = None,
        progress: Callable[[int], None] = lambda n: None,
    ) -> Scores:
        per_image = landmark_errors(benchmark, predictions.landmarks)
        if predictions.landmarks_p is not None:
            before = landmark_errors(benchmark, predictions.landmarks_p)
            per_image.update({f"{key}_p": errors for key, errors in before.items()})
        left_out = _left_out(benchmark, predictions, dense_truth)
        if dense_truth is not None and not set(DENSE) <= set(left_out):
            per_image.update(
                dense_errors(benchmark, predictions, dense_truth, settings.align, progress)
            )
        yaws = {"fitted": benchmark.angles[:, 0]}
        if benchmark.yaw_new is not None:
            yaws["new"] = benchmark.yaw_new
        results: dict[str, Any] = {
            key: {name: by_yaw(errors, yaw) for name, yaw in yaws.items()}
            for key, errors in per_image.items()
        }
        results["ced"] = {"nme_2d": ced_figures(per_image["nme_2d"])}
        if predictions.rotation is not None:
            rotation, angles = predictions.rotation, benchmark.angles
            results["pose"] = {
                name: asdict(metrics.pose_mae(rotation, angles, fix=name == "fix"))
                for name in ("plain", "fix")
            }
            per_image.update(_pose_errors(rotation, angles))
        if benchmark.reannotated is not None:
            floor = metrics.nme_2d(benchmark.reannotated, benchmark.landmarks)
            results["noise_floor"] = {name: by_yaw(floor, yaw) for name, yaw in yaws.items()}
            per_image["noise_floor"] = floor
        return Scores(per_image, results, left_out)

    def choices(self, entries: Sequence[Entry]) -> dict[str, str]:
        dense = any("reconstruction" in e.scores.per_image for e in entries)
        return {**CHOICES, **(DENSE_CHOICES if dense else {})}

    def cited(self, results: dict[str, Any]) -> Cited:
        s = results["nme_2d"]["fitted"]
        figures = " / ".join(f"{v:.2f}" for v in s["bins"].values())
        figures += f" %, balanced {s['balanced']:.2f}, mean {s['mean']:.2f}"
        what = "68 points, 2-D, NME over sqrt(w h) of the true points, original truth, fitted yaw"
        return Cited(what, figures, s["missing"])

    def published(self, benchmark: PosedBenchmark) -> dict[str, Any]:
        return published.records(published.ALL) if benchmark.name == self.name else {}

    def compare(
        self, benchmark: PosedBenchmark, key: str, a: Array, b: Array, seed: int
    ) -> dict[str, Any]:
        if key in POSE_ERRORS:
            included = metrics.pose_included(benchmark.angles)
            return paired_difference(a[included], b[included], seed=seed)
        return paired_difference(a, b, benchmark.angles[:, 0], seed=seed)

    def tables(self, report: Report[PosedBenchmark]) -> list[Table]:
        return [
            _alignment(report),
            _second_truth(report),
            _reconstruction(report),
            _pose(report),
            coverage(report, "ced", "nme_2d"),
        ]


PROTOCOL = AFLW2000()


def landmark_errors(benchmark: PosedBenchmark, landmarks: Array) -> dict[str, Array]:
    """NME of each face against each available truth; ``landmarks`` (N, 68, 2 or 3)."""
    truth = benchmark.landmarks
    out = {"nme_2d": metrics.nme_2d(landmarks, truth)}
    if landmarks.shape[-1] == 3:
        out["nme_3d"] = metrics.nme_3d(landmarks, truth)
    if benchmark.reannotated is not None:
        out["nme_2d_reannotated"] = metrics.nme_2d(landmarks, benchmark.reannotated)
    return out


def _left_out(
    benchmark: PosedBenchmark, predictions: Predictions, dense_truth: DenseTruth | None
) -> dict[str, str]:
    """Measure -> why truth and predictions do not allow it."""
    out: dict[str, str] = {}
    if predictions.landmarks.shape[-1] == 2:
        out["nme_3d"] = "the predictions have no depth"
    if benchmark.reannotated is None:
        out["nme_2d_reannotated"] = "no re-annotated truth beside the images"
    if benchmark.yaw_new is None:
        out["bins by the new yaw"] = "no new yaw file beside the images"
    if dense_truth is None:
        out.update(dict.fromkeys(DENSE, "no face model (--face-model)"))
    elif predictions.vertices is None and predictions.shape is None:
        out.update(dict.fromkeys(DENSE, "the predictions have no dense vertices"))
    elif predictions.vertices is None:
        reason = "the predictions have the shape only, no vertices in the image"
        out.update(dict.fromkeys(("dense_2d", "dense_3d"), reason))
    if predictions.rotation is None:
        out["pose"] = "the predictions have no rotation"
    return out


def _pose_errors(rotation: Array, angles: Array) -> dict[str, Array]:
    """Pose errors (N,) degrees; NaN where there is no prediction."""
    found = np.asarray(np.isfinite(rotation).all((1, 2)))
    safe = np.where(found[:, None, None], rotation, np.eye(3))
    errors = [*metrics.angle_errors(safe, angles).T, metrics.geodesic_errors(safe, angles)]
    return {k: np.where(found, e, np.nan) for k, e in zip(POSE_ERRORS, errors, strict=True)}


def _bins(s: dict[str, Any]) -> list[float]:
    return [*(s["bins"][name] for name in BIN_NAMES), s["balanced"], s["mean"]]


def _label(label: str, yaw: str, missing: int = 0) -> str:
    return f"{label} ({yaw}, {missing} missing)" if missing else f"{label} ({yaw})"


def _add_published(
    table: Table, report: Report[PosedBenchmark], rows: list[published.Row], keys: Sequence[str]
) -> list[str]:
    """Add published ``rows`` where the benchmark is the paper's own; returns their notes."""
    if report.benchmark.name != report.protocol.name:
        return []
    labels, sources = published.footnotes(rows)
    for label, row in zip(labels, rows, strict=True):
        table.add([label, *(row.values.get(key) for key in keys)])
    notes = [sources]
    if len(report.benchmark) != published.AFLW2000_IMAGES:
        notes.append(
            f"Published rows are over {published.AFLW2000_IMAGES} images, ours over "
            f"{len(report.benchmark)} of them: not comparable."
        )
    return notes


def _alignment(report: Report[PosedBenchmark]) -> Table:
    dense = any("dense_2d" in e.scores.results for e in report.entries)
    points = next(
        (str(e.predictions.vertices.shape[1]) for e in report.entries
         if e.predictions.vertices is not None), "45K",
    )  # fmt: skip
    table = Table(
        f"NME (%) on {report.benchmark.name}, {len(report.benchmark)} images "
        "(the paper's Table I)",
        ["method", *(f"2D {b}" for b in BIN_NAMES), "2D bal.", "2D mean", "3D mean",
         f"2D {points}" if dense else "2D dense", f"3D {points}" if dense else "3D dense"],
    )  # fmt: skip
    keys = published.TABLES["alignment"]
    notes = _add_published(table, report, published.ALIGNMENT, keys)
    for entry in report.entries:
        r = entry.scores.results
        for face, suffix in FACES:
            for yaw, two in r.get(f"nme_2d{suffix}", {}).items():
                cells = [_label(entry.label + face, yaw, two["missing"]), *_bins(two)]
                others = (f"nme_3d{suffix}", f"dense_2d{suffix}", f"dense_3d{suffix}")
                cells += [r.get(key, {}).get(yaw, {}).get("mean") for key in others]
                table.add(cells, ours=True, detail=yaw == "new")
    if any("nme_2d_p" in e.scores.results for e in report.entries):
        notes.append("P: the network's pose-dependent face, before self-alignment.")
    floor = report.entries[0].scores.results.get("noise_floor", {}).get("fitted")
    if floor:
        table.add(["noise floor (fitted)", *_bins(floor), None, None, None])
        notes.append(NOISE_FLOOR_NOTE)
    table.note = " ".join(notes)
    return table


def _second_truth(report: Report[PosedBenchmark]) -> Table:
    table = Table(
        "68 points: 3D by yaw, and 2D against the re-annotated truth (NME %)",
        ["method", *BIN_NAMES, "balanced", "mean"],
    )
    for entry in report.entries:
        for key, name in (("nme_3d", "3D"), ("nme_2d_reannotated", "2D re-annotated")):
            for face, suffix in FACES:
                for yaw, s in entry.scores.results.get(key + suffix, {}).items():
                    cells = [f"{entry.label}{face}, {name} ({yaw})", *_bins(s)]
                    table.add(cells, ours=True, detail=yaw == "new" or face != "")
    return table


def _reconstruction(report: Report[PosedBenchmark]) -> Table:
    table = Table(
        "Reconstruction error (%), over the 3-D outer-eye distance (the paper's Table II)",
        ["method", *BIN_NAMES, "balanced", "mean"],
    )
    measured = [e for e in report.entries if "reconstruction" in e.scores.results]
    if not measured:
        return table
    rows = [row for row in published.RECONSTRUCTION if "mean" in row.values]
    notes = _add_published(table, report, rows, (*BIN_NAMES, "balanced", "mean"))
    for entry in measured:
        for yaw, s in entry.scores.results["reconstruction"].items():
            table.add([_label(entry.label, yaw), *_bins(s)], ours=True, detail=yaw == "new")
    template = measured[0].scores.results.get("template", {}).get("fitted")
    if template:
        table.add(["mean template (fitted)", *_bins(template)])
    align = {"procrustes": "Procrustes (scale, too)", "icp": "rigid ICP"}
    how = align[report.choices["face model"]["align"]]
    table.note = " ".join([*notes, f"Ours after {how}; {report.choices['dense truth']}."])
    return table


def _pose(report: Report[PosedBenchmark]) -> Table:
    table = Table(
        "Head pose, mean absolute error in degrees (the paper's Table III)",
        ["method", "yaw", "pitch", "roll", "mean", "geodesic", "images", "left out"],
    )
    measured = [e for e in report.entries if "pose" in e.scores.results]
    if not measured:
        return table
    keys = (*published.TABLES["pose"], "geodesic", "images", "left out")
    notes = _add_published(table, report, published.POSE, keys)
    fix = (
        "fix: as in the paper, without faces whose yaw error is below 5 degrees while the pitch "
        "or roll error is above 20."
    )
    table.note = " ".join([*notes, fix])
    for entry in measured:
        for kind, name in (("plain", ""), ("fix", ", fix")):
            s = entry.scores.results["pose"][kind]
            figures = [s[k] for k in ("yaw", "pitch", "roll", "mean", "geodesic")]
            table.add(
                [entry.label + name, *figures, str(s["count"]), str(s["excluded"])], ours=True
            )
    return table
