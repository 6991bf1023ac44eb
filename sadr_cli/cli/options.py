"""Options that several commands share, in groups by theme.

A command takes a group as one parameter; :mod:`.command` makes options of its fields::

    def detect(inputs: InputOptions, faces: FaceOptions, messages: MessageOptions) -> None:
        for source in inputs.sources(): ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from sadr_cli.cli.output import Output, remember_verbosity
from sadr_cli.cli.parse import check_span, parse_faces, parse_shard
from sadr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sadr_cli.protocols import FaceDetector
    from sadr_cli.sources import Source


def complete(*words: str) -> Callable[[str], list[str]]:
    """For ``autocompletion``: the words that start as typed; in a list by commas, the last one."""

    def matching(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in words if word.startswith(last)]

    return matching


_FORMATS = (
    *("glb", "obj", "ply", "usdz", "stl", "npz", "pts", "csv", "camera", "coefficients"),
    *("texture", "uvmap", "attention", "visibility", "depth", "normals", "pncc"),
)
complete_formats = complete(*_FORMATS)
complete_all_formats = complete(*_FORMATS, "onnx", "torchscript", "safetensors")
MESH_HELP = (
    "By commas. Meshes: glb (its colours show everywhere), obj, ply, usdz, stl, npz. Also: pts, "
    "csv, camera, coefficients, texture, uvmap, attention, visibility, depth, normals, pncc."
)
complete_frame = complete("image", "metric", "canonical")
complete_layers = complete("mesh", "contours", "landmarks", "axes", "box", "number", "pose")


def complete_detectors(incomplete: str) -> list[str]:
    """The detectors that can run here."""
    from sadr_cli.detection import runnable_detectors

    return [name for name in runnable_detectors() if name.startswith(incomplete)]


def complete_weights(incomplete: str) -> list[str]:
    """Names of installed weights."""
    from sadr_cli.model.checkpoint import available_weights

    return [name for name in available_weights() if name.startswith(incomplete)]


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps.",
        autocompletion=complete("auto", "cpu", "cuda", "mps"),
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="PATH|NAME",
        envvar="SADR_WEIGHTS",
        help="Checkpoint file, or the name of installed weights.",
        show_default=False,
        autocompletion=complete_weights,
    ),
]
BatchSizeOption = Annotated[
    str, typer.Option("--batch-size", metavar="auto|N", help="Faces per batch.")
]
DetectorOption = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="NAME",
        help="centerface, none (the photo is the face), or another that `sadr doctor` lists.",
        autocompletion=complete_detectors,
    ),
]
TextureSizeOption = Annotated[
    int | None,
    typer.Option(
        "--texture-size",
        metavar="N",
        help="Texture of N x N texels in GLB, USDZ and OBJ; 0: vertex colours. By default 512, "
        "and vertex colours in OBJ.",
        show_default=False,
    ),
]
FaceModelOption = Annotated[
    Path | None,
    typer.Option(
        "--face-model",
        metavar="FILE",
        help="Linear face model (npz) that --format coefficients are of.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, metavar="N", help="Threads that read, and that write.", show_default=False
    ),
]
FailOnNoFaceOption = Annotated[
    bool, typer.Option("--fail-on-no-face", help="Count a photo without a face as failed.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON lines on standard output, the last one a summary.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No messages but warnings and errors.")
]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        callback=remember_verbosity,
        metavar="",
        help="Say more; -vv shows tracebacks.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class InputOptions:
    """Photos and videos, and which part of them."""

    TITLE: ClassVar[str] = "Inputs"

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Photos, folders, globs or videos; - reads names, or one photo, from standard "
            "input.",
            show_default=False,
        ),
    ] = None
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into subfolders as well.")
    ] = False
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="LIST", help="Read inputs from a file, one a line."),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="K/N",
            help="Only the Kth of N equal parts of the inputs, for N machines.",
            show_default=False,
        ),
    ] = None
    max_pixels: Annotated[
        int,
        typer.Option("--max-pixels", min=1, metavar="MEGAPIXELS", help="Refuse larger photos."),
    ] = 200

    @property
    def limit(self) -> int:
        """--max-pixels in pixels."""
        return self.max_pixels * 1_000_000

    @property
    def part(self) -> tuple[int, int]:
        """--shard, see :func:`.parse.parse_shard`."""
        return parse_shard(self.shard)

    def sources(self, tell: Callable[[str], None] | None = None) -> Iterator[Source]:
        """All inputs, whatever --shard says; ``tell`` as for :func:`iter_sources`."""
        from sadr_cli.sources import iter_sources

        return iter_sources(
            self.inputs, recursive=self.recursive, from_file=self.from_file, tell=tell
        )


@dataclass(frozen=True)
class FaceOptions:
    """Which faces of a photo."""

    TITLE: ClassVar[str] = "Faces"

    faces: Annotated[
        str,
        typer.Option(
            "--faces",
            metavar="largest|all|N",
            help="Which faces of a photo. The main person, by size and place, is face 0.",
            autocompletion=complete("largest", "all"),
        ),
    ] = "all"
    min_score: Annotated[
        float,
        typer.Option(
            "--min-score",
            min=0,
            max=1,
            metavar="X",
            help="Leave out faces of a lower score, from 0 to 1.",
            show_default=False,
        ),
    ] = 0.0
    min_size: Annotated[
        float,
        typer.Option(
            "--min-size",
            min=0,
            metavar="PIXELS",
            help="Leave out faces whose box is smaller.",
            show_default=False,
        ),
    ] = 0.0
    detector: DetectorOption = "centerface"

    def limits(self) -> dict[str, float]:
        """--min-score and --min-size, where they are given."""
        given = {"min_score": self.min_score, "min_size": self.min_size}
        return {name: value for name, value in given.items() if value}

    @property
    def which(self) -> str | int:
        """--faces, see :func:`.parse.parse_faces`."""
        return parse_faces(self.faces)

    def make_detector(self, device: str) -> FaceDetector:
        """What finds these faces; see ``create_detector``."""
        from sadr_cli.detection import create_detector

        return create_detector(self.detector, device, self.which, self.min_score, self.min_size)


@dataclass(frozen=True)
class SpanOptions:
    """Which frames of a video."""

    TITLE: ClassVar[str] = "Videos"

    start: Annotated[
        float, typer.Option("--start", min=0, metavar="SECONDS", help="Where to begin.")
    ] = 0.0
    end: Annotated[
        float | None,
        typer.Option("--end", metavar="SECONDS", help="Where to end.", show_default=False),
    ] = None
    frame_step: Annotated[
        int, typer.Option("--frame-step", min=1, metavar="N", help="Every Nth frame.")
    ] = 1

    def check(self) -> None:
        """UsageError unless --end comes after --start."""
        check_span(self.start, self.end)


@dataclass(frozen=True)
class TrackOptions(SpanOptions):
    """Which frames of a video, and how its faces are followed."""

    smooth: Annotated[
        str,
        typer.Option(
            "--smooth",
            metavar="off|light|strong",
            help="How much trembling is taken out.",
            autocompletion=complete("off", "light", "strong"),
        ),
    ] = "light"
    detect_every: Annotated[
        int,
        typer.Option(
            "--detect-every", min=1, metavar="N", help="Look for new faces in every Nth frame."
        ),
    ] = 30

    def check(self) -> None:
        super().check()
        if self.smooth not in ("off", "light", "strong"):
            raise UsageError(f"--smooth takes off, light or strong, not {self.smooth!r}")


@dataclass(frozen=True)
class KeptFaceOptions(FaceOptions):
    """Which faces of a photo, and which of the reconstructed ones."""

    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            min=0,
            max=1,
            metavar="X",
            help="Leave out reconstructed faces of a lower confidence, from 0 to 1.",
            show_default=False,
        ),
    ] = 0.0


@dataclass(frozen=True)
class NetworkOptions:
    """The network and where it runs."""

    TITLE: ClassVar[str] = "Network"

    weights: WeightsOption = None
    device: DeviceOption = "auto"


@dataclass(frozen=True)
class MessageOptions:
    """What is said, and how."""

    TITLE: ClassVar[str] = "Messages"

    json: JsonOption = False
    quiet: QuietOption = False
    verbose: VerboseOption = 0

    def open(self, results: bool = False) -> Output:
        """results: the command prints its results, so that a closed standard output is an error
        before any work is done."""
        return Output(self.quiet, self.verbose, self.json, results)
