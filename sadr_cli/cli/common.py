"""What the commands share: options, messages on stderr, JSON lines on stdout, progress.

A command looks like this::

    def detect(
        inputs: Inputs = None,
        detector: DetectorOption = "centerface",
        faces: FacesOption = "all",
        json: JsonOption = False,
        quiet: QuietOption = False,
        verbose: VerboseOption = 0,
    ) -> None:
        '''First line: what `sadr --help` shows. The rest: `sadr detect --help`.'''
        out = Output(quiet=quiet, verbose=verbose, json=json)
        keep = parse_faces(faces)  # "largest", "all" or an int
        with out.progress("Detecting", total=None) as bar:
            for item in ...:
                bar.advance()
                out.warn("photo.jpg: no face found")
                out.emit({"file": ..., "box": ...})  # one JSON line; nothing without --json
        out.info("12 faces in 3 photos")
        raise typer.Exit(exit_code(done=3, failed=0, faces=12))

Options (``Annotated`` types; give the default in the signature)
    Inputs list[str] | None, RecursiveOption bool, FromFileOption Path | None,
    DeviceOption str = "auto", WeightsOption str | None, BatchSizeOption str = "auto",
    DetectorOption str = "centerface", FacesOption str = "all", BoxesOption str | None,
    StartOption float = 0.0, EndOption float | None, FrameStepOption int = 1 (video),
    JobsOption int | None, ShardOption str | None, OverwriteOption bool, FailOnNoFaceOption bool,
    MaxPixelsOption int (megapixels) = 200,
    SeedOption int = 0, JsonOption bool, QuietOption bool, VerboseOption int = 0.

complete("obj", "ply") -> what an option's autocompletion takes, for lists by commas too.

Parsers (raise UsageError)
    parse_faces(text) -> "largest" | "all" | int
    parse_batch_size(text) -> int | None      None = auto
    parse_shard(text) -> (part, parts)        for take_shard(items, shard)
    parse_formats(text, frame, texture_size) -> tuple of names of writers

Output(quiet, verbose, json)
    .info(text)    stderr, unless --quiet
    .detail(text)  stderr, with -v
    .warn(text)    stderr, always: something was skipped or failed, the run goes on
    .print(renderable)  a rich table or the like on stderr, unless --quiet
    .emit(record)  one JSON line on stdout with --json, flushed; numpy and Path values are
                   converted, NaN and infinity become null
    .progress(label, total=None) -> context manager; bar.advance(n=1), bar.update(total=..,
                   label=..); draws only on a terminal and unless --quiet

exit_code(done, failed, faces=None, no_face=0, fail_on_no_face=False) -> ExitCode
    the code of a run over many inputs: 0, 3 or 4.

Errors: raise a SadrError. ``main`` prints it as one sentence and leaves with its code; other
exceptions become "internal error" and 1, with the traceback only with -vv or SADR_DEBUG=1.
Text is printed as it is, never as rich markup, and control characters are escaped, so file
names are safe in every message.
"""

from __future__ import annotations

import json as _json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from sadr_cli.errors import ExitCode, NothingToDoError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

T = TypeVar("T")

_state = {"verbose": 0}


def _remember_verbosity(value: int) -> int:
    _state["verbose"] = value
    return value


def complete(*words: str) -> Callable[[str], list[str]]:
    """For ``autocompletion``: the words that start as typed; in a list by commas, the last one."""

    def matching(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in words if word.startswith(last)]

    return matching


complete_formats = complete(
    *("obj", "ply", "glb", "usdz", "stl", "npz", "pts", "csv", "camera", "texture", "uvmap"),
    *("attention", "visibility", "depth", "normals", "pncc"),
)


