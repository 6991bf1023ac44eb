from __future__ import annotations

import numpy as np
import pytest

from sadr_cli.evaluation.measures.compare import paired_difference

RNG = np.random.default_rng(0)


def test_the_same_errors_differ_by_nothing():
    a = RNG.gamma(3, 1, 60)
    s = paired_difference(a, a, resamples=500)["mean"]
    assert (s["difference"], s["low"], s["high"], s["p"]) == (0, 0, 0, 1)


def test_a_constant_difference_is_certain():
    a = RNG.gamma(3, 1, 60)
    s = paired_difference(a, a + 0.5, resamples=500)["mean"]
    assert s["difference"] == pytest.approx(0.5)
    assert s["low"] == pytest.approx(0.5)
    assert s["p"] < 0.01


def test_the_interval_covers_the_textbook_one():
    a, b = RNG.normal(3, 1, (2, 400))
    s = paired_difference(a, b, resamples=4000)["mean"]
    half = 1.96 * (b - a).std(ddof=1) / np.sqrt(400)
    assert s["low"] == pytest.approx((b - a).mean() - half, abs=0.02)
    assert s["high"] == pytest.approx((b - a).mean() + half, abs=0.02)


def test_bins_and_balanced_and_missing_faces():
    yaw = np.repeat([0.0, 45.0, 80.0], 10)
    a = RNG.gamma(3, 1, 30)
    a[-1] = np.nan
    s = paired_difference(a, a + yaw / 10, yaw, resamples=200)
    assert s["count"] == 29
    assert s["60-90"]["count"] == 9
    assert s["30-60"]["difference"] == pytest.approx(4.5)
    assert s["balanced"]["difference"] == pytest.approx((0 + 4.5 + 8) / 3)
    assert s["balanced"]["low"] == pytest.approx(s["balanced"]["high"])


def test_a_handful_of_faces_gets_no_interval():
    s = paired_difference([1, 2, 3], [2, 3, 4], [0, 45, 80], resamples=200)
    assert s["mean"]["difference"] == 1
    assert np.isnan(s["mean"]["low"])
    assert np.isnan(s["balanced"]["p"])


def test_the_seed_decides():
    a, b = RNG.normal(3, 1, (2, 50))
    first, again, other = (paired_difference(a, b, seed=k, resamples=300) for k in (1, 1, 2))
    assert first["mean"] == again["mean"]
    assert first["mean"] != other["mean"]
