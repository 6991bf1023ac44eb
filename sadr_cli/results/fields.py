"""Type-checked reading of values from untrusted JSON objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sadr_cli.files import is_safe_name

_LARGE = 10**9  # beyond any number of faces, frames or pixels
_FAR = 1e12  # beyond any coordinate


class Damaged(ValueError):
    """An unusable document; the message says what is wrong with it."""


_REQUIRED = object()


class Fields:
    """Reads values of a JSON object, each checked by a function of this module.

    Called with a key, its check and, for optional values, a default. Raises Damaged, which names
    the value.
    """

    def __init__(self, document: Any, what: str) -> None:
        if not isinstance(document, dict):
            raise Damaged(f"{what} is not a JSON object")
        self._document, self._what = document, what

    def __call__(self, key: str, check: Callable[[Any], Any], default: Any = _REQUIRED) -> Any:
        value = self._document.get(key)
        if value is None:
            if default is _REQUIRED:
                raise Damaged(f"{self._what} has no {key}")
            return default
        try:
            return check(value)
        except Damaged:
            raise
        except (TypeError, ValueError) as error:
            raise Damaged(f"{self._what} has {key} {value!r:.60}") from error


def text(value: Any) -> str:
    """Any text that is valid in a path."""
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    return value


def number(value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not abs(value) <= _FAR:
        raise TypeError
    return float(value)


def count(value: Any) -> int:
    """A non-negative integer."""
    if type(value) is not int or not 0 <= value < _LARGE:
        raise TypeError
    return value


def array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def numbers(value: Any) -> tuple[float, ...]:
    return tuple(number(v) for v in array(value))


def texts(value: Any) -> tuple[str, ...]:
    return tuple(text(v) for v in array(value))


def matrix(*shape: int) -> Callable[[Any], list[Any]]:
    """A check for nested lists of numbers of that shape."""

    def check(value: Any, depth: int = 0) -> list[Any]:
        if len(array(value)) != shape[depth]:
            raise ValueError
        for part in value:
            number(part) if depth + 1 == len(shape) else check(part, depth + 1)
        return array(value)

    return check


def file_name(value: Any) -> str:
    """A file name; a path before it is removed."""
    name = text(value)
    if "/" in name or "\\" in name:
        name = re.split(r"[/\\]", name)[-1]
    if not is_safe_name(name):
        raise ValueError
    return name
