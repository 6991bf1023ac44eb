"""The process of a command: streams, environment, signals, exit.

Imports nothing slow: until :func:`prepare` has run, Ctrl-C shows a traceback.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from sadr_cli.errors import ExitCode, UsageError

BROKEN_PIPE = 141  # 128 + SIGPIPE, as usual for tools in a pipe
_SIZES = ("COLUMNS", "LINES")
_IMPORTER = "<frozen importlib._bootstrap>"
# Allocations between two runs of the garbage collector. With the default of 700, a command that
# imports 70,000 permanent objects would spend a tenth of its start in the collector.
_GARBAGE = 20_000


def prepare() -> None:
    """To be called first: opens closed streams, cleans the environment, and makes signals end the
    command with one sentence. A second call changes nothing."""
    gc.set_threshold(_GARBAGE, *gc.get_threshold()[1:])
    _open_streams()
    _clean_environment()
    if not sys.warnoptions:  # hide libraries' warnings about damaged files
        warnings.simplefilter("ignore")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    # NumPy's own threads wait for one another by spinning, and ours fill the processors anyway.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Ignored signals stay ignored: nohup, background jobs of scripts.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _open_streams() -> None:
    """Replace closed standard streams with the null device.

    Otherwise the next opened file would become standard output and receive what is printed. They
    are opened in the opposite direction, so that reading and writing still fails.
    """
    modes = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
    for number, mode in enumerate(modes):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _clean_environment() -> None:
    """Remove values that break libraries."""
    for name in _SIZES:  # rich prints nothing on a terminal of zero width
        if _is_odd(os.environ.get(name)):
            del os.environ[name]
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and any(_is_odd(part.strip()) for part in threads.split(",")):
        del os.environ["OMP_NUM_THREADS"]
        message = f"warning: OMP_NUM_THREADS={threads!r} is not a thread count and is ignored\n"
        with suppress(OSError):
            os.write(2, message.encode("ascii", "backslashreplace"))


def _is_odd(number: str | None) -> bool:
    return number is not None and not (number.isdecimal() and int(number) > 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt, or end the process at once during an import, which could swallow the
    exception."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            with suppress(OSError):
                os.write(2, b"error: interrupted\n")
            os._exit(int(ExitCode.INTERRUPTED))
        frame = frame.f_back
    raise KeyboardInterrupt


def check_working_folder() -> None:
    """UsageError if it was deleted: libraries would end the process without a message."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise UsageError("the working folder no longer exists: change to another one") from error


def leave_interrupted() -> NoReturn:
    """Exit with the code of an interruption, after flushing all output.

    A thread that still waits for names from a pipe would make Python abort on exit.
    """
    import typer

    from sadr_cli.pipeline.feed import NAME

    if any(thread.name == NAME for thread in threading.enumerate()):
        flush()
        os._exit(int(ExitCode.INTERRUPTED))
    raise typer.Exit(int(ExitCode.INTERRUPTED))


def flush() -> None:
    """Flush the streams at the end of the process; without a reader, the data is dropped, so that
    Python's own flush stays silent. Also skips the last garbage collection, which takes 0.2 s."""
    gc.freeze()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
