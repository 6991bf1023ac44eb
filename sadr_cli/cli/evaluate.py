"""``sadr evaluate``: the paper's protocols, reproducible and citable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sadr_cli.cli.options import (
    BatchSizeOption,
    DetectorOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    SeedOption,
    VerboseOption,
    WeightsOption,
)
from sadr_cli.cli.output import Output
from sadr_cli.cli.parse import parse_batch_size
from sadr_cli.cli.progress import ProgressBar

Target = Annotated[
    str,
    typer.Argument(
        metavar="aflw2000|florence|300w|DIR",
        help="A benchmark, or a folder of images with .mat or .pts landmarks beside them.",
        show_default=False,
    ),
]


def evaluate(
    target: Target,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The benchmark's folder; else SADR_DATA/AFLW2000-3D, /300W or /Florence.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="report.json, .html, CSV, cache.")
    ] = Path("evaluation"),
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE|DIR",
            help="Score these instead of running the network: an npz with name, landmarks and "
            "optional rotation, vertices; or a landmark JSON folder of sadr reconstruct.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Two prediction sets side by side, with paired bootstrap intervals.",
            show_default=False,
        ),
    ] = None,
    crop: Annotated[
        str,
        typer.Option(
            "--crop",
            metavar="truth|detector",
            help="Crop around the true landmarks (the paper) or around what a detector finds.",
        ),
    ] = "truth",
    detector: DetectorOption = "centerface",
    face_model: Annotated[
        Path | None,
        typer.Option(
            "--face-model",
            metavar="FILE",
            help="Linear face model for the dense truth: npz, or BFM .mat with --bfm-uv.",
            show_default=False,
        ),
    ] = None,
    bfm_uv: Annotated[
        Path | None,
        typer.Option(
            "--bfm-uv", metavar="FILE", help="UV .mat of the BFM .mat.", show_default=False
        ),
    ] = None,
    align: Annotated[
        str,
        typer.Option(
            "--align",
            metavar="procrustes|icp",
            help="Before the reconstruction error: the public code's similarity, or the paper's "
            "rigid ICP (needs open3d).",
        ),
    ] = "procrustes",
    y_flip: Annotated[
        str,
        typer.Option(
            "--y-flip",
            metavar="height|height-1|height+1",
            help="Dense truth: image y = this - model y (SADRNet, PRNet, the 68 points).",
        ),
    ] = "height",
    pts_origin: Annotated[
        int,
        typer.Option(
            "--pts-origin", metavar="0|1", help="What .pts files call the first pixel's centre."
        ),
    ] = 0,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out images without usable truth, picture or prediction, and count them.",
        ),
    ] = False,
    occlusion: Annotated[
        bool,
        typer.Option(
            "--occlusion", help="Also measure attention and visibility on synthetic occlusion."
        ),
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mean with the mirrored crop: twice the work.")
    ] = False,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Measure accuracy by the paper's protocols: tables, report.json, per_image.csv, report.html.

    An interrupted run goes on where it stopped. With --json the report comes as one JSON line
    an image and a last one with every figure.

    Example: sadr evaluate aflw2000 --data AFLW2000-3D --out evaluation
    """
    screen = Output(quiet=quiet, verbose=verbose, json=json)
    batch = parse_batch_size(batch_size)

    from sadr_cli.evaluation.report.files import write_files
    from sadr_cli.evaluation.report.table import to_rich
    from sadr_cli.evaluation.report.tables import build
    from sadr_cli.evaluation.run import Settings
    from sadr_cli.evaluation.run import evaluate as run_evaluation

    settings = Settings(
        target=target,
        data=data,
        out=out,
        predictions=predictions,
        compare=compare,
        crop=crop,
        detector=detector,
        weights=weights,
        device=device,
        batch_size=batch,
        face_model=face_model,
        bfm_uv=bfm_uv,
        y_flip=y_flip,
        align=align,
        pts_origin=pts_origin,
        allow_missing=allow_missing,
        occlusion=occlusion,
        seed=seed,
        flip=flip,
    )
    with screen.progress("Evaluating") as bar:
        report = run_evaluation(settings, _follow(bar))

    paths = write_files(report, out)
    for table in build(report):
        screen.print(to_rich(table))
    for entry in report.entries:
        for key, reason in entry.scores.left_out.items():
            screen.info(f"{entry.label}: no {key}: {reason}")
        if entry.predictions.extra:
            screen.warn(f"{entry.label}: {len(entry.predictions.extra)} predictions match no image")
    screen.info("wrote " + ", ".join(str(path) for path in paths))
    if json:
        header, rows = report.rows()
        for row in rows:
            screen.emit({"type": "image", **dict(zip(header, row, strict=True))})
        screen.emit({"type": "summary", **report.to_dict()})


def _follow(bar: ProgressBar) -> Callable[[str, int, int], None]:
    """Stages on the progress bar: each starts anew."""
    present, shown = "", 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal present, shown
        if stage != present:
            bar.advance(-shown)
            present, shown = stage, 0
            bar.update(total=total, label=stage)
        bar.advance(done - shown)
        shown = done

    return progress
