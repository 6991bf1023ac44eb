"""The real window, on a display that nobody sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from shell import ROOT, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="needs Xvfb and xdotool"
    ),
]


@pytest.fixture
def display(monkeypatch):
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        name = ":" + os.read(reader, 20).decode().strip()
        monkeypatch.setenv("DISPLAY", name)
        yield name
        server.terminate()
    os.close(reader)


def test_it_opens_takes_keys_and_closes(display, tmp_path):
    command = [sys.executable, "-m", "sadr_cli", "live", str(ROOT / "examples" / "faces.mp4")]
    with subprocess.Popen(
        [*command, "--record", "seen.mp4"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    ) as shown:
        search = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^sadr live$"]
        subprocess.run(search, check=True, timeout=60, stdout=subprocess.DEVNULL)
        subprocess.run(["xdotool", "key", "space"], check=True, timeout=30)  # of 60 frames a few
        subprocess.run(["xdotool", "key", "q"], check=True, timeout=30)
        _, said = shown.communicate(timeout=60)
    assert shown.returncode == 0, said
    assert "tracks in" in said
    assert (tmp_path / "seen.mp4").stat().st_size > 1000
