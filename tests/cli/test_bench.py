from __future__ import annotations

import json

import pytest
import torch
from synthetic import layout
from typer.testing import CliRunner

from sadr_cli.bench import Row, markdown
from sadr_cli.cli import app
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.network import NetworkConfig, SADRNet


@pytest.fixture
def small(monkeypatch):
    """Small networks in the place of the shipped and of the full one."""
    torch.manual_seed(0)
    checkpoint = Checkpoint(SADRNet(NetworkConfig(64, 64, 0.25)).eval(), layout(), name="small")
    from sadr_cli import reconstructor
    from sadr_cli.bench import network

    real = reconstructor.Reconstructor
    monkeypatch.setattr(
        reconstructor,
        "Reconstructor",
        lambda weights=None, device="cpu": real(checkpoint, device, runtime="torch"),
    )
    tiny = SADRNet(NetworkConfig(256, 64, 0.1)).eval()
    monkeypatch.setattr(network, "_full", lambda: Checkpoint(tiny, layout()))


@pytest.mark.slow
def test_bench_of_the_network(small):
    result = CliRunner().invoke(app, ["bench", "--device", "cpu", "--rounds", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows[0]["ratio"] == 1 and all(r["value"] > 0 for r in rows)
    assert {r["group"] for r in rows} == {"network", "alignment"}


@pytest.mark.slow
def test_bench_of_whole_runs(small, photos, monkeypatch):
    from sadr_cli.bench import runs

    monkeypatch.setattr(runs, "_network_rate", lambda reconstructor: 10.0)
    command = ["bench", str(photos / "astronaut.jpg"), "--device", "cpu", "--rounds", "1"]
    result = CliRunner().invoke(app, [*command, "--count", "3", "--memory", "20", "--markdown"])
    assert result.exit_code == 0, result.stderr
    assert "sadr reconstruct, obj" in result.stdout and "first face in all" in result.stdout
    assert "after 20 photos" in result.stdout and "3 faces of 3 photos" in result.stdout


def test_tables():
    text = markdown([Row("network", "eager", 1234.5, "ms per face", 1.0, "<= 0.6", "note")])
    assert (
        text.splitlines()[-1]
        == "| network | eager | 1,234 ms per face | 1.000 | note; target: <= 0.6 |"
    )


@pytest.mark.slow
def test_counted_work_and_the_limits_of_a_card():
    from sadr_cli.bench.network import card_limits, counted_work

    network = SADRNet(NetworkConfig(64, 64, 0.25)).eval()
    operations, a_face, a_batch = counted_work(network)
    weights = sum(p.numel() for p in network.parameters())
    assert 0.9 * weights < a_batch < 1.1 * weights
    assert operations > 2 * weights and a_face > 3 * 64 * 64
    larger = counted_work(SADRNet(NetworkConfig(128, 128, 0.25)).eval())
    assert larger[0] == pytest.approx(4 * operations, rel=0.05)
    assert larger[1] == pytest.approx(4 * a_face, rel=0.05)
    assert all(limit > 1e6 for limit in card_limits(torch.device("cpu"), 128))
