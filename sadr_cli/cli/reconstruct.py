"""``sadr reconstruct``: faces -> meshes, landmarks, poses."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadr_cli.cli.common import (
    BatchSizeOption,
    BoxesOption,
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
    OverwriteOption,
    QuietOption,
    RecursiveOption,
    ShardOption,
    StartOption,
    TextureSizeOption,
    VerboseOption,
    WeightsOption,
    check_span,
    complete_formats,
    exit_code,
    leave_interrupted,
    parse_batch_size,
    parse_faces,
    parse_formats,
    parse_shard,
    take_shard,
)
from sadr_cli.errors import UsageError

if TYPE_CHECKING:
    from sadr_cli.detection.boxes import BoxGroup
    from sadr_cli.pipeline import Summary, Work
    from sadr_cli.protocols import FaceDetector

_LISTED = 50  # failures in the closing summary; the manifest has them all


def reconstruct(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; is made.")
    ],
    inputs: Inputs = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help="By commas. Meshes: obj, ply, glb, usdz, stl, npz. Also: pts, csv, camera, "
            "texture, uvmap, attention, visibility, depth, normals, pncc.",
            autocompletion=complete_formats,
        ),
    ] = "obj",
    frame: Annotated[
        str,
        typer.Option(
            "--frame",
            metavar="NAME",
            help="image: photo pixels, y up; metric: millimetres of the model's prior, turned as "
            "in the photo; canonical: frontal, without pose.",
        ),
    ] = "image",
    texture_size: TextureSizeOption = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write each photo with its faces drawn in.")
    ] = False,
    index: Annotated[
        bool,
        typer.Option("--index/--no-index", help="Write index.html, a page to look at the results."),
    ] = True,
    recursive: RecursiveOption = False,
    from_file: FromFileOption = None,
    boxes: BoxesOption = None,
    faces: FacesOption = "all",
    detector: DetectorOption = "centerface",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = "auto",
    jobs: JobsOption = None,
    shard: ShardOption = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Run on dask://host:port, or in loky://N processes of this machine.",
            show_default=False,
        ),
    ] = None,
    start: StartOption = 0.0,
    end: EndOption = None,
    frame_step: FrameStepOption = 1,
    smooth: Annotated[
        str,
        typer.Option(
            "--smooth", metavar="off|light|strong", help="Video: how much trembling is taken out."
        ),
    ] = "light",
    mesh_every: Annotated[
        int | None,
        typer.Option(
            "--mesh-every",
            min=1,
            metavar="N",
            help="Video: meshes of every Nth frame, beside the mean one of each track.",
            show_default=False,
        ),
    ] = None,
    detect_every: Annotated[
        int,
        typer.Option(
            "--detect-every", min=1, metavar="N", help="Video: look for new faces so often."
        ),
    ] = 30,
    max_pixels: MaxPixelsOption = 200,
    overwrite: OverwriteOption = False,
    fail_on_no_face: FailOnNoFaceOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Reconstruct every face: meshes, 68 landmarks, poses.

    For a photo NAME.jpg: NAME.obj (further faces: NAME_face1.obj...), NAME.json with landmarks
    and pose, a row a face in poses.csv, with --overlay a picture in overlays/; manifest.json
    records what became of each input, index.html shows it all. Finished inputs are skipped when
    the command is repeated.

    For a video: NAME_poses.csv and NAME_landmarks.jsonl with frame, time and track, a mesh a
    track, with --overlay a video in overlays/.

    Example: sadr reconstruct photos --out meshes --format obj,glb --overlay
    """  # fmt: skip
    say = Output(quiet=quiet, verbose=verbose, json=json)
    which, batch = parse_faces(faces), parse_batch_size(batch_size)
    kinds = parse_formats(formats, frame, texture_size)
    if smooth not in ("off", "light", "strong"):
        raise UsageError(f"--smooth takes off, light or strong, not {smooth!r}")
    check_span(start, end)
    part = parse_shard(shard)
    if cluster is not None:
        from sadr_cli.pipeline.cluster import parse_address

        parse_address(cluster)
    works = _peek(take_shard(_works(inputs, recursive, from_file, boxes), part))

    from sadr_cli.detection import create_detector
    from sadr_cli.gallery import write_page
    from sadr_cli.pipeline import Cluster, RunSettings, StopFlag, VideoSettings, run
    from sadr_cli.pipeline.cluster import load_tools
    from sadr_cli.reconstructor import Reconstructor

    reconstructor = Reconstructor(weights, device=device, batch_size=batch)

    def make_detector() -> FaceDetector:
        return create_detector(detector, str(reconstructor.device))

    if boxes is None:
        make_detector()  # a detector that cannot run is said now, not once a photo

    settings = RunSettings(
        out=out,
        formats=kinds,
        frame=frame,
        texture_size=texture_size,
        overlay=overlay,
        index=index,
        faces=which,
        detector="boxes" if boxes is not None else detector,
        two_pass=reconstructor.two_pass,
        batch_size=reconstructor.batch_size,
        jobs=jobs or min(max(os.cpu_count() or 2, 2), 8),
        overwrite=overwrite,
        max_pixels=max_pixels * 1_000_000,
        video=VideoSettings(start, end, frame_step, smooth, detect_every, mesh_every),
    )
    say.detail(f"weights {reconstructor.info.name}, device {reconstructor.device}")
    machines = None
    if cluster is not None:
        info = reconstructor.info
        load = partial(load_tools, info.path or None, info.sha256, device, batch, detector)
        machines = Cluster(cluster, load)
    stop = StopFlag()
    with say.progress("Reconstructing") as bar, stop.on_signals(say.warn):

        def on_entry(entry: dict[str, Any]) -> None:
            say.emit(_record(entry))
            say.detail(_sentence(entry))
            bar.advance()

        summary = run(
            works,
            reconstructor,
            make_detector,
            settings,
            stop=stop,
            on_entry=on_entry,
            cluster=machines,
        )
    if index and summary.inputs:
        write_page(out, reconstructor.uv)
    _close(say, summary, out)
    say.emit({"summary": {**summary.counts(), "out": str(out)}})
    if summary.interrupted:
        leave_interrupted()
    done = summary.ok + summary.no_face
    raise typer.Exit(
        int(exit_code(done, summary.failed, summary.faces, summary.no_face, fail_on_no_face))
    )


