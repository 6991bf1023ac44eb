"""Every accuracy figure of a model card from one command, as Markdown on standard output.

    python benchmarks/evaluate.py --weights lite --face-model bfm_uv.npz --out runs/accuracy

Benchmarks are looked for in SADR_DATA (AFLW2000-3D, 300W, Florence) unless a folder is named;
missing ones are skipped. The reports of ``sadr evaluate`` are written below --out, and an
interrupted run continues. docs/evaluation.md defines the figures.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import script
from script import YAW_COLUMNS, head, row, yaw_cells

from sadr_cli.evaluation.benchmarks import florence
from sadr_cli.evaluation.data import aflw2000, lm300w
from sadr_cli.evaluation.measures.dense import Y_FLIPS
from sadr_cli.evaluation.report import published
from sadr_cli.evaluation.report.files import write_files
from sadr_cli.evaluation.report.record import Report, citation
from sadr_cli.evaluation.run import Settings, evaluate

# Row name -> key in the results; G is the final face, P the one before self-alignment.
ROWS = {
    "G, 2D 68": "nme_2d",
    "P, 2D 68": "nme_2d_p",
    "G, 3D 68": "nme_3d",
    "P, 3D 68": "nme_3d_p",
    "G, 2D 68, re-annotated truth": "nme_2d_reannotated",
    "P, 2D 68, re-annotated truth": "nme_2d_reannotated_p",
    "G, 2D dense": "dense_2d",
    "G, 3D dense": "dense_3d",
    "reconstruction": "reconstruction",
    "reconstruction of the mean template": "template",
}


def main(arguments: list[str] | None = None) -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--weights", help="checkpoint or name of installed weights")
    parser.add_argument("--aflw2000", type=Path, help="folder instead of SADR_DATA/AFLW2000-3D")
    parser.add_argument("--300w", dest="lm300w", type=Path, help="instead of SADR_DATA/300W")
    parser.add_argument("--florence", type=Path, help="scans, instead of SADR_DATA/Florence")
    parser.add_argument("--face-model", type=Path, help="npz for dense truth and reconstruction")
    parser.add_argument(
        "--y-flip", default="height", choices=Y_FLIPS, help="of the dense truth, see sadr evaluate"
    )
    parser.add_argument("--icp", action="store_true", help="also reconstruction after rigid ICP")
    parser.add_argument("--detector", default="centerface", help="of the detector's crop")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic occlusion")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    return script.run(parser, summary, arguments)


def summary(options: argparse.Namespace) -> Iterator[str]:
    """Lines of Markdown, each as soon as its runs are done."""
    common = Settings(
        "", weights=options.weights, device=options.device, detector=options.detector,
        face_model=options.face_model, y_flip=options.y_flip, seed=options.seed,
    )  # fmt: skip
    data = find(options.aflw2000, aflw2000.FOLDER)
    scenes = find(options.lm300w, lm300w.FOLDER)
    scans = find(options.florence, florence.FOLDER)
    if not (data or scenes or scans):
        raise SystemExit("no benchmark: set SADR_DATA, or name a folder (see --help)")
    if data:
        yield from _aflw2000(replace(common, target="aflw2000", data=data), options)
    if scenes:
        plain = replace(common, target="300w", data=scenes, face_model=None)
        truth = run(plain, options.out / "300w")
        found = run(replace(plain, crop="detector"), options.out / "300w_detector")
        yield from _300w([truth, found])
    if scans:
        plain = replace(common, target="florence", data=scans, face_model=None)
        yield from _florence(run(plain, options.out / "florence"))


def find(given: Path | None, name: str) -> Path | None:
    """The folder named, else that in SADR_DATA if it is there."""
    root = os.environ.get("SADR_DATA")
    if given is not None or not root:
        return given
    folder = Path(root) / name
    return folder if folder.is_dir() else None


def run(settings: Settings, out: Path) -> Report[Any]:
    """One ``sadr evaluate``, with its files in ``out``."""
    print(f"{settings.target}, {settings.crop} crop -> {out}", file=sys.stderr)
    settings = replace(settings, out=out)
    report = evaluate(settings)
    write_files(report, out)
    return report


def _aflw2000(settings: Settings, options: argparse.Namespace) -> Iterator[str]:
    out = options.out
    truth = run(replace(settings, occlusion=True), out / "aflw2000")
    found = run(replace(settings, crop="detector", face_model=None), out / "aflw2000_detector")
    icp = None
    if options.icp and settings.face_model is not None:
        # The same folder: the network's results are read back from its cache.
        icp = evaluate(replace(settings, align="icp", out=out / "aflw2000"))
        write_files(icp, out / "aflw2000_icp")
    results = [r.entries[0].scores.results for r in (truth, found)]
    missed = results[1]["nme_2d"]["fitted"]["missing"]
    yield f"### AFLW2000-3D, {len(truth.benchmark)} images: NME (%) by yaw\n"
    yield from head("", *YAW_COLUMNS)
    yield from _by_yaw(results[0], "truth crop")
    yield from _by_yaw(results[1], f"{options.detector} crop, {missed} missed")
    if icp:
        figures = icp.entries[0].scores.results["reconstruction"]
        yield row("reconstruction after rigid ICP, truth crop", *yaw_cells(figures["fitted"]))
    if "noise_floor" in results[0]:
        floor = results[0]["noise_floor"]["fitted"]
        yield row("noise floor: re-annotated against original truth", *yaw_cells(floor))
    for paper in published.ALIGNMENT:
        if paper.method == "SADRNet":
            cells = [paper.values.get(f"2d_{c}") for c in YAW_COLUMNS]
            yield row(f"SADRNet, 2D 68, as published, {published.AFLW2000_IMAGES} images", *cells)
    counts = results[0]["nme_2d"]["fitted"]["counts"]
    bins = ", ".join(f"{n} at {name}" for name, n in counts.items())
    yield f"\nBins by the yaw of Pose_Para: {bins}. Balanced: mean of the three bins."
    if "dense truth" in truth.choices:
        dense = f"{truth.choices['dense truth']}, image y = {options.y_flip} - y"
        yield f"Dense and reconstruction: {dense}."
    yield "\n### Head pose, mean absolute error (degrees)\n"
    columns = ("yaw", "pitch", "roll", "mean", "geodesic", "count", "excluded")
    yield from head("", *columns)
    for crop, r in zip(("truth crop", f"{options.detector} crop"), results, strict=True):
        for kind, name in (("plain", crop), ("fix", f"{crop}, fix")):
            yield row(name, *(r["pose"][kind][c] for c in columns))
    occlusion = truth.extras["occlusion"]
    yield "\n### Synthetic occlusion\n"
    yield from head("", "value")
    for name, value in occlusion["figures"].items():
        yield row(name, f"{value:.3f}")
    yield f"\n{occlusion['protocol']}\n"
    yield from _citations(truth, found)


def _by_yaw(results: dict[str, Any], crop: str) -> Iterator[str]:
    for name, key in ROWS.items():
        if key in results:
            yield row(f"{name}, {crop}", *yaw_cells(results[key]["fitted"]))


def _300w(reports: list[Report[Any]]) -> Iterator[str]:
    yield f"\n### 300-W, {len(reports[0].benchmark)} images: NME (%), 68 points in 2-D\n"
    columns = ("mean", "median", "auc", "failure_rate", "count", "missing")
    yield from head("", "mean", "median", "AUC@8 %", "failures %", "images", "missed")
    for report in reports:
        entry = report.entries[0]
        for key in ("nme_box", "nme_inter_ocular", "nme_inter_pupil"):
            s = entry.scores.results[key]["all"]
            name = key.removeprefix("nme_").replace("_", "-")
            crop = entry.predictions.details["crop"]
            yield row(f"{name}, {crop} crop", *(s[c] for c in columns))
    yield ""
    yield from _citations(*reports)


def _florence(report: Report[Any]) -> Iterator[str]:
    results = report.entries[0].scores.results["reconstruction"]
    yield f"\n### Scans, {len(report.benchmark)} views: reconstruction error (%)\n"
    yaws = results["by yaw"]
    yield from head("", *(f"yaw {name}" for name in yaws), "mean")
    every = [*yaws.values(), results["all"]["mean"]]
    yield row("all scans", *every)
    for name, value in results["by subject"].items():
        yield row(name, *([None] * len(yaws)), value)
    yield ""
    yield from _citations(report)


def _citations(*reports: Report[Any]) -> Iterator[str]:
    for report in reports:
        yield f"- {citation(report, report.entries[0])}"


if __name__ == "__main__":
    sys.exit(main())
