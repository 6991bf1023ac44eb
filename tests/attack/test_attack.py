"""A part of the attacks, in a few seconds; ``python -m tests.attack`` makes them all."""

from __future__ import annotations

import itertools
import os

import pytest

from . import faults, folders, images, looked_at, meshes, stopped, weights
from .cases import run_all

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="names, links and signals of POSIX"),
    pytest.mark.filterwarnings("ignore"),  # of decoders, about damaged files
]
PART = [images, faults, folders, meshes, weights, stopped]  # test_hostile.py has detect's
FAMILIES = [*PART, looked_at]


@pytest.mark.parametrize("family", PART, ids=lambda f: f.__name__.rpartition(".")[2])
def test_a_part_of_the_attacks(family) -> None:
    """Every eleventh case."""
    result = run_all(itertools.islice(getattr(family, "quick", family.cases)(), 0, None, 11))
    assert result.count > 2 and not result.failures


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rpartition(".")[2])
def test_all_of_the_attacks(family) -> None:
    result = run_all(family.cases())
    assert result.count >= family.LEAST and not result.failures
