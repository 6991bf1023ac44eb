"""``sadr reconstruct``: photos and videos to meshes, landmarks and poses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadr_cli.cli.options import (
    LAYERS_HELP,
    MESH_HELP,
    BatchSizeOption,
    FaceModelOption,
    FaceOptions,
    FailOnNoFaceOption,
    FrameChoice,
    InputOptions,
    JawChoice,
    JobsOption,
    KeptFaceOptions,
    MessageOptions,
    NetworkOptions,
    TextureSizeOption,
    TrackOptions,
    complete_formats,
    complete_layers,
)
from sadr_cli.cli.output import Output, listed, plural, printable
from sadr_cli.cli.parse import (
    check_face_model,
    check_out,
    parse_batch_size,
    parse_formats,
    parse_layers,
)
from sadr_cli.errors import UsageError, exit_code
from sadr_cli.process import leave_interrupted

if TYPE_CHECKING:
    from sadr_cli.pipeline import Summary, Work
    from sadr_cli.protocols import FaceDetector
    from sadr_cli.reconstructor import Reconstructor
    from sadr_cli.results.entry import Entry

_DOING = "Reconstructing"
_LISTED = 50  # failures in the closing summary; the manifest has them all


@dataclass(frozen=True)
class VideoOptions(TrackOptions):
    """How videos are read, tracked and written."""

    mesh_every: Annotated[
        int | None,
        typer.Option(
            "--mesh-every",
            min=1,
            metavar="N",
            help="Also write the meshes of every Nth frame, besides the mean mesh of each track.",
        ),
    ] = None


def reconstruct(
    inputs: InputOptions,
    faces: KeptFaceOptions,
    network: NetworkOptions,
    video: VideoOptions,
    messages: MessageOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder, created if needed.")
    ],
    formats: Annotated[
        str,
        typer.Option("--format", metavar="LIST", help=MESH_HELP, autocompletion=complete_formats),
    ] = "obj",
    frame: Annotated[
        FrameChoice,
        typer.Option(
            "--frame",
            help="image: photo pixels, y up; metric: millimetres by the model's prior, posed as in "
            "the photo; canonical: frontal, without pose.",
        ),
    ] = "image",
    texture_size: TextureSizeOption = None,
    face_model: FaceModelOption = None,
    jaw: Annotated[
        JawChoice,
        typer.Option(
            "--jaw",
            help="contour: also place the jaw landmarks on the outline visible in the photo, as in "
            "2-D data sets; applies to pts, csv, JSON and pictures.",
        ),
    ] = "surface",
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Write copies of the photos with the faces drawn on them."),
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="LIST",
            help=f"Comma-separated contents of overlays: {LAYERS_HELP}. Default: all. Implies "
            "--overlay.",
            autocompletion=complete_layers,
        ),
    ] = None,
    index: Annotated[
        bool,
        typer.Option("--index/--no-index", help="Write index.html, a page to view the results."),
    ] = True,
    boxes: Annotated[
        str | None,
        typer.Option(
            "--boxes",
            metavar="FILE",
            help="Read the faces from the JSON lines of `sadr detect --json`; - is standard input.",
        ),
    ] = None,
    batch_size: BatchSizeOption = "auto",
    jobs: JobsOption = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Run on a Dask cluster (dask://host:port) or in N local processes (loky://N).",
        ),
    ] = None,
    stall_minutes: Annotated[
        float,
        typer.Option(
            "--stall-minutes",
            min=0,
            metavar="N",
            help="Abort a run that makes no progress for N minutes; 0 disables this.",
        ),
    ] = 10,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Process finished inputs again.")
    ] = False,
    fail_on_no_face: FailOnNoFaceOption = False,
) -> None:
    """Reconstruct every face: meshes, 68 landmarks, poses.

    For a photo NAME.jpg: NAME.obj (further faces: NAME_face1.obj...), NAME.json with landmarks
    and pose, one row per face in poses.csv and, with --overlay, a picture in overlays/.
    manifest.json records the result of each input, and index.html shows all results. Finished
    inputs are skipped when the command is repeated.

    For a video: NAME_poses.csv and NAME_landmarks.jsonl with frame, time and track, one mesh per
    track and, with --overlay, a video in overlays/.

    Example: sadr reconstruct photos --out meshes --format obj,glb --overlay
    """  # fmt: skip
    say = messages.open()
    which, batch = faces.which, parse_batch_size(batch_size)
    from sadr_cli.compiled import start

    start()  # OpenVINO loads while all else is imported
    kinds, shown = parse_formats(formats, texture_size), parse_layers(layers)
    check_face_model(face_model, kinds)
    check_out(out)
    part = inputs.part
    if cluster is not None:
        from sadr_cli.pipeline.pools import parse_address

        parse_address(cluster)
    from sadr_cli.pipeline.inputs import peek
    from sadr_cli.sources.listing import take_shard

    works = peek(take_shard(_works(inputs, boxes, faces, say), part))

    from sadr_cli.model.device import select_device

    device = select_device(network.device)

    def make_detector() -> FaceDetector:
        return faces.make_detector(str(device))

    with ThreadPoolExecutor(1) as pool:
        # Report a detector that cannot run now, not once per photo.
        loading = None if boxes is not None else pool.submit(make_detector)

        from sadr_cli.gallery import write_page
        from sadr_cli.model.checkpoint import find_weights, open_checkpoint
        from sadr_cli.pipeline import Cluster, RunSettings, StopFlag, VideoSettings, run
        from sadr_cli.pipeline.worker import load_tools
        from sadr_cli.reconstructor import Reconstructor
        from sadr_cli.sources.images import prepare_decoders

        weights = open_checkpoint(find_weights(network.weights))
        prepare_decoders()
        if loading is not None:
            loading.result()
    # Last, as the network goes on loading while the first photos are looked at.
    reconstructor = Reconstructor(weights, device=device, batch_size=batch)

    settings = RunSettings(
        out=out,
        formats=kinds,
        frame=frame,
        texture_size=texture_size,
        face_model=face_model,
        overlay=overlay or layers is not None,
        layers=shown,
        jaw=jaw,
        index=index,
        faces=which,
        min_confidence=faces.min_confidence,
        detector="boxes" if boxes is not None else faces.detector,
        two_pass=reconstructor.two_pass,
        batch_size=reconstructor.batch_size,
        batches=reconstructor.batches_at_once,
        jobs=jobs or min(max(os.cpu_count() or 2, 2), 8),
        overwrite=overwrite,
        max_pixels=inputs.limit,
        stall=60 * stall_minutes or None,
        extra={**faces.limits(), **_model_sign(face_model, reconstructor)},
        video=VideoSettings(
            *(video.start, video.end, video.frame_step),
            *(video.smooth, video.detect_every, video.mesh_every),
        ),
    )
    say.detail(f"weights {reconstructor.info.name}, device {reconstructor.device}")
    machines = None
    if cluster is not None:
        from sadr_cli.version import __version__

        info = reconstructor.info
        load = partial(
            load_tools,
            __version__,
            info.path or None,
            info.sha256,
            network.device,
            batch,
            faces.detector,
            which,
            faces.min_score,
            faces.min_size,
        )
        machines = Cluster(cluster, load)
    stop = StopFlag()
    with say.progress(_DOING) as bar, stop.on_signals(say.warn):

        def on_entry(entry: Entry) -> None:
            say.emit(_record(entry))
            say.detail(_sentence(entry))
            bar.update(label=_DOING)
            bar.advance()

        def on_frame(name: str, frame: int, frames: int | None) -> None:
            total = "" if frames is None else f" of {frames}"
            bar.update(label=f"{_DOING} {printable(name)}, frame {frame}{total}")

        summary = run(
            bar.counting(works),
            reconstructor,
            make_detector,
            settings,
            stop=stop,
            on_entry=on_entry,
            on_frame=on_frame,
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


def _model_sign(face_model: Path | None, reconstructor: Reconstructor) -> dict[str, str]:
    """The digest of the face model, for the run's settings; MissingDataError if it is invalid."""
    if face_model is None:
        return {}
    from sadr_cli.model.linear import load_linear_model

    return {"face_model": load_linear_model(face_model, reconstructor.uv).sha256}


