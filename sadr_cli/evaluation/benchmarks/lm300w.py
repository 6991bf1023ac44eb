"""300-W and any folder of images with ``.pts`` files: 68 points in 2-D, without pose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sadr_cli.evaluation.data import lm300w
from sadr_cli.evaluation.data.benchmark import Array, Benchmark, list_files
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.scoring import Scores, ced_figures
from sadr_cli.evaluation.photos import PhotoProtocol
from sadr_cli.evaluation.report.record import Cited, Entry, Report
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.report.tables import coverage
from sadr_cli.evaluation.settings import Settings
from sadr_cli.landmarks import INNER

CONTOUR = "_contour"  # suffix of the key of an error whose jaw lies on the visible outline
NORMALISERS = {
    "nme_box": metrics.box_size,
    "nme_inter_ocular": metrics.inter_ocular,
    "nme_inter_pupil": metrics.inter_pupil,
}
NAMES = {"nme_box": "box", "nme_inter_ocular": "inter-ocular", "nme_inter_pupil": "inter-pupil"}
MEASURES = {**NAMES, "nme_box_contour": "box, jaw on the contour"}
CONTOUR_CHOICE = (
    "measures ending in _contour: jaw points whose surface faces away are moved along it to the "
    "visible outline; the inner 51 are unchanged"
)
REFUSED = {
    "occlusion": "--occlusion needs 3-D landmarks (AFLW2000-3D): 300-W has none",
    "face_model": "--face-model needs the parameters of .mat files (AFLW2000-3D): 300-W has none",
}


class LM300W(PhotoProtocol[Benchmark]):
    """NME by three normalisers, of all 68 points and of the 51 without the jaw."""

    name = "300w"
    main = "nme_box"
    measures = MEASURES
    drawn = tuple(MEASURES)
    drawn_together = ("nme_box",)
    refused = REFUSED

    def reads(self, folder: Path) -> bool:
        return bool(list_files(folder, (".pts",), recursive=True))

    def load(self, folder: Path | None, settings: Settings) -> Benchmark:
        return lm300w.load(
            folder,
            origin=settings.pts_origin,
            allow_missing=settings.allow_missing,
            need_images=not settings.given,
        )

    def score(
        self, benchmark: Benchmark, predictions: Predictions, settings: Settings, **_: Any
    ) -> Scores:
        left_out = {"pose": "the truth has no pose"}
        sets = {"": predictions.landmarks}
        if settings.jaw == "contour" and predictions.landmarks_contour is not None:
            sets[CONTOUR] = predictions.landmarks_contour
        elif settings.jaw == "contour":
            left_out["jaw on the contour"] = "the predictions have no landmarks_contour"
        g = benchmark.landmarks[..., :2]
        per_image: dict[str, Array] = {}
        for key, normaliser in NORMALISERS.items():
            size = normaliser(g)
            for suffix, landmarks in sets.items():
                per_image[key + suffix] = metrics.nme(landmarks[..., :2], g, size)
            inner = predictions.landmarks[:, INNER, :2]
            per_image[f"{key}_inner51"] = metrics.nme(inner, g[:, INNER], size)
        groups = {"all": np.ones(len(benchmark), bool)}
        for name in sorted(set(benchmark.groups)):
            groups[name] = np.array([group == name for group in benchmark.groups])
        results = {
            key: {name: ced_figures(errors[which]) for name, which in groups.items()}
            for key, errors in per_image.items()
        }
        return Scores(per_image, results, left_out)

    def choices(self, entries: Sequence[Entry]) -> dict[str, str]:
        contour = any(f"nme_box{CONTOUR}" in e.scores.per_image for e in entries)
        return {
            "points": "68 landmarks, 300-W order, x and y; inner51: without the jaw (points "
            "1-17), which follows the visible contour in 300-W and the surface in a 3-D face",
            **({"contour": CONTOUR_CHOICE} if contour else {}),
            "nme_box": "mean point distance / sqrt(w h) of the box of the 68 true points, percent",
            "nme_inter_ocular": "over the distance of the outer eye corners (37, 46)",
            "nme_inter_pupil": "over the distance of the eyes' centres (means of 37-42 and 43-48)",
            "ced": "AUC and failure rate at 8 % over all images, a missed face is a failure",
            "missing": "faces not found are left out of the mean and counted separately",
        }

    def cited(self, results: dict[str, Any]) -> Cited:
        s = results["nme_box"]["all"]
        figures = (
            f"mean {s['mean']:.2f} %, AUC@8 % {s['auc']:.2f}, failures {s['failure_rate']:.2f} %"
        )
        what = "68 points, 2-D, NME over sqrt(w h) of the true points"
        if f"nme_box{CONTOUR}" in results:
            mean = results[f"nme_box{CONTOUR}"]["all"]["mean"]
            figures += f"; with the jaw on the visible contour mean {mean:.2f} %"
        return Cited(what, figures, s["missing"])

    def tables(self, report: Report[Benchmark]) -> list[Table]:
        title = "NME (%), 68 points in 2-D"
        return [
            _table(report, title, ""),
            _table(report, f"{title}, jaw on the visible contour", CONTOUR),
            _table(report, "NME (%), 51 points in 2-D, without the jaw", "_inner51"),
            coverage(report, "nme_box", "all"),
        ]


PROTOCOL = LM300W()


def _table(report: Report[Benchmark], title: str, suffix: str) -> Table:
    """The errors whose keys end in ``suffix``, by normaliser."""
    table = Table(
        title,
        ["method, normaliser", "mean", "median", "AUC@8 %", "failures %", "images", "missed"],
        note="Box: sqrt(w h) of the 68 true points.",
    )
    for entry in report.entries:
        for key, normaliser in NAMES.items():
            for group, s in entry.scores.results.get(key + suffix, {}).items():
                label = entry.label if group == "all" else f"{entry.label}, {group}"
                figures = [s[k] for k in ("mean", "median", "auc", "failure_rate")]
                counts = str(s["count"]), str(s["missing"])
                table.add([f"{label}, {normaliser}", *figures, *counts], ours=True)
    return table
