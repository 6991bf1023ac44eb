"""Bytes that are nearly those of a real file."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

WORDS = (b"\n", b'"', b"{", b"]", b"-", b"nan", b"1e999", b"null", b"\\u0000", b"../", b"9" * 400)


@st.composite
def damaged(draw, seeds: Sequence[bytes]) -> bytes:
    """A seed with a few bytes changed, left out, doubled or put in."""
    out = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
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