def _works(
    inputs: list[str] | None, recursive: bool, from_file: Path | None, boxes: str | None
) -> Iterator[Work]:
    """The run's inputs, from names or from the lines of ``--boxes``."""
    from sadr_cli.pipeline import Work
    from sadr_cli.sources import iter_sources

    if boxes is None:
        sources = iter_sources(inputs, recursive=recursive, from_file=from_file)
        return (Work(source) for source in sources)
    if inputs or from_file is not None:
        raise UsageError("--boxes names the photos itself: leave out INPUT and --from-file")
    return _works_from_boxes(boxes)


def _works_from_boxes(boxes: str) -> Iterator[Work]:
    """From standard input as lines come in; from a file all lines of a photo together."""
    from sadr_cli.detection import read_boxes
    from sadr_cli.pipeline import Work
    from sadr_cli.sources import Source, SourceList

    def work(group: BoxGroup) -> Work:
        source = sources.source(Path(group.file))
        if group.frame is not None:
            source = Source(source.label, source.name, source.path, kind="video")
        return Work(source, tuple(group.detections), tuple(group.faces))

    sources = SourceList()
    if boxes == "-":
        yield from (work(group) for group in read_boxes(sys.stdin, "--boxes -"))
        return
    merged: dict[str, BoxGroup] = {}
    try:
        with Path(boxes).open(encoding="utf-8", errors="surrogateescape") as lines:
            for group in read_boxes(lines, f"--boxes {boxes}"):
                known = merged.setdefault(group.file, group)
                if known is not group:
                    known.detections += group.detections
                    known.faces += group.faces
    except OSError as error:
        raise UsageError(f"--boxes {boxes}: {error.strerror or error}") from error
    yield from (work(group) for group in merged.values())


def _peek(works: Iterator[Work]) -> Iterator[Work]:
    """Find out that there is nothing to do before anything heavy is loaded."""
    from itertools import chain

    from sadr_cli.errors import NothingToDoError

    first = next(works, None)
    if first is None:
        raise NothingToDoError("nothing to do: no input names a photo")
    return chain([first], works)


def _record(entry: dict[str, Any]) -> dict[str, Any]:
    """What a reader of --json wants of a manifest entry."""
    return {k: v for k, v in entry.items() if k not in ("key", "settings", "stamp")}


def _sentence(entry: dict[str, Any]) -> str:
    faces = entry.get("faces", [])
    video = entry.get("kind") == "video"
    words = _count(len(faces), "track" if video else "face")
    if video:
        words += f" in {_count(entry['frames'], 'frame')}"
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    skipped = ", done before" if entry.get("skipped") and entry["status"] != "skipped" else ""
    status = words if entry["status"] == "ok" else entry["status"].replace("_", " ")
    return f"{entry['source']}: {status}{reason}{skipped}"


def _close(say: Output, summary: Summary, out: Path) -> None:
    """The closing lines: what failed and why, then the counts."""
    _list(say, [f"{name}: {reason}" for name, reason in summary.failures], out)
    _list(say, [f"{name}: no face found" for name in summary.faceless], out)
    found = []
    photos, videos = summary.ok - summary.videos, summary.videos
    if photos or not videos:
        faces = _count(summary.faces - summary.tracks, "face")
        found.append(f"{faces} in {_count(photos, 'photo')}")
    if videos:
        tracks, frames = _count(summary.tracks, "track"), _count(summary.frames, "frame")
        found.append(f"{tracks} in {_count(videos, 'video')} of {frames}")
    tail = [
        (summary.no_face, "without a face"),
        (summary.failed, "failed"),
        (summary.skipped, "done before"),
    ]
    more = "".join(f", {number} {what}" for number, what in tail if number)
    end = "interrupted, run again to go on" if summary.interrupted else f"{summary.seconds:.1f} s"
    say.info(f"{', '.join(found)}{more} ({end}) -> {out}")


def _list(say: Output, lines: Iterable[str], out: Path) -> None:
    lines = list(lines)
    for line in lines[:_LISTED]:
        say.warn(line)
    if len(lines) > _LISTED:
        say.warn(f"and {len(lines) - _LISTED} more, see {out / 'manifest.json'}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