def _complete_weights(incomplete: str) -> list[str]:
    from sadr_cli.model.checkpoint import available_weights

    return [name for name in available_weights() if name.startswith(incomplete)]


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Photos, folders, globs or videos; - reads names, or one photo, from standard input.",
        show_default=False,
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="Look into subfolders as well.")
]
FromFileOption = Annotated[
    Path | None,
    typer.Option("--from-file", metavar="LIST", help="Read inputs from a file, one a line."),
]
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
        autocompletion=_complete_weights,
    ),
]
BatchSizeOption = Annotated[
    str, typer.Option("--batch-size", metavar="auto|N", help="Faces a batch.")
]
DetectorOption = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="NAME",
        help="centerface, sfd, blazeface, yunet, retinaface or none.",
        autocompletion=complete("centerface", "sfd", "blazeface", "yunet", "retinaface", "none"),
    ),
]
FacesOption = Annotated[
    str,
    typer.Option(
        "--faces",
        metavar="largest|all|N",
        help="Which faces of a photo, by size.",
        autocompletion=complete("largest", "all"),
    ),
]
BoxesOption = Annotated[
    str | None,
    typer.Option(
        "--boxes",
        metavar="FILE",
        help="Take faces from the JSON lines of `sadr detect --json`; - is standard input.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Redo what is already there.")]
