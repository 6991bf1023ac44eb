"""The script that measures videos, on a few frames with the network that ships."""

from __future__ import annotations

from argparse import Namespace
from itertools import islice

import pytest
from shell import ROOT


@pytest.mark.slow
def test_speed_is_that_of_a_whole_run(load_script, rows_of, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = load_script("video")
    given = Namespace(frames=12, rounds=1, weights=None, device="cpu")
    frames, rate, whole, cpu = rows_of("\n".join(script.speed(given)))["1"]
    assert int(frames) == 12 and float(cpu) > 0
    assert float(rate) > float(whole) > 0  # the program's start belongs to the latter


@pytest.mark.slow
def test_faces_of_a_clip_are_compared_with_their_photos(load_script, monkeypatch):
    script = load_script("video")
    read = script.iter_frames
    monkeypatch.setattr(script, "iter_frames", lambda source: islice(read(source), 3))
    given = Namespace(clip=ROOT / "examples" / "faces.mp4", weights=None, device="cpu")
    *_, last = lines = list(script.photos(given))
    assert last.startswith("6 faces: median ") and "0 faces that the photo alone" in last
    degrees = [float(line.split(" | ")[2]) for line in lines[2:-2]]
    assert degrees == sorted(degrees, reverse=True) and len(degrees) == script.SHOWN
    assert f"at most {degrees[0]:.2f} where" in last and 0 < degrees[0] < 2
