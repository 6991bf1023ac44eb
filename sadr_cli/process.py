"""The process around a command: streams, environment, signals, the end.

Imports nothing that takes time: until :func:`prepare` has run, Ctrl-C shows a traceback.
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

BROKEN_PIPE = 141  # 128 + SIGPIPE, as any other tool in a pipe
_SIZES = ("COLUMNS", "LINES")
_IMPORTER = "<frozen importlib._bootstrap>"
# New containers between two searches for garbage in circles: by default 700, and a command that
# imports 70,000 that all stay spends a tenth of its start on them.
_GARBAGE = 20_000


def prepare() -> None:
    """Before anything else: streams that are there, an environment that libraries can read,
    an end in one sentence for every signal. A second call changes nothing."""
    gc.set_threshold(_GARBAGE, *gc.get_threshold()[1:])
    _open_streams()
    _clean_environment()
    if not sys.warnoptions:  # what libraries think of a damaged file is not for the user
        warnings.simplefilter("ignore")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    # NumPy's own threads wait for one another by spinning, and ours fill the processors anyway.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What is ignored stays so: nohup, jobs in the background of a script.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _open_streams() -> None:
    """Standard streams that were closed become the null device.

    Otherwise the next file opened would take the place of standard output, and get what is
    printed. They are opened the other way round, so that reading and writing them still fails.
    """
    modes = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
    for number, mode in enumerate(modes):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _clean_environment() -> None:
    """Take out what libraries stumble over."""
    for name in _SIZES:  # rich shows nothing on a terminal of no width
        if _is_odd(os.environ.get(name)):
            del os.environ[name]
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and any(_is_odd(part.strip()) for part in threads.split(",")):
        del os.environ["OMP_NUM_THREADS"]
        message = f"warning: OMP_NUM_THREADS={threads!r} is no number of threads and is ignored\n"
        with suppress(OSError):
            os.write(2, message.encode("ascii", "backslashreplace"))


def _is_odd(number: str | None) -> bool:
    return number is not None and not (number.isdecimal() and int(number) > 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """KeyboardInterrupt; an import, in which it may be swallowed or become another error, and
    which leaves nothing half done, is ended at once."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            with suppress(OSError):
                os.write(2, b"error: interrupted\n")
            os._exit(int(ExitCode.INTERRUPTED))
        frame = frame.f_back
    raise KeyboardInterrupt


def check_working_folder() -> None:
    """UsageError when it was deleted: libraries would end the process without a word."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise UsageError(
            "the working folder is not there any more: change to another one"
        ) from error


def leave_interrupted() -> NoReturn:
    """End with the code of an interruption, all output being written.

    A thread that still waits for names in a pipe would make Python abort at its own end.
    """
    import typer

    from sadr_cli.pipeline.feed import NAME

    if any(thread.name == NAME for thread in threading.enumerate()):
        flush()
        os._exit(int(ExitCode.INTERRUPTED))
    raise typer.Exit(int(ExitCode.INTERRUPTED))


def flush() -> None:
    """Write what is buffered; what has no reader is dropped, so that Python's own last flush
    stays silent. For the end of a process: its last search for garbage, 0.2 s, finds nothing."""
    gc.freeze()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