FailOnNoFaceOption = Annotated[
    bool, typer.Option("--fail-on-no-face", help="Count a photo without a face as failed.")
]
MaxPixelsOption = Annotated[
    int,
    typer.Option("--max-pixels", min=1, metavar="MEGAPIXELS", help="Refuse larger photos."),
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
StartOption = Annotated[
    float, typer.Option("--start", min=0, metavar="SECONDS", help="Video: where to begin.")
]
EndOption = Annotated[
    float | None,
    typer.Option("--end", metavar="SECONDS", help="Video: where to end.", show_default=False),
]
FrameStepOption = Annotated[
    int, typer.Option("--frame-step", min=1, metavar="N", help="Video: every Nth frame.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, metavar="N", help="Threads that read, and that write.", show_default=False
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Only the Kth of N equal parts of the inputs, for N machines.",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON lines on standard output, the last one a summary.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        callback=_remember_verbosity,
        metavar="",
        help="Say more; -vv shows tracebacks.",
        show_default=False,
    ),
]


def parse_faces(text: str) -> str | int:
    """``largest``, ``all`` or a positive number of faces a photo."""
    if text in ("largest", "all"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--faces takes largest, all or a number of at least 1, not {text!r}")


def parse_batch_size(text: str) -> int | None:
    """A positive number, or None for ``auto``."""
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--batch-size takes auto or a number of at least 1, not {text!r}")


def parse_formats(text: str, frame: str, texture_size: int | None = None) -> tuple[str, ...]:
    """Known formats in the order given, once each; checks frame and texture size as well."""
    from sadr_cli.writers import FRAMES, create_writer
    from sadr_cli.writers.compose import check_texture_size

    if frame not in FRAMES:
        raise UsageError(f"--frame takes {', '.join(FRAMES)}, not {frame!r}")
    check_texture_size(texture_size)
    names = [part for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError("--format needs at least one format, such as obj")
    return tuple(dict.fromkeys(create_writer(name).format for name in names))


def parse_shard(text: str | None) -> tuple[int, int]:
    """``3/16`` -> (2, 16): every 16th input from the third on; None: all."""
    if text is None:
        return 0, 1
    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and 0 < int(part) <= int(parts):
        return int(part) - 1, int(parts)
    raise UsageError(f"--shard takes K/N with K from 1 to N, such as 3/16, not {text!r}")


def take_shard(items: Iterator[T], shard: tuple[int, int]) -> Iterator[T]:
    """The part of ``items`` that :func:`parse_shard` names; NothingToDoError when it is empty."""
    part, parts = shard
    found = False
    for item in islice(items, part, None, parts):
        found = True
        yield item
    if parts > 1 and not found:
        raise NothingToDoError(
            f"nothing to do: there are fewer inputs than shard {part + 1}/{parts} begins with"
        )


def check_span(start: float, end: float | None) -> None:
    """UsageError unless --end comes after --start."""
    if end is not None and end <= start:
        raise UsageError(f"--end {end:g} must come after --start {start:g}")


def exit_code(
    done: int,
    failed: int,
    faces: int | None = None,
    no_face: int = 0,
    fail_on_no_face: bool = False,
) -> ExitCode:
    """The code of a run over many inputs.

    done: inputs that went through, faceless ones included; failed: inputs with an error;
    faces: faces found in all (None: the run does not look for faces);
    no_face: inputs among ``done`` without a face.
    """
    if failed or (fail_on_no_face and no_face):
        return ExitCode.SOME_FAILED
    if done == 0 or faces == 0:
        return ExitCode.NOTHING
    return ExitCode.OK


def leave_interrupted() -> NoReturn:
    """End with the code of an interruption, all output being written.

    A thread that still waits for names in a pipe would make Python abort at its own end.
    """
    import threading

    from sadr_cli.pipeline.feed import NAME

    if any(thread.name == NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ExitCode.INTERRUPTED))
    raise typer.Exit(int(ExitCode.INTERRUPTED))


# --- messages -------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _make_console(stream: Any) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def console() -> Console:
    """The rich console on the present ``sys.stderr``; keeps NO_COLOR and draws no colour in
    a file."""
    return _make_console(sys.stderr)


def printable(text: str) -> str:
    """``text`` on one line: control characters and undecodable bytes escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _line(text: str, label: str = "", label_style: str = "", style: str = "") -> None:
    from rich.text import Text

    console().print(Text.assemble((label, label_style), (printable(text), style)))


def print_error(text: str) -> None:
    _line(text, "error: ", "bold red")


def print_traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)


def wants_traceback() -> bool:
    return _state["verbose"] >= 2 or os.environ.get("SADR_DEBUG", "") not in ("", "0")


class Output:
    """Where a command talks: eyes on stderr, data on stdout. See the module's docstring."""

    def __init__(self, quiet: bool = False, verbose: int = 0, json: bool = False) -> None:
        if quiet and verbose:
            raise UsageError("--quiet and --verbose exclude each other")
        self.quiet = quiet
        self.verbose = verbose
        self.json = json

    def info(self, text: str) -> None:
        if not self.quiet:
            _line(text)

    def detail(self, text: str) -> None:
        if self.verbose:
            _line(text, style="dim")

    def warn(self, text: str) -> None:
        _line(text, "warning: ", "yellow")

    def print(self, renderable: Any) -> None:
        if not self.quiet:
            console().print(renderable)

    def emit(self, record: dict[str, Any]) -> None:
        if self.json:
            sys.stdout.write(json_line(record) + "\n")
            sys.stdout.flush()

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[ProgressBar]:
        """A bar on a terminal, otherwise nothing; messages printed meanwhile stay above it."""
        if self.quiet or not console().is_terminal:
            yield ProgressBar()
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
        with Progress(*columns, console=console(), transient=True) as progress:
            yield ProgressBar(progress, progress.add_task(printable(label), total=total))


class ProgressBar:
    """Counts; draws only when it was given a rich progress display."""

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None) -> None:
        self._progress = progress
        self._task = task
        self.completed = 0

    def advance(self, n: int = 1) -> None:
        self.completed += n
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, n)

    def update(self, total: int | None = None, label: str | None = None) -> None:
        if self._progress is not None and self._task is not None:
            text = None if label is None else printable(label)
            self._progress.update(self._task, total=total, description=text)


# --- JSON -----------------------------------------------------------------------------------


def json_line(record: dict[str, Any]) -> str:
    """``record`` as one line of strict JSON in ASCII (odd file names survive any encoding)."""
    return _json.dumps(_plain(record), allow_nan=False, separators=(", ", ": "))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} does not fit into JSON")
