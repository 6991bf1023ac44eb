"""The ablation script: each variant once, and its figures beside the paper's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from sadr_cli.cli import app
from sadr_cli.training.config import VARIANTS
from sadr_cli.training.settings import resolve


def test_every_variant_runs_once_and_is_compared_with_the_paper(
    load_script, tmp_path, monkeypatch, capsys
) -> None:
    script = load_script("ablation")
    calls = []
    group = typer.main.get_command(app)

    def sadr(name: str, *arguments: str) -> None:
        given = group.get_command(None, name).make_context(name, [*arguments]).params  # they exist
        calls.append((name, given))
        if name == "evaluate":
            results = {
                "nme_2d": {"fitted": {"mean": 5.0}},
                "nme_3d": {"fitted": {"mean": 6.0}},
                "dense_2d": {"mean": 7.0},
                "dense_3d": {"mean": 8.0},
                "reconstruction": {"mean": 9.0},
            }
            out = Path(given["out"])
            out.mkdir(parents=True)
            (out / "report.json").write_text(json.dumps({"methods": [{"results": results}]}))

    monkeypatch.setattr(script, "sadr", sadr)
    model = tmp_path / "model.npz"
    model.touch()
    arguments = ["shards", "--face-model", str(model), "--aflw2000", str(tmp_path)]
    arguments += ["--out", str(tmp_path / "out"), "--", "--preset", "lite", "--set", "steps=7"]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *arguments])
    script.main()
    assert [name for name, _ in calls] == ["train", "evaluate"] * len(VARIANTS)
    trained = [given for name, given in calls if name == "train"]
    settings = [resolve(changes=given["changes"], preset=given["preset"]) for given in trained]
    assert {s.variant for s in settings} == set(VARIANTS) == {s.name for s in settings}
    assert all((s.preset, s.config.steps) == ("lite", 7) for s in settings)
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + len(VARIANTS)
    assert rows[-1] == (
        "| `sadrnet` | 5.00 / 3.05 | 6.00 / 4.33 | 7.00 / 2.93 | 8.00 / 4.02 | 9.00 / 3.25 |"
    )
    calls.clear()
    script.main()
    assert calls == []
