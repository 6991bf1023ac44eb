"""The field's error measures, as plain functions of plain arrays.

Conventions of every function here
    Points are ``(N, P, 2 or 3)``: N faces, P points, image pixels (y down). Errors are ``(N,)``,
    one per face; NME and reconstruction errors are in **percent**, angles in degrees. A face that
    was not found has the error NaN: averages leave it out, while :func:`ced`, :func:`auc` and
    :func:`failure_rate` count it as a failure.

Equation numbers are those of the SADRNet paper (Ruan et al., TIP 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sadr_cli.landmarks import EYES, LEFT_OUTER_EYE, RIGHT_OUTER_EYE
from sadr_cli.pose import euler_to_matrix, geodesic_distance, matrix_to_euler, similarity, transform

Array = NDArray[np.float64]

BIN_NAMES = ("0-30", "30-60", "60-90")
BIN_EDGES = (30.0, 60.0)
MAX_ANGLE = 99.0  # degrees; images with a larger true angle are left out of the pose error


# --- normalisers ----------------------------------------------------------------------------


def box_size(truth: ArrayLike) -> Array:
    """sqrt(w h) of the bounding box of the true points, (N,) pixels: the d of Eq 25."""
    xy = _points(truth)[..., :2]
    return np.sqrt(np.prod(xy.max(-2) - xy.min(-2), axis=-1))


def inter_ocular(truth: ArrayLike) -> Array:
    """Distance of the outer eye corners (points 37 and 46 of 68), (N,); 3-D for 3-D points."""
    p = _points(truth)
    return np.linalg.norm(p[..., LEFT_OUTER_EYE, :] - p[..., RIGHT_OUTER_EYE, :], axis=-1)


def inter_pupil(truth: ArrayLike) -> Array:
    """Distance of the eyes' centres, each the mean of its six points, (N,)."""
    p = _points(truth)
    left, right = (p[..., eye, :].mean(-2) for eye in EYES)
    return np.linalg.norm(left - right, axis=-1)


# --- point errors ---------------------------------------------------------------------------


def nme(prediction: ArrayLike, truth: ArrayLike, normaliser: ArrayLike) -> Array:
    """Normalised mean error (Eq 25), (N,) percent: mean distance over ``normaliser`` (N,)."""
    p, g = _points(prediction), _points(truth)
    if p.shape != g.shape:
        raise ValueError(f"prediction {p.shape} and truth {g.shape} must have the same shape")
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.linalg.norm(p - g, axis=-1).mean(-1) / np.asarray(normaliser, float)
    return 100 * error


def nme_2d(prediction: ArrayLike, truth: ArrayLike) -> Array:
    """NME in x and y over sqrt(w h) of the truth, (N,) percent."""
    g = _points(truth)
    return nme(_points(prediction)[..., :2], g[..., :2], box_size(g))


def nme_3d(prediction: ArrayLike, truth: ArrayLike) -> Array:
    """NME in x, y, z over sqrt(w h) of the truth, (N,) percent.

    Depth has no origin in a photo: each side's mean z is subtracted first.
    """
    p, g = _points(prediction).copy(), _points(truth).copy()
    size = box_size(g)
    for points in (p, g):
        points[..., 2] -= points[..., 2].mean(-1, keepdims=True)
    return nme(p, g, size)


