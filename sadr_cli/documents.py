"""JSON: conversion to plain types, strict output, and parsing of untrusted text."""

from __future__ import annotations

import json
import math
import os
from typing import Any


def plain(value: Any) -> Any:
    """``value`` as JSON types; NaN and infinity, which JSON lacks, become None.

    Accepts NumPy and PyTorch values and paths; TypeError for other types.
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def rounded(values: Any, decimals: int) -> Any:
    """Numbers of any nesting as Python floats, see :func:`plain`; no ``-0.0``."""
    if isinstance(values, (float, int)):  # one number: ten times as fast
        return round(float(values), decimals) + 0.0 if math.isfinite(values) else None
    import numpy as np

    array = np.asarray(values, np.float64).round(decimals) + 0.0
    return array.tolist() if np.isfinite(array).all() else plain(array.tolist())


def compact(value: Any) -> bytes:
    """One line of strict JSON in ASCII, so that file names survive any encoding."""
    return _ENCODER.encode(value).encode()


def indented(value: Any, depth: int = 0) -> str:
    """JSON with one key per line; lists of numbers stay on one line."""
    pad = "  " * (depth + 1)
    if isinstance(value, dict) and value:
        rows = [f"{pad}{_ENCODER.encode(k)}: {indented(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + "  " * depth + "}"
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        if all(isinstance(v, list) for v in value):
            text = _ENCODER.encode(value)
            nested = '"' in text or "{" in text or text.count("[") > len(value) + 1
            if not nested:  # numbers alone: all rows at once
                text = text[1:-1].replace("], [", f"],\n{pad}[")
                return f"[\n{pad}{text}\n{pad[2:]}]"
        rows = [pad + indented(v, depth + 1) for v in value]
        return "[\n" + ",\n".join(rows) + "\n" + "  " * depth + "]"
    if type(value) is float and math.isfinite(value):
        return repr(value)  # like the encoder, but faster
    return _ENCODER.encode(value)


def parse(data: bytes) -> Any:
    """The value of a JSON text; ValueError for invalid JSON, including NaN and infinity."""
    try:
        return _DECODER.decode(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_ENCODER = json.JSONEncoder(allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
