"""The linear face model used for training truth and dense evaluation; never needed to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

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
        raise MissingDataError(f"no face model at {path}: give the npz with --face-model")
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {k: file[k] for k in FIELDS}
            identities = int(file["identities"]) if "identities" in file else 40
        layout = UVLayout(
            mask=data["mask"].astype(bool),
            kpt=data["kpt"].astype(np.int64),
            region=data["region"].astype(np.uint8),
            mean_shape=data["mean"].astype(np.float32),
        )
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise MissingDataError(
            f"{path} is not a face model: an npz with {', '.join(FIELDS)} is expected ({error})"
        ) from error
    basis, sigma = data["basis"].astype(np.float32), data["sigma"].astype(np.float32)
    return FaceModel(layout, basis, sigma, identities)
