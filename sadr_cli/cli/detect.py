"""``sadr detect``: faces -> boxes, scores and points."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadr_cli.cli.common import (
    DetectorOption,
    DeviceOption,
    EndOption,
    FacesOption,
    FailOnNoFaceOption,
    FrameStepOption,
    FromFileOption,
    Inputs,
    JobsOption,
    JsonOption,
    MaxPixelsOption,
    Output,
    QuietOption,
    RecursiveOption,
    ShardOption,
    StartOption,
    VerboseOption,
    check_span,
    exit_code,
    leave_interrupted,
    parse_faces,
    parse_shard,
    take_shard,
)
from sadr_cli.errors import InputError

if TYPE_CHECKING:
    from sadr_cli.faces import Detection, Frame
    from sadr_cli.sources import Source

CROP_RESOLUTION = 256


def detect(
    inputs: Inputs = None,
    recursive: RecursiveOption = False,
    from_file: FromFileOption = None,
    detector: DetectorOption = "centerface",
    faces: FacesOption = "all",
    crops: Annotated[
        Path | None,
        typer.Option("--crops", metavar="DIR", help="Write each face's 256 x 256 crop (PNG)."),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option("--overlay", metavar="DIR", help="Write each photo with its faces drawn in."),
    ] = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    shard: ShardOption = None,
    start: StartOption = 0.0,
    end: EndOption = None,
    frame_step: FrameStepOption = 1,
    max_pixels: MaxPixelsOption = 200,
    fail_on_no_face: FailOnNoFaceOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Find faces: boxes, scores and five points.

    With --json one line a face on standard output, which `sadr reconstruct --boxes -` reads;
    a file without a face or with an error has a line of its own, the last line is a summary.
    Boxes are x0 y0 x1 y1 in pixels of the upright photo.

    Example: sadr detect photos --json | jq -c 'select(.score > 0.8)'
    """
    out = Output(quiet=quiet, verbose=verbose, json=json)
    which = parse_faces(faces)
    check_span(start, end)
    part = parse_shard(shard)
    from sadr_cli.detection import create_detector, detection_to_record, select_faces
    from sadr_cli.pipeline.feed import ordered_map
    from sadr_cli.pipeline.settings import StopFlag
    from sadr_cli.sources import iter_frames, iter_sources, load_frame

    sources = take_shard(iter_sources(inputs, recursive=recursive, from_file=from_file), part)
    create_detector(detector, _torch_device(device))  # one that cannot run is said now
    sinks = _Sinks(crops, overlay)
    limit = max_pixels * 1_000_000
    local = threading.local()
    stop = StopFlag()

    def find(frame: Frame) -> list[Detection]:
        if not hasattr(local, "detector"):
            local.detector = create_detector(detector, _torch_device(device))
        return select_faces(local.detector.detect(frame.image), which)

    def look(source: Source) -> tuple[Frame, list[Detection]] | InputError | None:
        """A photo, in a thread of its own; None for a video, whose frames come one by one."""
        if source.kind == "video":
            return None
        try:
            frame = load_frame(source, limit)
            return frame, find(frame)
        except InputError as error:
            return error

    def frames(source: Source, seen: Any) -> Iterator[tuple[Frame, list[Detection]]]:
        if isinstance(seen, InputError):
            raise seen
        if seen is not None:
            yield seen
            return
        for frame in iter_frames(source, start=start, end=end, step=frame_step, max_pixels=limit):
            yield frame, find(frame)
            if stop:
                return

    count = {"files": 0, "faces": 0, "no_face": 0, "failed": 0}
    threads = jobs or min(max(os.cpu_count() or 2, 2), 4)
    with out.progress("Detecting") as bar, stop.on_signals(out.warn):
        for source, seen in ordered_map(look, sources, threads, stop.__bool__):
            count["files"] += 1
            found = 0
            try:
                for frame, detections in frames(source, seen):
                    for number, detection in enumerate(detections):
                        out.emit(detection_to_record(detection, frame, number))
                    found += len(detections)
                    sinks.write(frame, detections)
                    _tell(out, frame, detections)
            except InputError as error:
                count["failed"] += 1
                out.warn(str(error))
                out.emit({"file": source.label, "error": str(error)})
            else:
                if not found:
                    count["no_face"] += 1
                    out.warn(f"{source.label}: no face found")
                    out.emit({"file": source.label, "faces": 0})
            count["faces"] += found
            bar.advance()
    out.emit({"summary": {**count, "detector": detector, "interrupted": bool(stop)}})
    out.info(_sentence(count))
    if stop:
        leave_interrupted()
    done = count["files"] - count["failed"]
    raise typer.Exit(
        exit_code(done, count["failed"], count["faces"], count["no_face"], fail_on_no_face)
    )


class _Sinks:
    """Writes the pictures asked for; the folders are made, and proven writable, at the start."""

    def __init__(self, crops: Path | None, overlay: Path | None) -> None:
        from sadr_cli.files import check_writable

        self.crops, self.overlay = crops, overlay
        for folder in (crops, overlay):
            if folder is not None:
                check_writable(folder)

    def write(self, frame: Frame, detections: list[Detection]) -> None:
        name = frame.name if frame.index is None else f"{frame.name}_frame{frame.index:06d}"
        if self.crops is not None:
            from sadr_cli.crop import extract_crop
            from sadr_cli.detection import crop_for_detection

            for number, detection in enumerate(detections):
                picture = extract_crop(frame.image, crop_for_detection(detection), CROP_RESOLUTION)
                _save(self.crops / f"{name}_face{number}.png", picture)
        if self.overlay is not None:
            from sadr_cli.detection.draw import draw_detections

            _save(self.overlay / f"{name}.jpg", draw_detections(frame.image, detections))


def _save(path: Path, image: Any) -> None:
    import io

    from PIL import Image

    from sadr_cli.files import atomic_write

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG" if path.suffix == ".jpg" else "PNG", quality=90)
    atomic_write(path, buffer.getvalue())


def _tell(out: Output, frame: Frame, detections: list[Detection]) -> None:
    where = frame.source if frame.index is None else f"{frame.source}, frame {frame.index}"
    if detections and not out.json:
        out.info(f"{where}: {_plural(len(detections), 'face')}")
        for number, d in enumerate(detections):
            x0, y0, x1, y1 = (round(float(v)) for v in d.box)
            out.info(f"  {number}  score {d.score:.2f}  box {x0} {y0} {x1} {y1}")


def _sentence(count: dict[str, int]) -> str:
    parts = [f"{_plural(count['faces'], 'face')} in {_plural(count['files'], 'file')}"]
    if count["no_face"]:
        parts.append(f"{count['no_face']} without a face")
    if count["failed"]:
        parts.append(f"{count['failed']} failed")
    return ", ".join(parts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _torch_device(name: str) -> str:
    """``auto`` without importing torch: the default detector does not need it."""
    return "cpu" if name == "auto" else name
