"""``sadr detect``: boxes, scores and points of the faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadr_cli.cli.options import (
    DeviceOption,
    FaceOptions,
    FailOnNoFaceOption,
    InputOptions,
    JobsOption,
    MessageOptions,
    SpanOptions,
)
from sadr_cli.cli.output import Output, listed, plural, printable
from sadr_cli.errors import exit_code
from sadr_cli.process import leave_interrupted

if TYPE_CHECKING:
    from sadr_cli.errors import InputError
    from sadr_cli.faces import Detection, Frame
    from sadr_cli.pipeline.detect import Counts
    from sadr_cli.sources import Source


def detect(
    inputs: InputOptions,
    faces: FaceOptions,
    span: SpanOptions,
    messages: MessageOptions,
    crops: Annotated[
        Path | None,
        typer.Option("--crops", metavar="DIR", help="Write a 256 x 256 crop of each face (PNG)."),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--overlay", metavar="DIR", help="Write each photo with its faces drawn on it."
        ),
    ] = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    fail_on_no_face: FailOnNoFaceOption = False,
) -> None:
    """Detect faces: boxes, scores and five points.

    With --json, print one line per face on standard output, as `sadr reconstruct --boxes -` reads
    it. A file without a face or with an error has a line of its own; the last line is a summary.
    Boxes are x0 y0 x1 y1 in pixels of the upright photo.

    Example: sadr detect photos --json | jq -c 'select(.score > 0.8)'
    """
    out = messages.open(results=True)
    which, part = faces.which, inputs.part
    from sadr_cli.detection import detection_to_record
    from sadr_cli.pipeline.detect import DetectSettings, FaceFinder, default_jobs
    from sadr_cli.pipeline.inputs import peek
    from sadr_cli.pipeline.settings import StopFlag
    from sadr_cli.sources.listing import take_shard

    stop = StopFlag()
    finder = FaceFinder(
        DetectSettings(
            detector=faces.detector,
            device="cpu" if device == "auto" else device,  # without importing torch
            faces=which,
            min_score=faces.min_score,
            min_size=faces.min_size,
            start=span.start,
            end=span.end,
            step=span.frame_step,
            max_pixels=inputs.limit,
            jobs=jobs or default_jobs(),
            crops=crops,
            overlay=overlay,
        ),
        stop,
    )
    sources = peek(take_shard(inputs.sources(out.info), part))
    with out.progress("Detecting") as bar, stop.on_signals(out.warn):

        def on_frame(frame: Frame, detections: list[Detection]) -> None:
            if frame.index is not None:
                bar.update(label=f"Detecting {printable(frame.source)}, frame {frame.index}")
            _tell(out, frame, detections)
            for number, detection in enumerate(detections):
                out.emit(detection_to_record(detection, frame, number))

        def on_source(source: Source, found: int, error: InputError | None) -> None:
            if error is not None:
                out.warn(str(error))
                out.emit({"file": source.label, "error": str(error)})
            elif not found:
                out.warn(f"{source.label}: no face found")
                out.emit({"file": source.label, "faces": 0})
            bar.update(label="Detecting")
            bar.advance()

        count = finder.run(bar.counting(sources), on_frame, on_source)
    out.emit(
        {"summary": {**count.to_dict(), "detector": faces.detector, "interrupted": bool(stop)}}
    )
    out.info(_sentence(count))
    if stop:
        leave_interrupted()
    done = count.files - count.failed
    raise typer.Exit(exit_code(done, count.failed, count.faces, count.no_face, fail_on_no_face))


def _tell(out: Output, frame: Frame, detections: list[Detection]) -> None:
    where = frame.source if frame.index is None else f"{frame.source}, frame {frame.index}"
    for note in frame.notes:
        out.warn(f"{where}: {note}")
    if detections:
        out.result(f"{where}: {plural(len(detections), 'face')}")
    for number, d in enumerate(detections):
        x0, y0, x1, y1 = (round(float(v)) for v in d.box)
        out.result(f"  {number}  score {d.score:.2f}  box {x0} {y0} {x1} {y1}")


def _sentence(count: Counts) -> str:
    found = f"{plural(count.faces, 'face')} in {plural(count.files, 'file')}"
    return listed(found, (count.no_face, "without a face"), (count.failed, "failed"))
