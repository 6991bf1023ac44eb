"""What targets share: a folder, a finished run, and the rule that errors are one sentence."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from run_folders import go, make_photos

from sadr_cli.errors import SadrError

from .cases import one_sentence


@cache
def folder() -> Path:
    """Where files lie while they are read."""
    return Path(tempfile.mkdtemp(prefix="sadr-fuzz-"))


@cache
def made_run() -> Path:
    """A run's folder, with meshes in several formats and cards."""
    top = Path(tempfile.mkdtemp(prefix="sadr-fuzz-"))
    formats = ("obj", "ply", "glb", "stl", "npz")
    go(make_photos(top / "photos"), top / "run", formats=formats, index=True)
    return top / "run"


def put(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def calmly(read: Callable[[], object]) -> None:
    """One sentence, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except SadrError as error:
            one_sentence(str(error))
