"""A user's linear face model, and the coefficients of a face by regularised least squares.

The model is an npz, see docs/coefficients.md: over the UV layout (as in training), or with its own
vertices and their relation to the layout: a table of vertices, or landmarks only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import read_npz
from sadr_cli.errors import MissingDataError
from sadr_cli.pose import similarity, transform
from sadr_cli.uv import MM_PER_UNIT, SIZE, UVLayout

_Array = NDArray[np.float64]
_Motion = tuple[float, _Array, _Array]

# Square millimetres: weight of squared coefficients against the mean squared error. With 0.003 the
# identities of ten faces in the Basel Face Model vary as people do: by 0.97 standard deviations.
PRIOR = 0.003
POINTS = 8000  # correspondences that are used at most, evenly spread
_ROUNDS = 20  # alternations of coefficients and similarity
_FEWEST = 12  # correspondences
_FAR_MM, _MATCH_MM = 15.0, 5.0  # largest distance of a pair in ICP; of a correspondence after it
_REGISTERING = 30  # ICP rounds
_FIELDS = ("mean", "basis")
_OPTIONAL = ("sigma", "identities", "prior", "mask", "landmarks", "layout_vertices")


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear model at M points in common with the layout.

    points: (M,) vertices of the layout. mean: (M, 3), basis: (M, 3, K) change of one standard
    deviation of each coefficient, in the model's own frame and units. sigma: (K,) the model's own
    coefficient of one standard deviation. identities: how many of the K are identity; the rest is
    expression. aligned: the frame is the shape frame. prior: see :func:`fit_coefficients`.
    sha256: of the file.
    """

    points: NDArray[np.intp]
    mean: _Array
    basis: _Array
    sigma: _Array
    identities: int
    aligned: bool
    prior: float = PRIOR
    sha256: str = ""

    @cached_property
    def flat(self) -> _Array:
        """(3 M, K)."""
        return np.ascontiguousarray(self.basis.reshape(-1, self.basis.shape[2]))

    @cached_property
    def gram(self) -> _Array:
        """(K, K) mean over the points of the basis by itself."""
        return self.flat.T @ self.flat / len(self.points)


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A face as mean + basis @ (identity, expression) of a model, moved onto the face.

    identity, expression: in standard deviations. residual: (M,) distance at the points, in
    millimetres of the mean head. scale, rotation, translation: from the model's frame to the shape
    frame in millimetres.
    """

    identity: _Array
    expression: _Array
    residual: _Array
    scale: float
    rotation: _Array
    translation: _Array


def fit_coefficients(model: LinearModel, shape: NDArray[Any]) -> Coefficients:
    """The coefficients of a face S (V, 3) in the shape frame.

    They minimise the mean squared distance of the points, in square millimetres, plus the model's
    prior times the sum of the squared coefficients. For models in another frame a similarity is
    estimated alternately with the coefficients.
    """
    target = np.asarray(shape, float)[model.points] * MM_PER_UNIT
    motion: _Motion = (MM_PER_UNIT, np.eye(3), np.zeros(3))
    if not model.aligned:
        motion = similarity(model.mean, target)
    for _ in range(1 if model.aligned else _ROUNDS):
        scale, rotation, translation = motion
        there = (target - translation) @ rotation / scale  # in the model's frame
        right = model.flat.T @ (there - model.mean).reshape(-1) / len(model.points)
        left = model.gram + model.prior / scale**2 * np.eye(len(model.sigma))
        solution = np.asarray(np.linalg.solve(left, right), np.float64)
        fitted = model.mean + (model.flat @ solution).reshape(-1, 3)
        if not model.aligned:
            motion = similarity(fitted, target)
    apart = transform(fitted, *motion) - target
    k = model.identities
    residual = np.linalg.norm(apart, axis=1)
    return Coefficients(solution[:k], solution[k:], residual, *motion)


def load_linear_model(path: Path, uv: UVLayout) -> LinearModel:
    """Read a model (cached). MissingDataError says what is wrong with it."""
    try:
        time = path.stat().st_mtime_ns
    except OSError as error:
        raise MissingDataError(
            f"no face model at {path}: name the npz with --face-model"
        ) from error
    return _load(path, time, uv)


@lru_cache(maxsize=2)
def _load(path: Path, _time: int, uv: UVLayout) -> LinearModel:
    data = read_npz(path, _FIELDS, _OPTIONAL)
    try:
        found = _of_arrays(data, uv)
        _check(found)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise MissingDataError(
            f"{path} is not a face model: {error} (docs/coefficients.md describes the format)"
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LinearModel(**{**vars(found), "sha256": digest})


def _of_arrays(data: dict[str, NDArray[Any]], uv: UVLayout) -> LinearModel:
    mean, basis = data["mean"], data["basis"]
    if mean.ndim != 2 or mean.shape[1] != 3 or basis.shape[:2] != mean.shape or basis.ndim != 3:
        raise ValueError(
            f"mean must be (N, 3) and basis (N, 3, K), not {mean.shape} and {basis.shape}"
        )
    count = basis.shape[2]
    aligned = "mask" in data
    if aligned:
        own, layout = _of_mask(data["mask"], len(mean), uv)
    elif "layout_vertices" in data:
        own, layout = _of_table(data["layout_vertices"], len(mean), uv)
    elif "landmarks" in data:
        own, layout = _register(mean.astype(float), data["landmarks"], uv)
    else:
        raise ValueError("it needs one of mask, layout_vertices and landmarks")
    if "identities" not in data and not aligned:
        raise ValueError("it needs identities, the number of identity columns")
    chosen = np.unique(np.linspace(0, len(own) - 1, POINTS).astype(int))
    own, layout = own[chosen], layout[chosen]
    return LinearModel(
        points=layout,
        mean=mean[own].astype(float),
        basis=basis[own].astype(float),
        sigma=data.get("sigma", np.ones(count)).astype(float),
        identities=int(data.get("identities", min(40, count))),
        aligned=aligned,
        prior=float(data.get("prior", PRIOR)),
    )


def _check(model: LinearModel) -> None:
    """ValueError when the model cannot be fitted."""
    count = model.basis.shape[2]
    if len(model.points) < _FEWEST:
        raise ValueError(f"only {len(model.points)} of its vertices are on the face")
    if model.sigma.shape != (count,) or not 0 < model.identities <= count:
        raise ValueError(
            f"sigma {model.sigma.shape} and identities {model.identities} do not fit the "
            f"{count} columns of its basis"
        )
    for name in ("mean", "basis", "sigma"):
        if not np.isfinite(getattr(model, name)).all():
            raise ValueError(f"{name} must be finite")
    if not 0 < model.prior < np.inf:
        raise ValueError(f"prior must be above zero, not {model.prior:g}")
    if np.ptp(model.mean, axis=0).max() <= 0:
        raise ValueError("all vertices of its mean are at one point")


# Correspondences: vertices of the model, vertices of the layout -----------------------------------


def _of_mask(
    mask: NDArray[Any], count: int, uv: UVLayout
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if mask.shape != (SIZE, SIZE) or int(mask.astype(bool).sum()) != count:
        raise ValueError(f"mask must be {SIZE} x {SIZE} with a pixel for each of {count} vertices")
    own = np.full((SIZE, SIZE), -1)
    own[mask.astype(bool)] = np.arange(count)
    both = (own >= 0) & uv.mask
    return own[both], uv.index_map[both].astype(np.intp)


def _of_table(
    table: NDArray[Any], count: int, uv: UVLayout
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if table.shape != (count,) or table.dtype.kind not in "iu":
        raise ValueError(f"layout_vertices must be {count} whole numbers, one a vertex")
    if table.max(initial=-1) >= uv.vertex_count:
        raise ValueError(f"layout_vertices names vertex {table.max()}, of {uv.vertex_count}")
    own = np.flatnonzero(table >= 0)
    return own, table[own].astype(np.intp)


def _register(
    mean: _Array, landmarks: NDArray[Any], uv: UVLayout
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Aligns the model to the mean head by landmarks, then by ICP, and matches nearest points."""
    from scipy.spatial import cKDTree

    if landmarks.shape != (68,) or landmarks.dtype.kind not in "iu":
        raise ValueError("landmarks must be 68 vertex numbers in 300-W order, -1 for none")
    if landmarks.max() >= len(mean):
        raise ValueError(f"landmarks names vertex {landmarks.max()}, of {len(mean)}")
    known = landmarks >= 0
    if known.sum() < _FEWEST:
        raise ValueError(f"{int(known.sum())} landmarks are too few: it needs {_FEWEST} or more")
    head = uv.mean_shape.astype(float) * MM_PER_UNIT
    tree = cKDTree(head)
    motion = similarity(mean[landmarks[known]], head[uv.landmark_indices[known]])
    for _ in range(_REGISTERING):
        moved = transform(mean, *motion)
        distance, near = tree.query(moved, distance_upper_bound=_FAR_MM)
        pairs = np.isfinite(distance)
        if pairs.sum() < _FEWEST:
            break
        motion = similarity(mean[pairs], head[near[pairs]])
    distance, near = tree.query(transform(mean, *motion))
    own = np.flatnonzero(distance < _MATCH_MM)
    return own, near[own].astype(np.intp)
