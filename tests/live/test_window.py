"""The real window, on a display that nobody sees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from itertools import chain, repeat

import pytest
from shell import environment

from sadr_cli.video.writer import VideoWriter

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


def test_it_opens_takes_keys_and_closes(display, tmp_path, astronaut):
    clip = tmp_path / "clip.mp4"  # longer than any machine takes to find the window
    writer = VideoWriter(clip, 1)
    for k in range(900):
        writer.write(astronaut[:256, 96:352], k)
    writer.close()
    with subprocess.Popen(
        [sys.executable, "-m", "sadr_cli", "live", str(clip), "--record", "seen.mp4"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    ) as shown:
        search = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^sadr live$"]
        subprocess.run([*search, "windowfocus"], check=True, timeout=600)
        for key in chain(["space"], repeat("q", 300)):  # one that has just come may miss a key
            subprocess.run(["xdotool", "key", key], check=True, timeout=600)
            with suppress(subprocess.TimeoutExpired):
                shown.wait(1)
                break
        said = shown.stderr.read()
    assert shown.returncode == 0, said
    assert int(re.search(r"1 track in (\d+) frame", said)[1]) < 900, said
    assert (tmp_path / "seen.mp4").stat().st_size > 1000
