"""Against an independent scorer, on real AFLW2000-3D files; skipped where they are not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.evaluation.benchmarks.aflw2000 import PROTOCOL
from sadr_cli.evaluation.data import aflw2000, predictions
from sadr_cli.evaluation.settings import Settings

SHARED = Path(os.environ.get("SADR_SHARED", Path(__file__).parents[2] / ".." / "shared"))
DATA = SHARED / "data" / "eval" / "aflw2000_dev"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no shared data here")


@pytest.fixture(scope="module", params=["library", "command"])
def results(request, tmp_path_factory):
    """The figures, from the functions and from report.json of the command."""
    path = DATA / "predictions_3ddfa_v2.npz"
    if request.param == "library":
        benchmark = aflw2000.load(DATA)
        found = predictions.load(path, benchmark)
        return PROTOCOL.score(benchmark, found, Settings("aflw2000")).results
    out = tmp_path_factory.mktemp("report")
    command = ["evaluate", "aflw2000", "--data", DATA, "--predictions", path, "--out", out, "-q"]
    done = CliRunner().invoke(app, [str(part) for part in command])
    assert done.exit_code == 0, done.output
    return json.loads((out / "report.json").read_text("utf-8"))["methods"][0]["results"]


@pytest.fixture(scope="module")
def expected():
    return json.loads((DATA / "predictions_3ddfa_v2.expected.json").read_text())


@pytest.mark.parametrize("key", ["nme2d", "nme3d", "nme2d_reannotated"])
@pytest.mark.parametrize("yaw", ["fitted", "new"])
def test_every_nme_of_the_independent_scorer(results, expected, key, yaw):
    want = expected[key if yaw == "fitted" else f"{key}_new_yaw_bins"]
    got = results[key.replace("nme", "nme_")][yaw]
    assert list(got["bins"].values()) == pytest.approx(want["bins"], abs=1e-6)
    assert got["balanced"] == pytest.approx(want["balanced"], abs=1e-6)
    if "mean" in want:
        assert got["mean"] == pytest.approx(want["mean"], abs=1e-6)
    assert got["count"] == expected["n"]


def test_every_pose_figure_of_the_independent_scorer(results, expected):
    got = results["pose"]["plain"]
    want = dict(expected["pose"])
    assert got["count"] == want.pop("n")
    for key, value in want.items():
        assert got[key] == pytest.approx(value, abs=1e-6), key
