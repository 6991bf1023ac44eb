"""Command line, Markdown tables and photos of training shards, for the scripts in this folder."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import SadrError
from sadr_cli.evaluation.measures.metrics import BIN_NAMES
from sadr_cli.model.face_model import FaceModel

YAW_COLUMNS = [*BIN_NAMES, "balanced", "mean"]


def parser(documentation: str | None) -> ArgumentParser:
    """A parser described by the first paragraph of a script's docstring."""
    description = (documentation or "").split("\n\n")[0]
    return ArgumentParser(description=description, formatter_class=ArgumentDefaultsHelpFormatter)


def run(
    parser: ArgumentParser,
    work: Callable[[Namespace], Iterable[str]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Print the lines of ``work`` as they are made; an error becomes a sentence and exit code."""
    options = parser.parse_args(arguments)
    try:
        for line in work(options):
            print(line, flush=True)
    except SadrError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    return 0


def labelled_photos(
    shard: dict[str, NDArray[Any]], rows: Iterable[int], model: FaceModel
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """RGB image and landmarks (68, 2), in its pixels, of rows of a training shard."""
    marks = model.layout.landmark_indices
    for i in rows:
        picture = shard["webp"][shard["offset"][i] : shard["offset"][i + 1]]
        image = np.ascontiguousarray(cv2.imdecode(picture, cv2.IMREAD_COLOR)[..., ::-1])
        shape = model.decode(shard["coeff"][i])[0, marks]
        points = shard["scale"][i] * shape @ shard["rotation"][i].T + shard["translation"][i]
        yield image, points[:, :2] * (1, -1)


def head(*columns: str) -> Iterator[str]:
    """The first two lines of a table: names on the left, figures on the right."""
    yield row(*columns)
    yield "|---|" + "--:|" * (len(columns) - 1)


def row(*cells: Any) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def yaw_cells(figures: dict[str, Any]) -> list[float]:
    """The figures by yaw, balanced and mean, of a result of ``sadr evaluate``."""
    return [*(figures["bins"][name] for name in BIN_NAMES), figures["balanced"], figures["mean"]]


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if math.isfinite(cell) else "-"
    return "-" if cell is None else str(cell)
