"""A fixed number of damaged files for every reader; ``fuzz.py`` looks further."""

from __future__ import annotations

import pytest
from damage import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_bytes_are(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for data in (*seeds, b"", b"\0" * 100):
        target.read(data)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(seeds) | st.binary(max_size=100))
    def attempt(data: bytes) -> None:
        target.read(data)

    attempt()
