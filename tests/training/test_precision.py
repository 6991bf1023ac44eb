from __future__ import annotations

import itertools

import pytest
import torch

from sadr_cli.model.encoders import create_network
from sadr_cli.model.network import NetworkConfig
from sadr_cli.training import precision

CROPS = torch.randn(2, 3, 64, 64)


@pytest.fixture
def network():
    return create_network(NetworkConfig(64, 32, 0.125))


def clock(*steps: float):
    """A clock that says how long float32 and bfloat16 took."""
    times = itertools.accumulate(itertools.chain([0.0], *([s, 0.0] for s in steps)))
    return lambda: next(times)


@pytest.mark.parametrize(("single", "half", "pays"), [(2.0, 1.0, True), (1.0, 2.0, False)])
def test_the_faster_one_is_taken(network, monkeypatch, single, half, pays) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert precision.bfloat16_pays(network, CROPS, clock(single, half)) is pays
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())  # statistics as well


def test_where_bfloat16_is_imitated_nothing_is_timed(network, monkeypatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)

    def never() -> float:
        raise AssertionError("timed")

    assert precision.bfloat16_pays(network, CROPS, never) is False
