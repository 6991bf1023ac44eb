"""A part of the attacks, in a few seconds; ``python -m tests.attack`` makes them all."""

from __future__ import annotations

import itertools

import pytest

from . import images
from .cases import run_all

FAMILIES = [images]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rpartition(".")[2])
def test_a_part_of_the_attacks(family) -> None:
    """Every eleventh case; the whole has the marker ``slow``."""
    result = run_all(itertools.islice(family.cases(), 0, None, 11))
    assert result.count > 3 and not result.failures


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rpartition(".")[2])
def test_all_of_the_attacks(family) -> None:
    result = run_all(family.cases())
    assert result.count >= family.LEAST and not result.failures
