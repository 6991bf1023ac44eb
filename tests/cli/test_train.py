"""``sadr train``: what its options become, and what it says while it runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from clusters import until
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import MissingDataError
from sadr_cli.training.config import PRESETS
from sadr_cli.training.session import Progress


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stands in for the loop: reports twice, and keeps what it was called with."""
    seen: dict = {}

    def train(settings, out, *, observe, warn, **more):
        seen.update(vars(settings), out=out, **more)
        out.mkdir(exist_ok=True)
        observe(Progress(step=10, samples=160, done=0.5, losses={"G": 0.25, "P": 0.5}))
        observe(Progress(step=20, samples=320, done=1.0, losses={}, validation={"nme": 3.5}))
        warn("the labels of 3 photos are doubtful")
        return out / "trained.safetensors"

    monkeypatch.setattr("sadr_cli.training.session.train", train)

    def call(*arguments: object):
        command = ["train", "shards", "--face-model", "model.npz", "--out", str(tmp_path / "run")]
        return CliRunner().invoke(app, [*command, *map(str, arguments)]), seen

    return call


def test_settings_reach_the_run(trained) -> None:
    changes = (
        *("train.steps=700", "batch_size=6", "lr=0.001", "seed=5", "clean=0.1", "average=0.99"),
        *("augment.profiling=0.25", "loss.visible=2", "run.piece=2", "compact=true", "name=mine"),
        *("teacher=official", "distill=0.3"),
    )
    settings = [part for change in changes for part in ("--set", change)]
    result, seen = trained("--preset", "lite", "--no-resume", *settings)
    assert result.exit_code == 0, result.stderr
    config, options = seen["config"], seen["run"]
    assert (config.batch_size, config.lr, config.seed, config.clean) == (6, 0.001, 5, 0.1)
    assert (config.steps, config.distill, config.average, config.loss.visible) == (
        700,
        0.3,
        0.99,
        2,
    )
    assert config.augment.profiling == 0.25
    assert options.piece == 2 * 2**20 and options.compact
    assert seen["name"] == "mine" and seen["resume"] is False
    assert seen["data"].teacher == "official" and seen["data"].train == ("shards",)


def test_the_settings_in_force_are_saved_and_start_the_same_again(trained, tmp_path) -> None:
    first, seen = trained("--preset", "lite", "--set", "lr=0.002", "--set", "variant=direct")
    assert first.exit_code == 0, first.stderr
    saved = tmp_path / "run" / "settings.toml"
    text, config = saved.read_text(), seen["config"]
    second, seen = trained("--config", saved, "--set", "name=again")
    assert second.exit_code == 0, second.stderr
    assert seen["config"] == config and seen["name"] == "again"
    assert saved.read_text() == text.replace('"trained"', '"again"')


def test_settings_are_shown_without_training(trained) -> None:
    result, seen = trained("--show", "--preset", "lite", "--set", "steps=7")
    assert result.exit_code == 0 and not seen
    assert "steps = 7" in result.stdout.splitlines() and "[augment]" in result.stdout


@pytest.mark.parametrize("missing", ["--out", "--face-model", "DATA"])
def test_what_no_run_can_do_without_is_named(missing: str) -> None:
    command = {"--out": ["--out", "run"], "--face-model": ["--face-model", "m"], "DATA": ["shards"]}
    del command[missing]
    result = CliRunner().invoke(
        app, ["train", *(part for pair in command.values() for part in pair)]
    )
    assert result.exit_code == 2
    assert ("training data" if missing == "DATA" else missing) in result.stderr


def test_what_is_not_given_is_the_presets(trained) -> None:
    for name, preset in PRESETS.items():
        result, seen = trained("--preset", name)
        assert result.exit_code == 0, result.stderr
        assert seen["config"].batch_size == preset.batch_size
        assert seen["config"].augment == preset.augment and seen["config"].distill == 0


def test_progress_is_said_on_stderr_and_as_json_lines(trained) -> None:
    result, _ = trained("--json", "-v")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[0] == {"step": 10, "samples": 160, "G": 0.25, "P": 0.5}
    assert lines[1]["nme"] == 3.5
    assert "step 10, 160 samples: G 0.2500" in result.stderr
    assert "step 20: nme 3.50 %" in result.stderr
    assert "warning: the labels of 3 photos" in result.stderr
    assert "trained.safetensors" in result.stderr


def test_quiet_leaves_only_warnings(trained) -> None:
    result, _ = trained("--quiet")
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["warning: the labels of 3 photos are doubtful"]


def test_unknown_presets_and_variants_are_named(trained) -> None:
    result, _ = trained("--preset", "huge")
    assert result.exit_code == 2 and "paper, full, lite, mobile" in result.stderr
    result, _ = trained("--set", "variant=huge")
    assert result.exit_code == 2 and "no-attention" in result.stderr


def test_missing_data_is_exit_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "nothing", "--face-model", "no.npz", "--out", "run"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == MissingDataError.exit_code
    assert result.stderr.startswith("error: ") and not (tmp_path / "run").exists()


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, monkeypatch) -> None:
    def train(settings, out, *, stop, **_):
        signal.raise_signal(signal.SIGINT)
        until(stop)
        return out / "trained.safetensors"

    monkeypatch.setattr("sadr_cli.training.session.train", train)
    command = ["train", "shards", "--face-model", "model.npz", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 130
    assert "stopping" in result.stderr and "interrupted, run again to resume" in result.stderr