# --- averages -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Averages of an error over faces.

    bins: mean of each of :data:`BIN_NAMES`; NaN for an empty bin. counts: faces averaged there.
    balanced: plain mean of the three bin means (macro); NaN when a bin is empty.
    mean: over all faces (micro). count: faces averaged. missing: faces without an error.
    """

    bins: dict[str, float]
    counts: dict[str, int]
    balanced: float
    mean: float
    count: int
    missing: int


def yaw_bin(yaw: ArrayLike) -> NDArray[np.int64]:
    """0, 1 or 2 for |yaw| <= 30, <= 60, > 60 degrees."""
    return np.searchsorted(BIN_EDGES, np.abs(np.asarray(yaw, float)), side="left")


def summarise(errors: ArrayLike, yaw: ArrayLike) -> Summary:
    """Bins by yaw (degrees, (N,)), balanced and mean of ``errors`` (N,), NaN left out."""
    e = np.asarray(errors, float)
    which = yaw_bin(yaw)
    found = np.isfinite(e)
    parts = {name: e[found & (which == k)] for k, name in enumerate(BIN_NAMES)}
    bins = {name: _mean(part) for name, part in parts.items()}
    return Summary(
        bins=bins,
        counts={name: len(part) for name, part in parts.items()},
        balanced=float(np.mean(list(bins.values()))),
        mean=_mean(e[found]),
        count=int(found.sum()),
        missing=int((~found).sum()),
    )


def ced(errors: ArrayLike, thresholds: ArrayLike) -> Array:
    """Cumulative error distribution: share of faces with an error <= each threshold.

    ``errors`` (N,); a face without an error (NaN) is never within a threshold.
    """
    e = np.sort(np.where(np.isfinite(errors), errors, np.inf))
    return np.searchsorted(e, np.asarray(thresholds, float), side="right") / max(len(e), 1)


def auc(errors: ArrayLike, threshold: float = 8.0) -> float:
    """Area under the CED from 0 to ``threshold``, over ``threshold``, in percent.

    Exact for the step curve: its area is the mean of max(0, threshold - error).
    """
    e = np.where(np.isfinite(errors), errors, np.inf)
    return float(100 * _mean(np.maximum(threshold - e, 0.0)) / threshold)


def failure_rate(errors: ArrayLike, threshold: float = 8.0) -> float:
    """Percent of faces with an error above ``threshold`` or without one."""
    e = np.where(np.isfinite(errors), errors, np.inf)
    return float(100 * _mean(e > threshold))


# --- head pose ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoseSummary:
    """Mean absolute errors in degrees (Eq 26) over ``count`` faces.

    excluded: faces left out by rule (a true angle beyond 99 degrees; for the paper's "fix"
    also a gimbal-lock sample); missing: faces without a prediction.
    """

    yaw: float
    pitch: float
    roll: float
    mean: float
    geodesic: float
    count: int
    excluded: int
    missing: int


def angle_errors(rotation: ArrayLike, true_angles: ArrayLike) -> Array:
    """|predicted - true| of yaw, pitch, roll, (N, 3) degrees, no wrapping at +-180.

    rotation: (N, 3, 3) predicted, frame of :mod:`sadr_cli.pose`; true_angles: (N, 3) yaw, pitch,
    roll in degrees. Predicted yaw is asin, in [-90, 90], the convention of AFLW2000-3D.
    """
    return np.abs(matrix_to_euler(rotation) - np.asarray(true_angles, float))


def geodesic_errors(rotation: ArrayLike, true_angles: ArrayLike) -> Array:
    """Angle of the rotation between prediction and truth, (N,) degrees."""
    angles = np.asarray(true_angles, float)
    true = euler_to_matrix(angles[..., 0], angles[..., 1], angles[..., 2])
    return geodesic_distance(rotation, true)


def pose_included(true_angles: ArrayLike) -> NDArray[np.bool_]:
    """(N,) where no true angle is beyond 99 degrees (1,969 of the 2,000 AFLW2000-3D images)."""
    return (np.abs(np.asarray(true_angles, float)) <= MAX_ANGLE).all(-1)


def gimbal_locked(errors: ArrayLike) -> NDArray[np.bool_]:
    """(N,) samples the paper's "fix" leaves out: yaw error < 5, pitch or roll error > 20."""
    e = np.asarray(errors, float)
    return (e[..., 0] < 5) & ((e[..., 1] > 20) | (e[..., 2] > 20))


def pose_mae(rotation: ArrayLike, true_angles: ArrayLike, *, fix: bool = False) -> PoseSummary:
    """Head pose error (Eq 26) of ``rotation`` (N, 3, 3) against ``true_angles`` (N, 3) degrees.

    A prediction with NaN is missing. ``fix`` is the paper's second variant (Table III).
    """
    matrices = np.asarray(rotation, float)
    found = np.isfinite(matrices).all((-2, -1))
    safe = np.where(found[..., None, None], matrices, np.eye(3))
    errors, geodesic = angle_errors(safe, true_angles), geodesic_errors(safe, true_angles)
    included = pose_included(true_angles)
    if fix:
        included &= ~(gimbal_locked(errors) & found)
    used = included & found
    yaw, pitch, roll = (_mean(errors[used, k]) for k in range(3))
    return PoseSummary(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        mean=float(np.mean([yaw, pitch, roll])),
        geodesic=_mean(geodesic[used]),
        count=int(used.sum()),
        excluded=int((~included).sum()),
        missing=int((included & ~found).sum()),
    )


# --- shape ----------------------------------------------------------------------------------


def reconstruction_error(
    prediction: ArrayLike, truth: ArrayLike, normaliser: float, *, align: bool = True
) -> float:
    """Mean distance of corresponding points (P, 3) over ``normaliser``, percent.

    normaliser: 3-D outer-eye distance of the truth. align: fit a similarity (Procrustes) first,
    as in the public code.
    """
    p, g = np.asarray(prediction, float), np.asarray(truth, float)
    if p.shape != g.shape:
        raise ValueError(f"prediction {p.shape} and truth {g.shape} must have the same shape")
    if align:
        p = transform(p, *similarity(p, g))
    return float(100 * np.linalg.norm(p - g, axis=1).mean() / normaliser)


# --- visibility -----------------------------------------------------------------------------


def mask_iou(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Intersection over union of two boolean masks; 1 when both are empty."""
    p, g = np.asarray(prediction, bool), np.asarray(truth, bool)
    union = int((p | g).sum())
    return float((p & g).sum() / union) if union else 1.0


def binary_scores(prediction: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Accuracy, balanced accuracy, and recall of both classes of boolean labels."""
    p, g = np.asarray(prediction, bool).ravel(), np.asarray(truth, bool).ravel()
    positive, negative = _mean(p[g]), _mean(~p[~g])
    return {
        "accuracy": _mean(p == g),
        "balanced_accuracy": (positive + negative) / 2,
        "recall_true": positive,
        "recall_false": negative,
        "share_true": _mean(g),
    }


def _points(values: ArrayLike) -> Array:
    points = np.asarray(values, float)
    if points.ndim < 2 or points.shape[-1] not in (2, 3):
        raise ValueError(f"points must be (..., P, 2 or 3), not {points.shape}")
    return points


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")
