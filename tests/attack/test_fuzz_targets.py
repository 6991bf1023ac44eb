"""A fixed number of damaged files for every reader; ``fuzz.py`` looks further."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .targets import TARGETS

WORDS = (b"\n", b'"', b"{", b"]", b"-", b"nan", b"1e999", b"null", b"\\u0000", b"../", b"9" * 400)


@st.composite
def damaged(draw, seeds: list[bytes]) -> bytes:
    """A seed with a few bytes changed, left out, doubled or put in; or any bytes."""
    out = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at, size = draw(st.integers(0, max(len(out) - 1, 0))), draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["change", "cut", "double", "insert", "end"]))
        if kind == "change":
            out[at : at + size] = draw(st.binary(max_size=size))
        elif kind == "cut":
            del out[at : at + size]
        elif kind == "double":
            out[at:at] = out[at : at + size]
        elif kind == "insert":
            out[at:at] = draw(st.sampled_from(WORDS))
        else:
            del out[at:]
    return bytes(out)


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
