"""``sadr evaluate``: accuracy by the protocols of the papers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from sadr_cli.cli.command import complete
from sadr_cli.cli.options import (
    BatchSizeOption,
    DetectorOption,
    JawChoice,
    MessageOptions,
    NetworkOptions,
)
from sadr_cli.cli.parse import parse_batch_size
from sadr_cli.evaluation.benchmarks import NAMES


def _complete_target(incomplete: str) -> list[str]:
    """Benchmarks, and folders."""
    folders = [f"{p}/" for p in sorted(Path().glob(f"{incomplete}*")) if p.is_dir()]
    return [*complete(*NAMES)(incomplete), *folders]


Target = Annotated[
    str,
    typer.Argument(
        metavar="|".join([*NAMES, "DIR"]),
        help="A benchmark, or a folder of images with landmarks in .mat or .pts files.",
        autocompletion=_complete_target,
    ),
]


@dataclass(frozen=True)
class TruthOptions:
    """The ground truth and its images."""

    TITLE: ClassVar[str] = "Ground truth"

    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of the benchmark. Default: AFLW2000-3D, 300W or Florence in SADR_DATA.",
        ),
    ] = None
    pts_origin: Annotated[
        Literal[0, 1],
        typer.Option("--pts-origin", help="Coordinate of the first pixel's centre in .pts files."),
    ] = 0
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Skip and count images without usable ground truth, picture or prediction.",
        ),
    ] = False


@dataclass(frozen=True)
class MethodOptions:
    """What is evaluated: predictions, or the network and its crops."""

    TITLE: ClassVar[str] = "Method"

    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE|DIR",
            help="Evaluate these predictions instead of running the network: an npz with name, "
            "landmarks and optionally rotation and vertices, or a folder with the JSON files of "
            "`sadr reconstruct`.",
        ),
    ] = None
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Compare two sets of predictions, with paired bootstrap confidence intervals.",
        ),
    ] = None
    crop: Annotated[
        Literal["truth", "detector"],
        typer.Option(
            "--crop",
            help="Crop around the true landmarks (as in the paper) or around the detected face.",
        ),
    ] = "truth"
    detector: DetectorOption = "centerface"
    flip: Annotated[
        bool, typer.Option("--flip", help="Average with the mirrored crop, which doubles the time.")
    ] = False


@dataclass(frozen=True)
class MeasureOptions:
    """Metrics besides those of the 68 points."""

    TITLE: ClassVar[str] = "Metrics"

    face_model: Annotated[
        Path | None,
        typer.Option(
            "--face-model",
            metavar="FILE",
            help="Linear face model for the dense ground truth: npz, or BFM .mat with --bfm-uv.",
        ),
    ] = None
    bfm_uv: Annotated[
        Path | None,
        typer.Option("--bfm-uv", metavar="FILE", help="UV coordinates (.mat) of the BFM .mat."),
    ] = None
    align: Annotated[
        Literal["procrustes", "icp"],
        typer.Option(
            "--align",
            help="Alignment before the reconstruction error: similarity (the public code) or rigid "
            "ICP (the paper; needs open3d).",
        ),
    ] = "procrustes"
    y_flip: Annotated[
        Literal["height", "height-1", "height+1"],
        typer.Option(
            "--y-flip",
            help="Dense ground truth: image y = this - model y (as in SADRNet, in PRNet, in the 68 "
            "points).",
        ),
    ] = "height"
    jaw: Annotated[
        JawChoice,
        typer.Option(
            "--jaw",
            help="300-W: contour also evaluates jaw landmarks on the outline visible in the photo.",
        ),
    ] = "surface"
    occlusion: Annotated[
        bool,
        typer.Option(
            "--occlusion", help="Also evaluate attention and visibility with synthetic occluders."
        ),
    ] = False
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Random seed.")] = 0


def evaluate(
    target: Target,
    truth: TruthOptions,
    method: MethodOptions,
    measures: MeasureOptions,
    network: NetworkOptions,
    messages: MessageOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for reports and cache.")
    ] = Path("evaluation"),
    batch_size: BatchSizeOption = "auto",
) -> None:
    """Measure accuracy by the protocols of the papers.

    Prints tables and writes report.json, per_image.csv and report.html. An interrupted evaluation
    resumes where it stopped. With --json, print one JSON line per image and a final one with all
    figures; with -v, the tables have all rows.

    Example: sadr evaluate aflw2000 --data AFLW2000-3D --out evaluation
    """
    say = messages.open(results=True)
    batch = parse_batch_size(batch_size)

    from sadr_cli.evaluation.report.files import write_files
    from sadr_cli.evaluation.report.table import screen_width, to_lines
    from sadr_cli.evaluation.report.tables import build
    from sadr_cli.evaluation.run import Settings
    from sadr_cli.evaluation.run import evaluate as run_evaluation

    groups = {**asdict(truth), **asdict(method), **asdict(measures), **asdict(network)}
    settings = Settings(target=target, out=out, batch_size=batch, **groups)
    with say.progress("Evaluating") as bar:

        def follow(stage: str, done: int, total: int) -> None:
            bar.update(total=total, label=stage)
            bar.advance(done - bar.completed)

        report = run_evaluation(settings, follow)
    paths = write_files(report, out)
    for table in build(report):
        for line, marked in to_lines(table, screen_width(), details=messages.verbose > 0):
            say.result(line, "bold" if marked else "")
    for entry in report.entries:
        for doubt in entry.doubts:
            say.warn(f"{entry.label}: {doubt}")
        for key, reason in entry.scores.left_out.items():
            say.info(f"{entry.label}: no {key}: {reason}")
        if entry.predictions.extra:
            say.warn(f"{entry.label}: {len(entry.predictions.extra)} predictions match no image")
    say.info("wrote " + ", ".join(str(path) for path in paths))
    for record in report.records():
        say.emit(record)
