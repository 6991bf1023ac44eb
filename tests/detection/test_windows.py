"""The parts of a picture that a network looks at."""

from __future__ import annotations

import numpy as np
import pytest

from sadr_cli.detection.windows import SIDE, around, strips


def box(x: float, y: float, size: float = 12) -> list[float]:
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


@pytest.mark.parametrize("middle", [(5, 5), (640, 400), (1279, 799), (300, 798)])
def test_a_hint_is_told_by_a_window_that_shows_its_surroundings(middle) -> None:
    x, y = middle
    hints = np.array([box(x, y)])
    (window,) = around(hints, 800, 1280)
    assert window.counts(hints).all()
    assert window.rows.stop - window.rows.start == window.columns.stop - window.columns.start == 160
    assert 0 <= window.columns.start <= max(x - 30, 0) and min(x + 30, 1280) <= window.columns.stop
    assert 0 <= window.rows.start <= max(y - 30, 0) and min(y + 30, 800) <= window.rows.stop


def test_hints_side_by_side_share_a_window_and_each_is_told() -> None:
    rng = np.random.default_rng(0)
    hints = np.array(
        [box(*rng.uniform((0, 0), (1280, 960))) for _ in range(12)] + [box(20, 30)] * 5
    )
    windows = around(hints, 960, 1280)
    assert len(windows) <= 13
    assert np.any([window.counts(hints) for window in windows], axis=0).all()


def test_many_hints_and_small_pictures_are_looked_at_as_a_whole() -> None:
    everywhere = np.array([box(x, y) for x in range(0, 640, 40) for y in range(0, 480, 40)])
    assert around(everywhere, 480, 640) is None
    assert around(everywhere[:1], SIDE - 1, 640) is None


@pytest.mark.parametrize("shape", [(480, 640), (2560, 1920), (1920, 2560)])
def test_strips_tell_every_face_once(shape) -> None:
    height, width = shape
    rows = np.array([box(width / 3, y) for y in range(-5, height + 5, 7)])
    told = np.sum([strip.counts(rows) for strip in strips(height, width)], axis=0)
    assert (told == 1).all()
