"""``sadr detect``: faces -> boxes, scores and points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadr_cli.cli.common import (
    DetectorOption,
    DeviceOption,
    FacesOption,
    FailOnNoFaceOption,
    FromFileOption,
    Inputs,
    JsonOption,
    MaxPixelsOption,
    Output,
    QuietOption,
    RecursiveOption,
    VerboseOption,
    exit_code,
    parse_faces,
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
    start: Annotated[float, typer.Option("--start", help="Video: first second.")] = 0.0,
    end: Annotated[
        float | None, typer.Option("--end", help="Video: last second.", show_default=False)
    ] = None,
    frame_step: Annotated[int, typer.Option("--frame-step", help="Video: every Nth frame.")] = 1,
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
    from sadr_cli.detection import create_detector, detection_to_record, select_faces
    from sadr_cli.sources import iter_frames, iter_sources, load_frame

    sources = iter_sources(inputs, recursive=recursive, from_file=from_file)
    finder = create_detector(detector, _torch_device(device))
    sinks = _Sinks(crops, overlay)

    def frames(source: Source) -> Iterator[Frame]:
        limit = max_pixels * 1_000_000
        if source.kind == "video":
            yield from iter_frames(source, start=start, end=end, step=frame_step, max_pixels=limit)
        else:
            yield load_frame(source, limit)

    count = {"files": 0, "faces": 0, "no_face": 0, "failed": 0}
    with out.progress("Detecting") as bar:
        for source in sources:
            count["files"] += 1
            found = 0
            try:
                for frame in frames(source):
                    detections = select_faces(finder.detect(frame.image), which)
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
    out.emit({"summary": {**count, "detector": detector}})
    out.info(_sentence(count))
    done = count["files"] - count["failed"]
    raise typer.Exit(
        exit_code(done, count["failed"], count["faces"], count["no_face"], fail_on_no_face)
    )


class _Sinks:
    """Writes the pictures asked for; the folders are made, and proven writable, at the start."""

    def __init__(self, crops: Path | None, overlay: Path | None) -> None:
        from sadr_cli.writers.atomic import check_writable

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

    from sadr_cli.writers.atomic import atomic_write

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
