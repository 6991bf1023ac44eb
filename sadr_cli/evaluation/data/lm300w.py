"""300-W (Sagonas et al., ICCVW 2013) and similar data sets: images with ``.pts`` files.

Two styles of ``.pts`` are read: the usual one (``version: 1``, ``n_points: 68``, points between
braces) and plain ``x y`` lines. Subfolders (afw, helen, ibug, 01_Indoor...) are searched and
reported separately. 300-W's points were annotated in MATLAB, where the first pixel is 1;
published NMEs use the numbers as written, and so does the default here (``origin`` 1 subtracts 1).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.benchmark import (
    IMAGE_SUFFIXES,
    Array,
    Benchmark,
    data_folder,
    list_files,
    read_truth,
    settle,
)
from sadr_cli.folder import read_file
from sadr_cli.text import decode

FOLDER = "300W"
HINT = (
    "get 300-W from ibug.doc.ic.ac.uk/resources/300-W and name the folder that holds the images "
    f"and their .pts files with --data, or put it at SADR_DATA/{FOLDER}"
)
_HEADER = re.compile(r"\s*(version|n_points)\s*:\s*(\S+)\s*$", re.IGNORECASE)


def load(
    data: Path | None = None,
    *,
    origin: int = 0,
    allow_missing: bool = False,
    need_images: bool = True,
) -> Benchmark:
    """Read the ground truth; origin: coordinate of the first pixel's centre in the ``.pts``."""
    folder = data_folder(data, HINT, FOLDER)
    points = list_files(folder, (".pts",), recursive=True)
    if not points:
        raise MissingDataError(f"no .pts file in {folder}: {HINT}")
    pictures = list_files(folder, IMAGE_SUFFIXES, recursive=True)
    truth, problems = read_truth(points, pictures, ".pts", read_pts, need_images)
    settle(problems, len(truth) + len(problems), allow_missing)
    groups = tuple(str(Path(key).parent.as_posix()) for key in truth)
    return Benchmark(
        name="300w",
        folder=folder,
        names=tuple(truth),
        images=tuple(pictures[k][0] if k in pictures else None for k in truth),
        landmarks=np.stack(list(truth.values())) - origin,
        groups=groups if len(set(groups)) > 1 else (),
        excluded=problems,
        choices={
            "truth": "68 points of the .pts files (the jaw follows the visible contour)",
            "pts origin": f"the first pixel's centre is ({origin}, {origin}) in the .pts files",
        },
    )


def read_pts(path: Path) -> Array:
    """(68, 2) points of a ``.pts`` file as written; MissingDataError says what is wrong."""
    try:
        lines = decode(read_file(path)).splitlines()
    except OSError as error:
        raise MissingDataError(f"{path} cannot be read: {error}") from error
    rows: list[list[float]] = []
    announced = None
    for number, line in enumerate(lines, 1):
        header = _HEADER.match(line)
        if header:
            if header.group(1).lower() == "n_points":
                announced = header.group(2)
            continue
        text = line.replace(",", " ").strip().strip("{}").strip()
        if text and not text.startswith("#"):
            rows.append(_two_numbers(text, f"{path}, line {number}"))
    if announced is not None and announced != str(len(rows)):
        raise MissingDataError(f"{path} has {len(rows)} points, but its header says {announced}")
    if len(rows) != 68:
        raise MissingDataError(f"{path} has {len(rows)} points, not 68")
    out = np.array(rows)
    if not np.isfinite(out).all():
        raise MissingDataError(f"{path} contains values that are not finite")
    return out


def _two_numbers(text: str, where: str) -> list[float]:
    try:
        x, y = (float(value) for value in text.split())
    except ValueError:
        raise MissingDataError(f"{where}: two numbers expected, not {text!r}") from None
    return [x, y]
