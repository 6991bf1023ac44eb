"""Coarse UV maps: bilinear upsampling to 256 x 256, and its least-squares inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.pixels import resized
from sadr_cli.uv import SIZE, extend_map

_SMOOTH = 1e-3  # weight of smoothness in the least-squares fit


def upsample(uv_map: Tensor) -> Tensor:
    """Maps (B, C, U, U) -> (B, C, 256, 256), bilinear between pixel centres."""
    if uv_map.shape[-1] == SIZE:
        return uv_map
    return F.interpolate(uv_map, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def fit_coarse(values: NDArray[Any], mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """The (C, size, size) maps whose bilinear upsampling is nearest to ``values``.

    values: (V, C) at the pixels of ``mask`` (256, 256). Least squares with weak smoothness, so that
    pixels beyond the mask continue the surface.
    """
    if size == SIZE:
        full = np.zeros((SIZE, SIZE, values.shape[1]), np.float32)
        full[mask] = values
        return np.moveaxis(extend_map(full, mask), 2, 0)
    from scipy import sparse
    from scipy.sparse.linalg import splu

    def weights(n_fine: int, n_coarse: int) -> sparse.csr_matrix:
        at = np.clip(resized(np.arange(n_fine), n_coarse / n_fine), 0, n_coarse - 1)
        low = np.minimum(np.floor(at).astype(int), max(n_coarse - 2, 0))
        high = np.minimum(low + 1, n_coarse - 1)
        part = at - low
        fine = np.arange(n_fine)
        return sparse.csr_matrix(
            (np.r_[1 - part, part], (np.r_[fine, fine], np.r_[low, high])), (n_fine, n_coarse)
        )

    one = weights(SIZE, size)
    up = sparse.kron(one, one).tocsr()[mask.ravel()]
    second = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(size - 2, size))
    eye = sparse.eye(size)
    rough = sparse.vstack([sparse.kron(second, eye), sparse.kron(eye, second)])
    normal = (up.T @ up + _SMOOTH * (rough.T @ rough) + 1e-9 * sparse.eye(size * size)).tocsc()
    solution = splu(normal).solve(np.asarray(up.T @ np.asarray(values, np.float64)))
    return solution.T.reshape(-1, size, size).astype(np.float32)
