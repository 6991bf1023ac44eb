"""Options that several commands share, in groups.

A command takes a group as one parameter; :mod:`.command` turns its fields into options::

    def detect(inputs: InputOptions, faces: FaceOptions, messages: MessageOptions) -> None:
        for source in inputs.sources(): ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from sadr_cli.cli.command import complete
from sadr_cli.cli.output import Output, remember_verbosity
from sadr_cli.cli.parse import parse_faces, parse_shard
from sadr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sadr_cli.protocols import FaceDetector
    from sadr_cli.sources import Source


_FORMATS = (
    *("glb", "obj", "ply", "usdz", "stl", "npz", "pts", "csv", "camera", "coefficients"),
    *("texture", "uvmap", "attention", "visibility", "depth", "normals", "pncc"),
)
complete_formats = complete(*_FORMATS)
complete_all_formats = complete(*_FORMATS, "onnx", "torchscript", "safetensors")
MESH_HELP = (
    "Comma-separated list. Meshes: glb (every viewer shows its colours), obj, ply, usdz, stl, npz. "
    "Also: pts, csv, camera, coefficients, texture, uvmap, attention, visibility, depth, normals, "
    "pncc."
)
LAYERS_HELP = "mesh, contours, landmarks, axes, box, number, pose"
complete_layers = complete(*LAYERS_HELP.split(", "))
FrameChoice = Literal["image", "metric", "canonical"]
JawChoice = Literal["surface", "contour"]


def complete_detectors(incomplete: str) -> list[str]:
    """The detectors that can run on this machine."""
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
        help="Checkpoint file, or name of installed weights.",
        autocompletion=complete_weights,
    ),
]
BatchSizeOption = Annotated[
    str, typer.Option("--batch-size", metavar="auto|N", help="Number of faces per batch.")
]
DetectorOption = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="NAME",
        help="centerface, none (the whole photo is one face), or another detector that "
        "`sadr doctor` lists.",
        autocompletion=complete_detectors,
    ),
]
TextureSizeOption = Annotated[
    int | None,
    typer.Option(
        "--texture-size",
        metavar="N",
        help="Size of the texture in GLB, USDZ and OBJ: N x N texels; 0 for vertex colours. "
        "Default: 512 in GLB and USDZ, vertex colours in OBJ.",
    ),
]
FaceModelOption = Annotated[
    Path | None,
    typer.Option(
        "--face-model", metavar="FILE", help="Linear face model (npz) for --format coefficients."
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, metavar="N", help="Number of reading and of writing threads."),
]
FailOnNoFaceOption = Annotated[
    bool, typer.Option("--fail-on-no-face", help="Count photos without a face as failed.")
]


@dataclass(frozen=True)
class InputOptions:
    """Photos and videos, and which part of them."""

    TITLE: ClassVar[str] = "Inputs"

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Photos, videos, folders or glob patterns; - reads a list of names, or one "
            "photo, from standard input.",
        ),
    ] = None
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Search subfolders as well.")
    ] = False
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="LIST", help="File that lists inputs, one per line."),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="K/N",
            help="Process only part K of N equal parts, to share the inputs among N machines.",
        ),
    ] = None
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", min=1, metavar="MEGAPIXELS", help="Reject larger photos.")
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
            help="Faces to process per photo. Face 0 is the main person, judged by size and "
            "position.",
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
            help="Ignore faces with a detection score below X (0 to 1).",
            show_default=False,
        ),
    ] = 0.0
    min_size: Annotated[
        float,
        typer.Option(
            "--min-size",
            min=0,
            metavar="PIXELS",
            help="Ignore faces with a smaller bounding box.",
            show_default=False,
        ),
    ] = 0.0
    detector: DetectorOption = "centerface"

    def limits(self) -> dict[str, float]:
        """--min-score and --min-size, where given."""
        given = {"min_score": self.min_score, "min_size": self.min_size}
        return {name: value for name, value in given.items() if value}

    @property
    def which(self) -> str | int:
        """--faces, see :func:`.parse.parse_faces`."""
        return parse_faces(self.faces)

    def make_detector(self, device: str) -> FaceDetector:
        """The detector for these faces, see ``create_detector``."""
        from sadr_cli.detection import create_detector

        return create_detector(self.detector, device, self.which, self.min_score, self.min_size)


@dataclass(frozen=True)
class SpanOptions:
    """Which frames of a video."""

    TITLE: ClassVar[str] = "Videos"

    start: Annotated[
        float, typer.Option("--start", min=0, metavar="SECONDS", help="Time of the first frame.")
    ] = 0.0
    end: Annotated[
        float | None, typer.Option("--end", metavar="SECONDS", help="Time at which to stop.")
    ] = None
    frame_step: Annotated[
        int, typer.Option("--frame-step", min=1, metavar="N", help="Process every Nth frame.")
    ] = 1

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"--end {self.end:g} must come after --start {self.start:g}")


@dataclass(frozen=True)
class TrackOptions(SpanOptions):
    """Which frames of a video, and how its faces are tracked."""

    smooth: Annotated[
        Literal["off", "light", "strong"],
        typer.Option("--smooth", help="Amount of temporal smoothing."),
    ] = "light"
    detect_every: Annotated[
        int,
        typer.Option(
            "--detect-every", min=1, metavar="N", help="Look for new faces in every Nth frame."
        ),
    ] = 30


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
            help="Ignore reconstructed faces with a confidence below X (0 to 1).",
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
    """What is printed, and how."""

    TITLE: ClassVar[str] = "Messages"

    json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON lines on standard output; the last is a summary."),
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")
    ] = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            callback=remember_verbosity,
            metavar="",
            help="Print more; -vv also prints tracebacks.",
            show_default=False,
        ),
    ] = 0

    def open(self, results: bool = False) -> Output:
        """results: the command prints its results, so a closed standard output is an error before
        any work is done."""
        return Output(self.quiet, self.verbose, self.json, results)
