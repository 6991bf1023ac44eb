"""Numbers as USD's text has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.writers.obj import format_fixed


def tuples(values: NDArray[Any], decimals: int) -> str:
    """``(x, y, z), (x, y, z)...`` of an array (N, 3)."""
    text = format_fixed(values, decimals)
    width = text.shape[1] // values.shape[1]
    cells = text.reshape(len(values), values.shape[1], width)
    comma = np.full((len(values), values.shape[1], 1), ord(","), np.uint8)
    comma[:, -1] = ord(")")
    opening = np.full((len(values), 1), ord("("), np.uint8)
    closing = np.full((len(values), 1), ord(","), np.uint8)
    closing[-1] = 0
    rows = np.concatenate([cells, comma], 2).reshape(len(values), -1)
    out = np.concatenate([opening, rows, closing], 1)
    return out[out != 0].tobytes().decode("ascii")


def numbers(values: NDArray[Any], decimals: int) -> str:
    """``x, y...`` of an array (N,)."""
    text = format_fixed(values, decimals)
    comma = np.full((len(values), 1), ord(","), np.uint8)
    comma[-1] = 0
    out = np.concatenate([text, comma], 1)
    return out[out != 0].tobytes().decode("ascii")
