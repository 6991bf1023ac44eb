"""``sadr detect`` over a folder of files that nobody should trust, in one run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from fakes import FakeDetector
from hostile import FORMATS, SUFFIX, encoded, make
from typer.testing import CliRunner

from sadr_cli.cli import app

from .cases import Case, one_sentence

LEAST = 499


@cache
def _corpus() -> tuple[Path, dict[str, str]]:
    """The folder, and what is expected of each file: good, bad or any."""
    folder = Path(tempfile.mkdtemp(prefix="sadr-attack-")) / "in"
    expected = make(folder)
    rng = np.random.default_rng(2)
    for format in FORMATS:
        whole, end = encoded(format), SUFFIX.get(format, format.lower())
        for number in range(32):
            data = bytearray(whole)
            for place in rng.integers(0, len(data) if number % 2 else 60, 1 + number // 2):
                data[place] = rng.integers(256)
            name = f"more/{format}{number}.{end}"
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data[: len(data) - number * len(data) // 64])
            expected[name] = "any"
    return folder, expected


@cache
def _told() -> tuple[dict[str, Any], str]:
    """What was said of each file, and on standard error."""
    folder, _ = _corpus()
    out = folder.parent
    command = ["detect", str(folder), "-r", "--json", "--max-pixels", "50", "--faces", "2"]
    command += ["--crops", str(out / "crops"), "--overlay", str(out / "drawn")]
    with patch("sadr_cli.pipeline.detect.create_detector", lambda *a: FakeDetector()):
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 3, result.stderr[-500:]
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {os.path.relpath(x["file"], folder): x for x in lines[:-1]}, result.stderr


def cases() -> Iterator[Case]:
    for name, verdict in _corpus()[1].items():
        yield Case(name, lambda name=name, verdict=verdict: _check(name, verdict))
    yield Case("nothing is said on several lines, and nothing is an internal error", _check_said)


def _check(name: str, verdict: str) -> None:
    told, _ = _told()
    assert name in told, "not named"
    error = told[name].get("error")
    if error is not None:
        one_sentence(error)
    assert verdict == "any" or (error is None) == (verdict == "good"), f"{verdict}: {error}"


def _check_said() -> None:
    _, said = _told()
    assert "Traceback" not in said and "internal error" not in said and "\x1b" not in said
