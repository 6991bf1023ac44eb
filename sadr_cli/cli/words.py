"""Counts in words."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(first: str, *counts: tuple[int, str]) -> str:
    """``first`` and, by commas, the counts that are not zero."""
    return ", ".join([first, *(f"{number} {what}" for number, what in counts if number)])
