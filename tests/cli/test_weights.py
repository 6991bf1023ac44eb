"""``sadr weights``, and the way of the public checkpoint through all commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import PHOTOS
from public import public_state
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.model.checkpoint import Checkpoint, find_weights, load_checkpoint, save_checkpoint
from sadr_cli.model.network import NetworkConfig, SADRNet


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SADR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SADR_WEIGHTS", raising=False)
    return tmp_path / "home"


def sadr(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def public_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like ``net_021.pth``: the public names and shapes, filled by a rule."""
    uv = load_checkpoint(find_weights("mobile")).uv
    mean = np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)
    path = tmp_path_factory.mktemp("public") / "net_021.pth"
    torch.save(public_state(mean), path)
    return path


@pytest.mark.slow
def test_the_public_checkpoint_serves_reconstruct_and_evaluate_by_name(
    public_file: Path, home: Path, tmp_path: Path
) -> None:
    result = sadr("weights", "import", public_file)
    assert result.exit_code == 0, result.stderr
    assert (home / "weights" / "official.safetensors").is_file()
    assert "--weights official" in result.stderr and result.stdout == ""

    listed = [json.loads(line) for line in sadr("weights", "list", "--json").stdout.splitlines()]
    assert {w["name"] for w in listed} == {"mobile", "official"}
    assert [w["name"] for w in listed if w["default"]] == ["mobile"]

    out = tmp_path / "meshes"
    photo = PHOTOS / "hopper.jpg"
    options = ("--weights", "official", "--device", "cpu")
    result = sadr("reconstruct", photo, "--out", out, "--format", "npz", *options)
    assert result.exit_code == 0, result.stderr
    with np.load(out / "hopper.npz") as arrays:
        assert arrays["vertices"].shape == (43867, 3) and np.isfinite(arrays["vertices"]).all()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["weights"]["name"] == "official"

    folder = tmp_path / "labelled"
    folder.mkdir()
    shutil.copy(photo, folder)
    points = np.random.default_rng(0).uniform((180, 160), (350, 330), (68, 2))
    (folder / "hopper.pts").write_text(
        "version: 1\nn_points: 68\n{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n"
    )
    result = sadr("evaluate", folder, "--out", tmp_path / "evaluation", *options)
    assert result.exit_code == 0, result.stderr
    report = (tmp_path / "evaluation" / "report.json").read_text()
    assert '"official"' in report


def test_an_import_never_replaces_unasked(public_file: Path, home: Path, tmp_path: Path) -> None:
    target = home / "weights" / "mine.safetensors"
    target.parent.mkdir(parents=True)
    target.write_text("precious")
    result = sadr("weights", "import", public_file, "--name", "mine")
    assert result.exit_code == 2 and "--overwrite" in result.stderr
    assert target.read_text() == "precious"
    for name in ("../mine", "a/b", ".mine"):
        assert sadr("weights", "import", public_file, "--name", name).exit_code == 2
    other = tmp_path / "elsewhere"
    result = sadr("weights", "import", public_file, "--out", other)
    assert result.exit_code == 0, result.stderr
    assert str(other / "official.safetensors") in result.stderr


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_what_is_not_the_public_checkpoint_is_said(home: Path, tmp_path: Path, content) -> None:
    file = tmp_path / "net_021.pth"
    file.write_bytes(content)
    result = sadr("weights", "import", file)
    assert result.exit_code == 5 and "net_021.pth" in result.stderr
    assert not (home / "weights").exists()


def test_another_network_is_refused_by_its_first_odd_key(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, file)
    result = sadr("weights", "import", file)
    assert result.exit_code == 5 and "not the public SADRNet checkpoint" in result.stderr


def test_show_says_what_a_checkpoint_says_of_itself(uv, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    network = SADRNet(NetworkConfig(input_size=64, width=0.25))
    digest = save_checkpoint(
        Checkpoint(network, uv, name="tiny", provenance={"samples": 3}, license="mine"), path
    )
    result = sadr("weights", "show", path)
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and document["sha256"] == digest
    assert document["name"] == "tiny" and document["license"] == "mine"
    assert document["network"]["input_size"] == 64 and document["provenance"] == {"samples": 3}
    assert sadr("weights", "show", "none-such").exit_code == 5


def test_without_any_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sadr_cli.model.checkpoint.weights_folders", lambda: [tmp_path])
    result = sadr("weights", "list")
    assert result.exit_code == 5 and "reinstall" in result.stderr


def test_a_state_that_is_not_there(tmp_path: Path) -> None:
    result = sadr("weights", "from-state", tmp_path / "state.pt", "--out", tmp_path / "a.pth")
    assert result.exit_code == 2 and ".safetensors" in result.stderr
    there = tmp_path / "a.safetensors"
    there.write_text("precious")
    result = sadr("weights", "from-state", tmp_path / "state.pt", "--out", there)
    assert result.exit_code == 2 and there.read_text() == "precious"
    result = sadr(
        "weights", "from-state", tmp_path / "state.pt", "--out", tmp_path / "b.safetensors"
    )
    assert result.exit_code == 5 and "state.pt" in result.stderr
