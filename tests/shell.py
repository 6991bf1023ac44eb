"""Running ``sadr`` as users do: by its name, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(folder: Path) -> dict[str, str]:
    """An environment whose PATH has ``sadr``, of this source tree; HOME is ``folder``."""
    wrapper = folder / "bin" / "sadr"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sadr_cli "$@"\n')
    wrapper.chmod(0o755)
    found = {
        **os.environ,
        "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
    }
    found.pop("SADR_WEIGHTS", None)  # the shipped ones
    return found


def run(folder: Path, *command: str | Path, timeout: float = 900, cwd: Path | None = None) -> str:
    """Standard output of a command run in ``cwd``, by default ``folder``, with the environment of
    ``folder``; AssertionError when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd or folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
