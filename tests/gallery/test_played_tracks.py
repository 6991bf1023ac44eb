"""Tracks that play in index.html."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib

import numpy as np
import pytest
from browser import browser, needs_browser
from fakes import FakeDetector, FakeReconstructor
from synthetic import layout

from sadr_cli.gallery import cards, write_page
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.pose import euler_to_matrix, matrix_to_quaternion
from sadr_cli.render.coarse import FRAMES, QUANTUM_MM, encode_motion, is_motion, page_grid
from sadr_cli.sources import SourceList
from sadr_cli.video.writer import VideoWriter

UV = layout(0.25)  # FakeReconstructor's


def made_up(frames=50, targets=2):
    generator = np.random.default_rng(3)
    yaws = np.linspace(-40, 40, frames)
    turns = np.array([matrix_to_quaternion(euler_to_matrix(yaw, 0, 0)) for yaw in yaws])
    moved = generator.normal(0, 3, (targets, UV.vertex_count, 3))
    weights = generator.uniform(0, 1, (frames, targets))
    return np.arange(frames) / 25, turns, moved, weights


def unpacked(text):
    """As the page's script does it."""
    data = zlib.decompress(base64.b64decode(text))
    n, k = np.frombuffer(data, "<u4", 2)
    times = np.frombuffer(data, "<f4", n, 8)
    turns = np.frombuffer(data, "<i2", 4 * n, 8 + 4 * n).reshape(n, 4) / 32767
    weights = np.frombuffer(data, "<u2", n * k, 8 + 12 * n).reshape(n, k) / 65535
    steps = np.frombuffer(data, "<i2", offset=8 + n * (12 + 2 * k))
    return (
        times,
        turns,
        steps.reshape(k, 3, len(page_grid(UV).vertices)).transpose(0, 2, 1) * QUANTUM_MM,
        weights,
    )


def test_tracks_come_back():
    times, turns, targets, weights = made_up()
    text = encode_motion(times, turns, targets, weights, UV)
    assert is_motion(text, UV)
    back = unpacked(text)
    np.testing.assert_allclose(back[0], times, atol=1e-6)
    np.testing.assert_allclose(back[1], turns, atol=1e-4)
    np.testing.assert_allclose(back[2], targets[:, page_grid(UV).vertices], atol=0.51 * QUANTUM_MM)
    np.testing.assert_allclose(back[3], weights, atol=1e-4)


def test_long_tracks_are_thinned_and_still_ones_have_no_targets():
    times, turns, targets, weights = made_up(2 * FRAMES + 1, 1)
    back = unpacked(encode_motion(times, turns, targets, weights, UV))[0]
    assert FRAMES / 2 < len(back) <= FRAMES and back[-1] > 0.98 * times[-1]
    text = encode_motion(times, None, targets[:0], weights[:, :0], UV)
    assert is_motion(text, UV) and (unpacked(text)[1] == (1, 0, 0, 0)).all()


@pytest.mark.parametrize("damage", [b"", b"\1\0\0\0\0\0\0\0", b"\xff" * 8, b"\2\0\0\0\1\0\0\0" * 9])
def test_what_does_not_fit_the_page_is_no_track(damage):
    assert not is_motion(base64.b64encode(zlib.compress(damage)).decode(), UV)
    assert not is_motion("AAAA", UV)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over a video of a face that stands still; its card is made to move."""
    folder = tmp_path_factory.mktemp("played")
    writer = VideoWriter(folder / "own.mp4", 10)
    picture = np.full((160, 200, 3), 40, np.uint8)
    picture[50:90, 60:100] = 255
    for k in range(6):
        writer.write(picture, k / 10)
    writer.close()
    works = (Work(s) for s in [SourceList().source(folder / "own.mp4")])
    out = folder / "run"
    run(works, FakeReconstructor(), FakeDetector, RunSettings(out, ("glb",), index=True))
    return out


def line_of(path):
    return re.search(r'id="p0">\n(.*?)\n</script>', path.read_text(), re.S)[1].split(" ")


def test_a_run_over_a_video_brings_its_tracks(made):
    (card,) = cards.read_cards(made, "own").values()
    times, turns, targets, _ = unpacked(card.motion)
    np.testing.assert_allclose(times, np.arange(6) / 10, atol=1e-3)
    np.testing.assert_allclose(turns, [[1, 0, 0, 0]] * 6, atol=1e-3)
    assert len(targets) == 0
    assert line_of(write_page(made, UV))[4] == card.motion


def test_a_damaged_track_leaves_the_still_mesh(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    path = cards.cards_path(folder, "own")
    for damage in ("AAAA", "not base64!", 7):
        document = json.loads(path.read_text())
        document[0]["motion"] = damage
        path.write_text(json.dumps(document))
        page = write_page(folder, UV)
        if damage == "AAAA":
            assert line_of(page)[4] == "-" != line_of(page)[2]
        else:
            assert str(damage) not in re.findall(r'id="p0">.*?</script>', page.read_text(), re.S)


@needs_browser
@pytest.mark.slow
def test_it_plays_in_a_browser(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    path = cards.cards_path(folder, "own")
    document = json.loads(path.read_text())
    document[0]["motion"] = encode_motion(*made_up(), UV)
    path.write_text(json.dumps(document))
    with browser() as view:
        view.open(write_page(folder, UV))
        view.click(".card")
        view.wait("state !== null && !$('play').hidden")
        view.click("#play")
        view.wait("state.turn[2] < -0.2")
        view.wait("state.turn[2] > 0.2")
        view.click("#play")
        assert view.value("$('play').innerText") == "Play" and view.console == []
