"""JSON as it is written: one key a line, rows of numbers side by side."""

import json

import numpy as np
import pytest

from sadr_cli.documents import indented, rounded


@pytest.mark.parametrize(
    "value",
    [
        [[1.5, 2.0], [3, None]],
        [[], [True]],
        [[[1]], []],
        [[[], []], 5],
        [[{}], [{"a": 1}]],
        [["], [", "b"], ["c"]],
        {"points": [[0.1, -2.5e-7]], "name": 'a "b"'},
    ],
)
def test_indented_reads_back(value) -> None:
    assert json.loads(indented(value)) == value


def test_rows_of_numbers_are_lines() -> None:
    assert indented({"a": [[1, 2], [3, 4]]}) == '{\n  "a": [\n    [1, 2],\n    [3, 4]\n  ]\n}'
    assert indented([[[1]], [2]]) == "[\n  [\n    [1]\n  ],\n  [2]\n]"


def test_numbers_that_json_lacks_become_none() -> None:
    assert rounded(np.array([[1.23456, np.nan], [-0.0001, np.inf]]), 2) == [[1.23, None], [0, None]]
    assert rounded(np.float32(0.5), 1) == 0.5
    assert str(rounded(-0.0001, 2)) == "0.0"
