"""AFLW2000-3D (Zhu et al., CVPR 2016), and any folder in its layout, such as 300W-LP.

Layout: ``NAME.jpg`` with ``NAME.mat`` beside it. Used of a ``.mat``: ``pt3d_68`` (3, 68) in
image pixels with y down, ``Pose_Para`` = pitch, yaw, roll (radians), tx, ty, tz, f, and for the
dense truth ``Shape_Para`` (199) and ``Exp_Para`` (29).

Beside them, where present:
    ``reannotated.npz``: ``name`` (N,), ``pts68`` (N, 2, 68), ``yaw_new`` (N,) degrees; or the
    arrays published with 3DDFA, index order = sorted names:
    ``AFLW2000-3D-Reannotated.pts68.npy`` (N, 2 or 3, 68) and ``AFLW2000-3D-new.pose.npy`` (N,).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import read_mat, read_npz
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.benchmark import (
    IMAGE_SUFFIXES,
    Array,
    Parameters,
    PosedBenchmark,
    data_folder,
    list_files,
    read_truth,
    settle,
)

FOLDER = "AFLW2000-3D"
HINT = (
    "get AFLW2000-3D from the 3DDFA project page "
    "(www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm), unpack it so that "
    "image00002.jpg and image00002.mat lie side by side, and name the folder with --data, or put "
    f"it at SADR_DATA/{FOLDER}"
)
REANNOTATED_NPZ = "reannotated.npz"
REANNOTATED_NPY = "AFLW2000-3D-Reannotated.pts68.npy"
YAW_NEW_NPY = "AFLW2000-3D-new.pose.npy"
REQUIRED = ("pt3d_68", "Pose_Para")
_SHAPES = {"pt3d_68": (3, 68), "Pose_Para": (7,), "Shape_Para": (199,), "Exp_Para": (29,)}


def find_folder(data: Path | None) -> Path:
    """``data``, else SADR_DATA/AFLW2000-3D; MissingDataError says where to get it.

    The published archive contains a subfolder ``AFLW2000``, which is searched as well.
    """
    folder = data_folder(data, HINT, FOLDER)
    for candidate in (folder, folder / "AFLW2000", folder / FOLDER):
        if candidate.is_dir() and list_files(candidate, (".mat",)):
            return candidate
    raise MissingDataError(f"no .mat file in {folder}: {HINT}")


def load(
    data: Path | None = None,
    *,
    allow_missing: bool = False,
    need_images: bool = True,
) -> PosedBenchmark:
    """Read the ground truth. need_images: whether a ``.mat`` without its image is an error."""
    folder = find_folder(data)
    mats = list_files(folder, (".mat",))
    pictures = list_files(folder, IMAGE_SUFFIXES)
    names = sorted({*mats, *pictures})
    records, problems = read_truth(mats, pictures, ".mat", read_annotation, need_images)
    settle(problems, len(names), allow_missing)
    kept = tuple(records)
    keep = np.array([key in records for key in names])
    reannotated, yaw_new, choices = _second_truth(folder, names, allow_missing)
    pose = np.stack([records[k]["Pose_Para"] for k in kept])
    parameters = None
    if all("Shape_Para" in r and "Exp_Para" in r for r in records.values()):
        shape, expression = (
            np.stack([records[k][key] for k in kept]) for key in ("Shape_Para", "Exp_Para")
        )
        parameters = Parameters(shape, expression, pose)
    return PosedBenchmark(
        name="aflw2000",
        folder=folder,
        names=kept,
        images=tuple(pictures[k][0] if k in pictures else None for k in kept),
        landmarks=np.stack([records[k]["pt3d_68"].T for k in kept]),
        angles=np.rad2deg(pose[:, [1, 0, 2]]),
        yaw_new=None if yaw_new is None else yaw_new[keep],
        reannotated=None if reannotated is None else reannotated[keep],
        parameters=parameters,
        excluded=problems,
        choices={"truth": "pt3d_68 and Pose_Para of the .mat files", **choices},
    )


def read_annotation(path: Path, required: Sequence[str] = REQUIRED) -> dict[str, Array]:
    """The used fields of a ``.mat`` as float64; MissingDataError says what is wrong with it.

    ``pt3d_68`` (3, 68), ``Pose_Para`` (7,), ``Shape_Para`` (199,), ``Exp_Para`` (29,); those not
    ``required`` only where the file has them.
    """
    raw = read_mat(path, tuple(_SHAPES))
    out: dict[str, Array] = {}
    for key, shape in _SHAPES.items():
        if key not in raw:
            if key in required:
                raise MissingDataError(f"{path} has no {key}: it is not an AFLW2000-3D annotation")
            continue
        value = np.asarray(raw[key], float)
        if key == "pt3d_68":
            if value.shape != shape:
                raise MissingDataError(f"{path}: {key} must be {shape}, not {value.shape}")
        elif value.size != shape[0]:
            raise MissingDataError(f"{path}: {key} must have {shape[0]} values, not {value.size}")
        if not np.isfinite(value).all():
            raise MissingDataError(f"{path}: {key} contains values that are not finite")
        out[key] = value.reshape(shape)
    return out


def _second_truth(
    folder: Path, names: list[str], allow_missing: bool
) -> tuple[Array | None, Array | None, dict[str, str]]:
    """Re-annotated points (N, 68, 2) and new yaw (N,) of all ``names``, None where missing.

    Read beside the images, else in the folder above; also the files' names, for the report.
    """
    for place in (folder, folder.parent):
        npz = place / REANNOTATED_NPZ
        if npz.is_file():
            return *_read_reannotated(npz, names, allow_missing), {"second truth": npz.name}
        points = yaw = None
        choices = {}
        if (file := place / REANNOTATED_NPY).is_file():
            points = _read_npy(file, (len(names), None, 68))[:, :2].transpose(0, 2, 1)
            choices["second truth"] = file.name
        if (file := place / YAW_NEW_NPY).is_file():
            yaw = _read_npy(file, (len(names),))
            choices["second yaw"] = file.name
        if choices:
            return points, yaw, choices
    return None, None, {}


def _read_reannotated(path: Path, names: list[str], allow_missing: bool) -> tuple[Array, Array]:
    arrays = read_npz(path, ("name", "pts68", "yaw_new"))
    keys = [str(n) for n in arrays["name"].ravel()]
    points, yaw = (_numbers(path, arrays[key]) for key in ("pts68", "yaw_new"))
    if points.shape != (len(keys), 2, 68) or yaw.shape != (len(keys),):
        raise MissingDataError(
            f"{path}: pts68 must be ({len(keys)}, 2, 68) and yaw_new ({len(keys)},), "
            f"not {points.shape} and {yaw.shape}"
        )
    row = {key: i for i, key in enumerate(keys)}
    absent = {n: f"{path} has no entry for {n}" for n in names if n not in row}
    settle(absent, len(names), allow_missing)
    out_points, out_yaw = np.full((len(names), 68, 2), np.nan), np.full(len(names), np.nan)
    there = [i for i, n in enumerate(names) if n in row]
    rows = [row[names[i]] for i in there]
    out_points[there], out_yaw[there] = points[rows].transpose(0, 2, 1), yaw[rows]
    return out_points, out_yaw


def _numbers(path: Path, values: NDArray[Any]) -> Array:
    if values.dtype.kind not in "fiu":
        raise MissingDataError(f"{path} must contain numbers, not {values.dtype}")
    return values.astype(float)


def _read_npy(path: Path, shape: tuple[int | None, ...]) -> Array:
    try:
        values = _numbers(path, np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise MissingDataError(f"{path} is not a NumPy array: {error}") from error
    fits = len(values.shape) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, values.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise MissingDataError(
            f"{path} must be ({wanted}), one row per image in the order of sorted names, "
            f"not {values.shape}"
        )
    return values
