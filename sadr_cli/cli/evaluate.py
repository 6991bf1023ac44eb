"""``sadr evaluate``: the papers' protocols, reproducible and citable."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from sadr_cli.cli.options import (
    BatchSizeOption,
    DetectorOption,
    MessageOptions,
    NetworkOptions,
    SeedOption,
    complete,
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
        help="A benchmark, or a folder of images with .mat or .pts landmarks beside them.",
        show_default=False,
        autocompletion=_complete_target,
    ),
]


@dataclass(frozen=True)
class TruthOptions:
    """What is true, and of which images."""

    TITLE: ClassVar[str] = "Truth"

    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The benchmark's folder; else SADR_DATA/AFLW2000-3D, /300W or /Florence.",
            show_default=False,
        ),
    ] = None
    pts_origin: Annotated[
        int,
        typer.Option(
            "--pts-origin",
            metavar="0|1",
            help="What .pts files call the first pixel's centre.",
            autocompletion=complete("0", "1"),
        ),
    ] = 0
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out images without usable truth, picture or prediction, and count them.",
        ),
    ] = False


@dataclass(frozen=True)
class MethodOptions:
    """What is measured: predictions, or the network with its crops."""

    TITLE: ClassVar[str] = "Method"

    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE|DIR",
            help="Score these instead of running the network: an npz with name, landmarks and "
            "optional rotation, vertices; or a landmark JSON folder of sadr reconstruct.",
            show_default=False,
        ),
    ] = None
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Two prediction sets side by side, with paired bootstrap intervals.",
            show_default=False,
        ),
    ] = None
    crop: Annotated[
        str,
        typer.Option(
            "--crop",
            metavar="truth|detector",
            help="Crop around the true landmarks (the paper) or around what a detector finds.",
            autocompletion=complete("truth", "detector"),
        ),
    ] = "truth"
    detector: DetectorOption = "centerface"
    flip: Annotated[
        bool, typer.Option("--flip", help="Mean with the mirrored crop: twice the work.")
    ] = False


@dataclass(frozen=True)
class MeasureOptions:
    """Measures beyond those of the 68 points."""

    TITLE: ClassVar[str] = "Measures"

    face_model: Annotated[
        Path | None,
        typer.Option(
            "--face-model",
            metavar="FILE",
            help="Linear face model for the dense truth: npz, or BFM .mat with --bfm-uv.",
            show_default=False,
        ),
    ] = None
    bfm_uv: Annotated[
        Path | None,
        typer.Option(
            "--bfm-uv", metavar="FILE", help="UV .mat of the BFM .mat.", show_default=False
        ),
    ] = None
    align: Annotated[
        str,
        typer.Option(
            "--align",
            metavar="procrustes|icp",
            help="Before the reconstruction error: the public code's similarity, or the paper's "
            "rigid ICP (needs open3d).",
            autocompletion=complete("procrustes", "icp"),
        ),
    ] = "procrustes"
    y_flip: Annotated[
        str,
        typer.Option(
            "--y-flip",
            metavar="height|height-1|height+1",
            help="Dense truth: image y = this - model y (SADRNet, PRNet, the 68 points).",
            autocompletion=complete("height", "height-1", "height+1"),
        ),
    ] = "height"
    jaw: Annotated[
        str,
        typer.Option(
            "--jaw",
            metavar="surface|contour",
            help="300-W: contour also scores the jaw on the outline that the picture shows.",
            autocompletion=complete("surface", "contour"),
        ),
    ] = "surface"
    occlusion: Annotated[
        bool,
        typer.Option(
            "--occlusion", help="Also measure attention and visibility on synthetic occlusion."
        ),
    ] = False
    seed: SeedOption = 0


def evaluate(
    target: Target,
    truth: TruthOptions,
    method: MethodOptions,
    measures: MeasureOptions,
    network: NetworkOptions,
    messages: MessageOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="report.json, .html, CSV, cache.")
    ] = Path("evaluation"),
    batch_size: BatchSizeOption = "auto",
) -> None:
    """Measure accuracy by the papers' protocols: tables, report.json, per_image.csv, report.html.

    An interrupted run goes on where it stopped. With --json the report comes as one JSON line
    an image and a last one with every figure; with -v the tables have every row.

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
