"""Against an independent scorer, on real AFLW2000-3D files; skipped where they are not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sadr_cli.evaluation import aflw2000, predictions
from sadr_cli.evaluation.scoring import score

SHARED = Path(os.environ.get("SADR_SHARED", Path(__file__).parents[2] / ".." / "shared"))
DATA = SHARED / "data" / "eval" / "aflw2000_dev"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no shared data here")


@pytest.fixture(scope="module")
def scores():
    benchmark = aflw2000.load(DATA)
    found = predictions.load(DATA / "predictions_3ddfa_v2.npz", benchmark)
    return score(benchmark, found)


@pytest.fixture(scope="module")
def expected():
    return json.loads((DATA / "predictions_3ddfa_v2.expected.json").read_text())


@pytest.mark.parametrize("key", ["nme2d", "nme3d", "nme2d_reannotated"])
@pytest.mark.parametrize("yaw", ["fitted", "new"])
def test_every_nme_of_the_independent_scorer(scores, expected, key, yaw):
    want = expected[key if yaw == "fitted" else f"{key}_new_yaw_bins"]
    got = scores.results[key.replace("nme", "nme_")][yaw]
    assert list(got["bins"].values()) == pytest.approx(want["bins"], abs=1e-6)
    assert got["balanced"] == pytest.approx(want["balanced"], abs=1e-6)
    if "mean" in want:
        assert got["mean"] == pytest.approx(want["mean"], abs=1e-6)
    assert got["count"] == expected["n"]


def test_every_pose_figure_of_the_independent_scorer(scores, expected):
    got = scores.results["pose"]["plain"]
    want = dict(expected["pose"])
    assert got["count"] == want.pop("n")
    for key, value in want.items():
        assert got[key] == pytest.approx(value, abs=1e-6), key
