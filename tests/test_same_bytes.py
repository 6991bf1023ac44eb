"""The same inputs give the same bytes, however the work is split."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import ROOT
from typer.testing import CliRunner

from sadr_cli.cli import app

PHOTOS = ("astronaut.jpg", "hopper.jpg", "group.jpg")


def reconstruct(out: Path, photos: list[Path], *options: str) -> dict[str, bytes]:
    """Result files of a run -> their bytes, times and the machine's own paths left out."""
    command = ["reconstruct", *map(str, photos), "--out", str(out), "--device", "cpu", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {
        name: data
        for name, data in files.items()
        if Path(name).name not in ("manifest.json", "index.html") and "lock" not in name
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    names = [name for name in PHOTOS if (ROOT / "examples/photos" / name).exists()]
    for name in names:
        (folder / name).write_bytes((ROOT / "examples/photos" / name).read_bytes())
    assert len(names) > 1
    return sorted(folder.iterdir())


@pytest.mark.slow
def test_whatever_jobs_batches_and_runs(photos, tmp_path):
    pytest.importorskip("openvino")
    overlay = ["--overlay"]
    expected = reconstruct(tmp_path / "a", photos, "--jobs", "1", "--batch-size", "1", *overlay)
    kinds = {Path(name).suffix for name in expected}
    assert {".obj", ".json", ".jpg", ".csv"} <= kinds and len(expected) > 10
    found = reconstruct(tmp_path / "b", photos, "--jobs", "8", "--batch-size", "32", *overlay)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    # Two runs into one folder, as after an interruption.
    reconstruct(tmp_path / "c", photos[1:2], *overlay)
    resumed = reconstruct(tmp_path / "c", photos, *overlay)
    assert [name for name in expected if resumed[name] != expected[name]] == []