def _works(
    inputs: InputOptions, boxes: str | None, faces: FaceOptions, say: Output
) -> Iterator[Work]:
    """The inputs of the run, from names or from the lines of ``--boxes``."""
    from sadr_cli.pipeline.inputs import works_from_boxes, works_from_sources

    if boxes is None:
        return works_from_sources(inputs.sources(say.info))
    if inputs.inputs or inputs.from_file is not None:
        raise UsageError("--boxes already names the photos: leave out INPUT and --from-file")
    if faces.limits():
        raise UsageError("--min-score and --min-size have no effect with --boxes: filter its lines")
    return works_from_boxes(boxes)


def _record(entry: Entry) -> dict[str, Any]:
    """The fields of a manifest entry that --json prints."""
    document = entry.to_json()
    return {k: v for k, v in document.items() if k not in ("key", "settings", "stamp")}


def _sentence(entry: Entry) -> str:
    video = entry.kind == "video"
    words = plural(len(entry.faces), "track" if video else "face")
    if video:
        words += f" in {plural(entry.frames or 0, 'frame')}"
    reason = f" ({entry.reason})" if entry.reason else ""
    skipped = ", done before" if entry.skipped and entry.status != "skipped" else ""
    status = words if entry.status == "ok" else entry.status.replace("_", " ")
    return f"{entry.source}: {status}{reason}{skipped}"


def _close(say: Output, summary: Summary, out: Path) -> None:
    """Print the closing lines: what failed and why, then the counts."""
    _list(say, [f"{name}: {note}" for name, note in summary.notes], out)
    _list(say, [f"{name}: {reason}" for name, reason in summary.failures], out)
    _list(say, [f"{name}: {reason}" for name, reason in summary.faceless], out)
    found = []
    photos, videos = summary.ok - summary.videos, summary.videos
    if photos or not videos:
        faces = plural(summary.faces - summary.tracks, "face")
        found.append(f"{faces} in {plural(photos, 'photo')}")
    if videos:
        tracks, frames = plural(summary.tracks, "track"), plural(summary.frames, "frame")
        found.append(f"{tracks} in {plural(videos, 'video')} of {frames}")
    counts = listed(
        ", ".join(found),
        (summary.doubtful, "of low confidence"),
        (summary.no_face, "without a face"),
        (summary.failed, "failed"),
        (summary.skipped, "done before"),
    )
    end = "interrupted, run again to resume" if summary.interrupted else f"{summary.seconds:.1f} s"
    say.info(f"{counts} ({end}) -> {out}")


def _list(say: Output, lines: Iterable[str], out: Path) -> None:
    lines = list(lines)
    for line in lines[:_LISTED]:
        say.warn(line)
    if len(lines) > _LISTED:
        say.warn(f"and {len(lines) - _LISTED} more, see {out / 'manifest.json'}")
