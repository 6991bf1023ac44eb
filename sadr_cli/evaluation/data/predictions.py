"""Predictions of any method, read into one record and matched with a benchmark.

Two forms are read:

npz, one row per face
    ``name`` (N,) image names without suffix, ``landmarks`` (N, 68, 2 or 3) pixels of the image,
    y down; optional ``rotation`` (N, 3, 3) proper rotations (frame of :mod:`sadr_cli.pose`),
    ``vertices`` (N, V, 3) the dense face in image pixels, ``shape`` (N, V, 3), ``landmarks_p``
    (N, 68, 2 or 3) those of the pose-dependent face P, scored separately,
    ``landmarks_contour`` (N, 68, 2 or 3) with the jaw on the visible outline.
folder
    of landmark JSON files as ``sadr reconstruct`` writes them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import read_npz
from sadr_cli.crop import box_iou, points_box
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.benchmark import IMAGE_SUFFIXES, Array, Benchmark, settle
from sadr_cli.folder import read_file
from sadr_cli.text import decode

# Arrays that must be finite for a face to count.
SMALL = ("landmarks", "rotation", "landmarks_p", "landmarks_contour")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Faces in the order of a benchmark's names; NaN rows are missing.

    landmarks: (N, 68, 2 or 3); rotation: (N, 3, 3) or None; vertices, shape: (N, V, 3) or None.
    landmarks_p: (N, 68, 2 or 3) of the face before self-alignment, or None.
    landmarks_contour: (N, 68, 2 or 3) with the jaw on the visible outline, or None.
    reasons: name -> why it is missing. extra: predicted names that are not in the benchmark.
    details: where they come from, for the report.
    """

    landmarks: Array
    rotation: Array | None = None
    vertices: NDArray[Any] | None = None
    shape: NDArray[Any] | None = None
    landmarks_p: Array | None = None
    landmarks_contour: Array | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(N,) True where there is no face."""
        return np.asarray(np.isnan(self.landmarks).any((1, 2)))


def load(path: Path, benchmark: Benchmark, *, allow_missing: bool = False) -> Predictions:
    """Read a predictions npz or landmark JSON folder, in the order of ``benchmark``."""
    if path.is_dir():
        names, arrays = _read_json_folder(path, benchmark)
        sha = None
    elif path.is_file():
        names, arrays = _read_npz(path)
        sha = hashlib.sha256(read_file(path)).hexdigest()
    else:
        raise MissingDataError(f"no predictions at {path}: give an npz or a landmark JSON folder")
    row = _row_of(names, benchmark, path)
    bad = np.zeros(len(names), bool)
    for key in arrays.keys() & SMALL:
        bad |= ~np.isfinite(arrays[key]).all((1, 2))
    reasons = {n: f"{path} has no prediction for {n}" for n in benchmark.names if n not in row}
    reasons.update(
        (name, f"{path}: the prediction for {name} contains NaN or infinity")
        for name in benchmark.names
        if name in row and bad[row[name]]
    )
    settle(reasons, len(benchmark), allow_missing)
    there = [i for i, name in enumerate(benchmark.names) if name not in reasons]
    rows = [row[benchmark.names[i]] for i in there]
    if "rotation" in arrays:
        _check_rotations(arrays["rotation"][rows], path)
    lined_up: dict[str, NDArray[Any]] = {}
    for key, values in arrays.items():
        if rows == list(range(len(benchmark))) and len(values) == len(benchmark):
            lined_up[key] = values  # gigabytes, perhaps: not copied
            continue
        out = np.full((len(benchmark), *values.shape[1:]), np.nan, values.dtype)
        out[there] = values[rows]
        lined_up[key] = out
    used = set(benchmark.names) | set(benchmark.excluded)
    return Predictions(
        **lined_up,
        reasons=reasons,
        extra=tuple(n for n in names if _find(n, used) is None),
        details={"source": str(path), "sha256": sha, "faces in it": len(names)},
    )


def _read_npz(path: Path) -> tuple[list[str], dict[str, NDArray[Any]]]:
    data = read_npz(path, ("name", "landmarks"), (*SMALL[1:], "vertices", "shape"))
    names = [str(n) for n in data.pop("name").ravel()]
    n = len(names)
    for key, values in data.items():
        shape = values.shape
        if shape[:1] != (n,):
            raise MissingDataError(f"{path}: {key} has {shape[:1]} rows for {n} names")
        if key.startswith("landmarks"):
            good, need = shape[1:] in ((68, 2), (68, 3)), "(N, 68, 2 or 3)"
        elif key == "rotation":
            good, need = shape[1:] == (3, 3), "(N, 3, 3)"
        else:
            good, need = len(shape) == 3 and shape[2] == 3, "(N, V, 3)"
        if not good or values.dtype.kind != "f":
            raise MissingDataError(f"{path}: {key} must be {need} floats, not {shape}")
    for key in SMALL:
        if key in data:
            data[key] = data[key].astype(np.float64)
    return names, data


def _read_json_folder(
    folder: Path, benchmark: Benchmark
) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """One row per name: of several faces in an image the one that overlaps the true box best."""
    truth = dict(zip(benchmark.names, benchmark.landmarks, strict=True))
    best: dict[str, tuple[float, Array, Array]] = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            record = json.loads(decode(read_file(path)))
        except (OSError, ValueError, RecursionError) as error:
            raise MissingDataError(f"{path} is damaged: {error}") from error
        if not isinstance(record, dict) or record.get("format") != "sadr-face":
            continue  # a manifest, or another program's file
        try:
            points = np.array(record["landmarks"]["points"], float)
            rotation = np.array(record["pose"]["rotation_matrix"], float)
            name = str(record["name"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MissingDataError(f"{path} is not a landmark JSON: {error}") from error
        if points.shape != (68, 3) or rotation.shape != (3, 3):
            raise MissingDataError(f"{path}: 68 points and a 3 x 3 rotation are expected")
        source = str(record.get("source", ""))
        key = _find(name, set(truth)) or _find(source, set(truth)) or name
        overlap = box_iou(points_box(points), points_box(truth[key])) if key in truth else 0.0
        if key not in best or overlap > best[key][0]:
            best[key] = overlap, points, rotation
    if not best:
        raise MissingDataError(f"no landmark JSON of sadr reconstruct in {folder}")
    names = sorted(best)
    return names, {
        "landmarks": np.stack([best[n][1] for n in names]),
        "rotation": np.stack([best[n][2] for n in names]),
    }


def _row_of(names: list[str], benchmark: Benchmark, path: Path) -> dict[str, int]:
    """Benchmark name -> row of the predictions."""
    known = set(benchmark.names)
    row: dict[str, int] = {}
    for i, given in enumerate(names):
        name = _find(given, known)
        if name is None:
            continue
        if name in row:
            raise MissingDataError(f"{path} has two predictions for {name}")
        row[name] = i
    if not row:
        raise MissingDataError(
            f"{path} has predictions for none of the {len(benchmark)} images: its first name is "
            f"{names[0]!r}, the benchmark's {benchmark.names[0]!r}"
            if names
            else f"{path} is empty"
        )
    return row


def _find(given: str, known: set[str]) -> str | None:
    """``given`` among ``known``, with or without its image suffix and folders."""
    path = PurePosixPath(given.replace("\\", "/"))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    for name in (given, path.as_posix(), path.name):
        if name in known:
            return name
    return None


def _check_rotations(rotation: Array, path: Path) -> None:
    product = rotation @ rotation.transpose(0, 2, 1)
    proper = (np.abs(product - np.eye(3)).max((1, 2)) < 1e-2) & (np.linalg.det(rotation) > 0)
    if not proper.all():
        raise MissingDataError(
            f"{path}: {int((~proper).sum())} of {len(proper)} rotations are not proper rotation "
            "matrices (R R' = 1, det R = 1)"
        )
