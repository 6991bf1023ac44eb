"""The linear face model of training truth and dense evaluation; not needed for inference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import read_npz
from sadr_cli.errors import MissingDataError
from sadr_cli.uv import UVLayout

FIELDS = ("mask", "region", "kpt", "mean", "basis", "sigma")


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A linear model over the UV layout, in the shape frame (y up, 1 unit = 66.67 mm).

    layout: the UV layout with the model's own mean as template.
    basis: (V, 3, K) shape change of one standard deviation of each coefficient.
    sigma: (K,) coefficient of the original model that is one standard deviation.
    identities: how many of the K coefficients are identity; the rest is expression.
    """

    layout: UVLayout
    basis: NDArray[np.float32]
    sigma: NDArray[np.float32]
    identities: int = 40

    def decode(self, coefficients: NDArray[np.floating]) -> NDArray[np.float32]:
        """Shapes (N, V, 3) from coefficients (N, K) in standard deviations."""
        c = np.atleast_2d(np.asarray(coefficients, np.float32))
        flat = self.basis.reshape(-1, self.basis.shape[2]) @ c.T
        return self.layout.mean_shape + flat.T.reshape(len(c), -1, 3)


def load_face_model(path: str | Path) -> FaceModel:
    """Read a face model from the documented npz; MissingDataError says what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no face model at {path}: name the npz with --face-model")
    data = read_npz(path, FIELDS, ("identities",))
    try:
        layout = UVLayout(
            mask=data["mask"].astype(bool),
            kpt=data["kpt"].astype(np.int64),
            region=data["region"].astype(np.uint8),
            mean_shape=data["mean"].astype(np.float32),
        )
        basis, sigma = data["basis"].astype(np.float32), data["sigma"].astype(np.float32)
        identities = int(data.get("identities", min(40, sigma.size)))
        _check(layout, basis, sigma, identities)
    except (ValueError, TypeError, OverflowError) as error:
        raise MissingDataError(
            f"{path} is not a face model: an npz with {', '.join(FIELDS)} is expected ({error})"
        ) from error
    return FaceModel(layout, basis, sigma, identities)


def _check(
    layout: UVLayout, basis: NDArray[np.float32], sigma: NDArray[np.float32], identities: int
) -> None:
    """ValueError unless basis and sigma fit the layout and each other, and can be used."""
    columns = sigma.size
    if basis.shape != (layout.vertex_count, 3, columns) or sigma.ndim != 1:
        raise ValueError(
            f"basis must be ({layout.vertex_count}, 3, K) and sigma (K,), not {basis.shape} and "
            f"{sigma.shape}"
        )
    if not 0 < identities <= columns:
        raise ValueError(f"{identities} of {columns} columns cannot be identity")
    if not (np.isfinite(layout.mean_shape).all() and np.isfinite(basis).all()):
        raise ValueError("mean and basis must be finite")
    if not (np.isfinite(sigma).all() and (sigma > 0).all()):
        raise ValueError("sigma must be positive")
