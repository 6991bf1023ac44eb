"""``sadr live``: a camera, stream or video with its faces drawn on it as it plays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadr_cli.cli.options import (
    LAYERS_HELP,
    KeptFaceOptions,
    MessageOptions,
    NetworkOptions,
    TrackOptions,
    complete_layers,
)
from sadr_cli.cli.output import Output, listed, plural, printable
from sadr_cli.cli.parse import parse_layers
from sadr_cli.errors import UsageError, exit_code
from sadr_cli.process import leave_interrupted

if TYPE_CHECKING:
    from sadr_cli.live.session import LiveSummary


def live(
    faces: KeptFaceOptions,
    network: NetworkOptions,
    track: TrackOptions,
    messages: MessageOptions,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Camera number, video file or stream address (rtsp://...)."
        ),
    ] = "0",
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE.mp4", help="Record the displayed picture."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for NAME_landmarks.jsonl: one line with landmarks and angles per face and "
            "frame.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing recordings.")
    ] = False,
    window: Annotated[
        bool,
        typer.Option("--window/--no-window", help="Open a window; --no-window needs no display."),
    ] = True,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="LIST",
            help=f"Comma-separated layers shown at the start: {LAYERS_HELP}. Default: all but box "
            "and pose.",
            autocompletion=complete_layers,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Picture size to request from a camera.")
    ] = "640x480",
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime",
            help="Play a file at its own frame rate and drop frames when too slow, as with a "
            "camera.",
        ),
    ] = False,
) -> None:
    """Track faces live: mesh, landmarks, axes and frame rate in a window.

    Keys: m mesh, c contours, l landmarks, a axes, b box, n number, p pose, f frame rate, h help,
    space pause, q or Escape quit. For cameras and streams the newest frame is processed, and
    frames are dropped when the machine is too slow; for files every frame is processed.

    Example: sadr live 0 --record clip.mp4 --out meshes
    """
    say = messages.open()
    which, shown = faces.which, None if layers is None else parse_layers(layers)
    wanted = parse_size(size)
    if not (window or record or out or say.json):
        raise UsageError("--no-window leaves nothing to do: add --record, --out or --json")

    from sadr_cli.live.capture import open_capture
    from sadr_cli.live.picture import SHOWN, Picture
    from sadr_cli.live.record import Recorder, check_record, lines_path
    from sadr_cli.live.session import Session
    from sadr_cli.live.window import Window, check_display

    if record is not None:
        check_record(record, overwrite)
    if window:
        check_display()
    capture = open_capture(source, wanted, realtime)
    lines = None if out is None else lines_path(out, capture.name, overwrite)

    from sadr_cli.pipeline.settings import StopFlag, VideoSettings
    from sadr_cli.reconstructor import Reconstructor

    reconstructor = Reconstructor(network.weights, device=network.device)
    detector = faces.make_detector(str(reconstructor.device))
    video = VideoSettings(
        track.start, track.end, track.frame_step, track.smooth, track.detect_every
    )
    picture = Picture(reconstructor.uv, SHOWN if shown is None else shown)
    stop, screen = StopFlag(), None
    with (
        say.progress(f"Following {printable(capture.label)}") as bar,
        stop.on_signals(say.warn),
        Recorder(record, lines, capture.rate, say.emit) as recorder,
    ):
        try:
            screen = Window() if window else None
            session = Session(
                capture,
                reconstructor,
                detector,
                recorder,
                picture,
                screen,
                video,
                which,
                faces.min_confidence,
                bar.advance,
            )
            summary = session.run(lambda: bool(stop))
        finally:
            if screen is not None:
                screen.close()
    if recorder.problem is not None:
        say.warn(f"{record}: {recorder.problem}")
    _close(say, summary, [path for path in (record, lines) if path is not None])
    if stop:
        leave_interrupted()
    failed = int(summary.error is not None or recorder.problem is not None)
    raise typer.Exit(int(exit_code(summary.frames, failed, len(summary.tracks))))


def parse_size(text: str) -> tuple[int, int]:
    """``640x480`` -> (640, 480)."""
    found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text)
    if found is None:
        raise UsageError(f"--size takes width x height, such as 640x480, not {text!r}")
    return int(found[1]), int(found[2])


def _close(say: Output, summary: LiveSummary, files: list[Path]) -> None:
    if summary.error is not None:
        say.warn(summary.error)
    counts = listed(
        f"{plural(len(summary.tracks), 'track')} in {plural(summary.frames, 'frame')}",
        (summary.dropped, "left out"),
    )
    rate = f"{summary.seconds:.1f} s, {summary.rate:.1f} frames/s"
    where = f" -> {', '.join(map(str, files))}" if files else ""
    say.info(f"{counts} ({rate}){where}")
    say.emit({"summary": {**summary.counts(), "files": [str(path) for path in files]}})
