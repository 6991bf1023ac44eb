"""What an attack is: a name, and something to do that must not raise."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

_TYPE = re.compile(r"\b[A-Z]\w+(Error|Exception)\b")  # of Python's


class Case(NamedTuple):
    """``attempt`` raises AssertionError where a promise is broken."""

    name: str
    attempt: Callable[[], object]


class Result(NamedTuple):
    count: int
    failures: list[tuple[str, str]]  # name of the case, what went wrong in one line


def lasting_folder() -> Path:
    """An empty folder that is removed at the end of this process."""
    folder, owner = Path(tempfile.mkdtemp(prefix="sadr-attack-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # no forked child
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def run_all(cases: Iterable[Case]) -> Result:
    """Every case, whatever becomes of the others."""
    count, failures = 0, []
    for case in cases:
        count += 1
        try:
            case.attempt()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
            failures.append((case.name, f"{type(error).__name__} at {where}: {error}"[:300]))
    return Result(count, failures)


def one_sentence(text: str) -> None:
    """AssertionError for a message that no user should see."""
    assert text and text.isprintable(), repr(text)
    assert not _TYPE.search(text) and "Traceback" not in text, text
