"""Two prediction sets side by side: paired bootstrap confidence intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sadr_cli.evaluation.data.benchmark import Array
from sadr_cli.evaluation.measures.metrics import BIN_NAMES, yaw_bin

RESAMPLES = 10_000
LEVEL = 95.0
MIN_FACES = 8  # too few to estimate their spread: no interval
_CHUNK = 500  # resamples at a time, to limit memory


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    yaw: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean of ``b - a`` over the faces that both have, with percentile bootstrap intervals.

    a, b: errors (N,), NaN where missing; lower is better. Faces are resampled in pairs; with
    ``yaw`` (N,) degrees also the three bins and their balanced mean, faces resampled within
    their bin. Returns for each average ``a``, ``b``, ``difference``, ``low``, ``high`` (95 %),
    ``p``, the two-sided bootstrap p-value of "no difference", and ``count``; interval and p are
    NaN where an average has fewer than 8 faces.
    """
    ea, eb = np.asarray(a, float), np.asarray(b, float)
    both = np.isfinite(ea) & np.isfinite(eb)
    out: dict[str, Any] = {"count": int(both.sum()), "resamples": resamples, "seed": seed}
    rng = np.random.default_rng(seed)
    out["mean"] = _figures(ea[both], eb[both], _bootstrap(eb[both] - ea[both], resamples, rng))
    if yaw is None:
        return out
    which = yaw_bin(yaw)
    parts = [both & (which == k) for k in range(3)]
    draws = []
    for name, part in zip(BIN_NAMES, parts, strict=True):
        draws.append(_bootstrap(eb[part] - ea[part], resamples, rng))
        out[name] = _figures(ea[part], eb[part], draws[-1])
    if all(part.any() for part in parts):
        means = [[e[part].mean() for part in parts] for e in (ea, eb)]
        out["balanced"] = _figures(np.array(means[0]), np.array(means[1]), np.mean(draws, axis=0))
        out["balanced"]["count"] = out["count"]
    return out


def _bootstrap(difference: Array, resamples: int, rng: np.random.Generator) -> Array:
    """(resamples,) means of ``difference`` drawn with replacement."""
    n = len(difference)
    if n < MIN_FACES:
        return np.full(resamples, np.nan)
    means = np.empty(resamples)
    for start in range(0, resamples, _CHUNK):
        stop = min(start + _CHUNK, resamples)
        drawn = rng.integers(0, n, (stop - start, n), dtype=np.int32)
        means[start:stop] = difference[drawn].mean(1)
    return means


def _figures(a: Array, b: Array, draws: Array) -> dict[str, float]:
    if a.size == 0:
        empty = dict.fromkeys(("a", "b", "difference", "low", "high", "p"), float("nan"))
        return {**empty, "count": 0}
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return {
        "a": float(a.mean()),
        "b": float(b.mean()),
        "difference": float(b.mean() - a.mean()),
        "low": float(low),
        "high": float(high),
        "p": _p_value(draws),
        "count": a.size,
    }


def _p_value(draws: Array) -> float:
    if np.isnan(draws).any():
        return float("nan")
    # One is added to both counts so that a finite number of draws never claims p = 0.
    below, above = int((draws <= 0).sum()) + 1, int((draws >= 0).sum()) + 1
    return min(1.0, 2 * min(below, above) / (len(draws) + 1))
