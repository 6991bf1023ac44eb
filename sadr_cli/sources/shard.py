"""Splitting the inputs among several machines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from sadr_cli.errors import NothingToDoError

T = TypeVar("T")


def take_shard(items: Iterator[T], shard: tuple[int, int]) -> Iterator[T]:
    """Every N-th item starting with the K-th (from 0), for ``shard`` (K, N); NothingToDoError if
    there is none."""
    part, parts = shard
    found = False
    for item in islice(items, part, None, parts):
        found = True
        yield item
    if parts > 1 and not found:
        raise NothingToDoError(
            f"nothing to do: there are too few inputs for shard {part + 1}/{parts}"
        )
