"""How much memory something takes at most, wherever it is allocated."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest


def peak_growth(work: Callable[..., Any], *arguments: object) -> int:
    """Bytes by which ``work(*arguments)`` raises the peak of a process.

    A fresh one: the peak of this one may be far above what it holds now. ``work`` is a function of
    a module; the test skips where the system does not tell.
    """
    pytest.importorskip("resource")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(there, work, *arguments))
    process.start()
    there.close()
    try:
        return int(here.recv())
    except EOFError:
        pytest.fail(f"{work.__name__} failed in its process")
    finally:
        process.join()


def _measure(there: Connection, work: Callable[..., Any], *arguments: object) -> None:
    before = _peak()
    work(*arguments)
    there.send(_peak() - before)


def _peak() -> int:
    import resource

    status = Path("/proc/self/status")
    if status.exists():  # what ``getrusage`` says begins with what the parent held at the fork
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
