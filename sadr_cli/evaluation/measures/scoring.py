"""Truth and predictions -> errors a face and the tables' figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sadr_cli.evaluation.data.benchmark import Array, Benchmark
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.dense import DenseTruth, dense_errors

CED_THRESHOLD = 8.0  # percent


@dataclass(frozen=True, eq=False)
class Scores:
    """What a benchmark says of one set of predictions.

    per_image: measure -> (N,), NaN for a missed face, in the order of the benchmark's names.
    results: the figures of report.json. left_out: measure -> why it could not be had.
    """

    per_image: dict[str, Array]
    results: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)


def score(
    benchmark: Benchmark,
    predictions: Predictions,
    *,
    dense_truth: DenseTruth | None = None,
    align: str = "procrustes",
    progress: Callable[[], None] = lambda: None,
) -> Scores:
    """All measures that truth and predictions allow; the others are named with their reason."""
    if benchmark.angles is None:
        return _score_contour(benchmark, predictions)
    return _score_posed(benchmark, predictions, dense_truth, align, progress)


def noise_floor(benchmark: Benchmark) -> Array | None:
    """(N,) NME between the re-annotated and the original truth over the original's box."""
    if benchmark.reannotated is None:
        return None
    return metrics.nme_2d(benchmark.reannotated, benchmark.landmarks)


def landmark_errors(benchmark: Benchmark, landmarks: Array) -> dict[str, Array]:
    """NME a face by every truth there is; ``landmarks`` (N, 68, 2 or 3)."""
    truth = benchmark.landmarks
    out = {"nme_2d": metrics.nme_2d(landmarks, truth)}
    if truth.shape[-1] == 3 and landmarks.shape[-1] == 3:
        out["nme_3d"] = metrics.nme_3d(landmarks, truth)
    if benchmark.reannotated is not None:
        out["nme_2d_reannotated"] = metrics.nme_2d(landmarks, benchmark.reannotated)
    return out


def _score_posed(
    benchmark: Benchmark,
    predictions: Predictions,
    dense_truth: DenseTruth | None,
    align: str,
    progress: Callable[[], None],
) -> Scores:
    assert benchmark.angles is not None
    per_image = landmark_errors(benchmark, predictions.landmarks)
    if predictions.landmarks_p is not None:
        before = landmark_errors(benchmark, predictions.landmarks_p)
        per_image.update({f"{key}_p": errors for key, errors in before.items()})
    left_out: dict[str, str] = {}
    if "nme_3d" not in per_image:
        left_out["nme_3d"] = "the predictions have no depth"
    results: dict[str, Any] = {}
    if benchmark.reannotated is None:
        left_out["nme_2d_reannotated"] = "no re-annotated truth beside the images"
    if benchmark.yaw_new is None:
        left_out["bins by the new yaw"] = "no new yaw file beside the images"

    if dense_truth is None:
        for key in ("dense_2d", "dense_3d", "reconstruction"):
            left_out[key] = "no face model (--face-model)"
    elif predictions.vertices is None and predictions.shape is None:
        for key in ("dense_2d", "dense_3d", "reconstruction"):
            left_out[key] = "the predictions have no dense vertices"
    else:
        per_image.update(dense_errors(benchmark, predictions, dense_truth, align, progress))
        if predictions.vertices is None:
            for key in ("dense_2d", "dense_3d"):
                left_out[key] = "the predictions have the shape only, no vertices in the image"

    yaws = {"fitted": benchmark.angles[:, 0]}
    if benchmark.yaw_new is not None:
        yaws["new"] = benchmark.yaw_new
    for key, errors in per_image.items():
        results[key] = {name: _by_yaw(errors, yaw) for name, yaw in yaws.items()}
    results["ced"] = {"nme_2d": ced_figures(per_image["nme_2d"])}

    if predictions.rotation is None:
        left_out["pose"] = "the predictions have no rotation"
    else:
        rotation = predictions.rotation
        results["pose"] = {
            "plain": metrics.pose_mae(rotation, benchmark.angles).to_dict(),
            "fix": metrics.pose_mae(rotation, benchmark.angles, fix=True).to_dict(),
        }
        per_image.update(_pose_columns(rotation, benchmark.angles))

    floor = noise_floor(benchmark)
    if floor is not None:
        results["noise_floor"] = {name: _by_yaw(floor, yaw) for name, yaw in yaws.items()}
        per_image["noise_floor"] = floor
    return Scores(per_image, results, left_out)


def _score_contour(benchmark: Benchmark, predictions: Predictions) -> Scores:
    """68 two-dimensional points without pose: the 300-W way."""
    p, g = predictions.landmarks[..., :2], benchmark.landmarks[..., :2]
    inner = slice(17, 68)
    normalisers = {
        "nme_box": metrics.box_size(g),
        "nme_inter_ocular": metrics.inter_ocular(g),
        "nme_inter_pupil": metrics.inter_pupil(g),
    }
    per_image: dict[str, Array] = {}
    for key, size in normalisers.items():
        per_image[key] = metrics.nme(p, g, size)
        # The jaw of 300-W follows the visible contour, that of a 3-D face the surface.
        per_image[f"{key}_inner51"] = metrics.nme(p[:, inner], g[:, inner], size)
    groups = {"all": np.ones(len(benchmark), bool)}
    for name in sorted(set(benchmark.groups)):
        groups[name] = np.array([g == name for g in benchmark.groups])
    results = {
        key: {name: ced_figures(errors[which]) for name, which in groups.items()}
        for key, errors in per_image.items()
    }
    return Scores(per_image, results, {"pose": "the truth has no pose"})


def ced_figures(errors: Array, threshold: float = CED_THRESHOLD) -> dict[str, float | int]:
    """Mean over found faces, AUC and failure rate over all, and the counts."""
    found = np.isfinite(errors)
    return {
        "mean": float(errors[found].mean()) if found.any() else float("nan"),
        "median": float(np.median(errors[found])) if found.any() else float("nan"),
        "auc": metrics.auc(errors, threshold),
        "failure_rate": metrics.failure_rate(errors, threshold),
        "threshold": threshold,
        "count": int(found.sum()),
        "missing": int((~found).sum()),
    }


def _by_yaw(errors: Array, yaw: Array) -> dict[str, Any]:
    known = np.isfinite(yaw)  # a second yaw file need not cover every image
    return metrics.summarise(errors[known], yaw[known]).to_dict()


def _pose_columns(rotation: Array, angles: Array) -> dict[str, Array]:
    """Columns of per_image.csv; NaN where there is no prediction."""
    found = np.asarray(np.isfinite(rotation).all((1, 2)))
    safe = np.where(found[:, None, None], rotation, np.eye(3))
    errors = metrics.angle_errors(safe, angles)
    columns = {f"{name}_error": errors[:, k] for k, name in enumerate(("yaw", "pitch", "roll"))}
    columns["geodesic"] = metrics.geodesic_errors(safe, angles)
    return {key: np.where(found, values, np.nan) for key, values in columns.items()}
