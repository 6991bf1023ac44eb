"""Dense truth of AFLW2000-3D from a face model, and the errors of the 43,867 points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.benchmark import (
    Array,
    Benchmark,
    Parameters,
    PosedBenchmark,
    image_size,
)
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.surface import icp_error
from sadr_cli.model.face_model import FaceModel
from sadr_cli.pose import euler_to_matrix, transform

UNIT = 1.5e-5  # units of the shape frame per micrometre of the BFM
FULL = (199, 29)  # identity and expression coefficients of the .mat files
# Offset of image y = height + offset - model y: in SADRNet, in PRNet/face3d, and of pt3d_68.
Y_FLIPS = {"height": 0.0, "height-1": -1.0, "height+1": 1.0}


@dataclass(frozen=True, eq=False)
class DenseTruth:
    """Decodes the true surface of each image.

    model: linear model over the UV layout. y_flip: key of :data:`Y_FLIPS`. sha256: of the
    model file, for the report.
    """

    model: FaceModel
    y_flip: str = "height"
    sha256: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """For reports: the size of the basis, which may be shorter than the coefficients."""
        full = self._columns == FULL
        kind = "truth from the basis" if full else "approximate truth, truncated basis"
        identity, expression = self._columns
        return f"{kind}: {identity} identity + {expression} expression"

    @property
    def _columns(self) -> tuple[int, int]:
        """Identity and expression columns of the basis."""
        identity = self.model.identities
        return identity, self.model.basis.shape[2] - identity

    def shape(self, parameters: Parameters, index: int) -> NDArray[np.float32]:
        """(V, 3) S of one image in the shape frame (y up, 1 unit = 66.67 mm)."""
        identity, expression = self._columns
        coefficients = np.concatenate(
            [parameters.shape[index, :identity], parameters.expression[index, :expression]]
        )
        return self.model.decode(coefficients / self.model.sigma)[0]

    def face(self, parameters: Parameters, index: int, height: int) -> Array:
        """(V, 3) G of one image of ``height`` pixels: p = f R S + t, y = height - y."""
        pose = parameters.pose[index]
        pitch, yaw, roll = np.rad2deg(pose[:3])
        rotation = euler_to_matrix(yaw, pitch, roll)
        shape = self.shape(parameters, index).astype(float)
        points = transform(shape, pose[6] / UNIT, rotation, pose[3:6])
        points[:, 1] = height + Y_FLIPS[self.y_flip] - points[:, 1]
        return points

    def faces(self, benchmark: PosedBenchmark) -> Iterator[tuple[int, Array]]:
        """Index and true surface of every image; MissingDataError where one has no file."""
        parameters = self.parameters_of(benchmark)
        for i, path in enumerate(benchmark.images):
            if path is None:
                raise MissingDataError(
                    f"no image of {benchmark.names[i]} in {benchmark.folder}: the dense truth "
                    "needs its height"
                )
            yield i, self.face(parameters, i, image_size(path)[0])

    @staticmethod
    def parameters_of(benchmark: Benchmark) -> Parameters:
        if not isinstance(benchmark, PosedBenchmark) or benchmark.parameters is None:
            raise MissingDataError(
                f"the .mat files of {benchmark.folder} lack Shape_Para or Exp_Para: dense truth "
                "cannot be decoded (leave --face-model out)"
            )
        return benchmark.parameters


def dense_errors(
    benchmark: PosedBenchmark,
    predictions: Predictions,
    truth: DenseTruth,
    align: str,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Array]:
    """Dense 2-D and 3-D NME and reconstruction error, (N,) each, NaN where there is no face.

    With Procrustes alignment also the reconstruction error of the mean template (``template``): a
    network whose error is no smaller has learned no shape.

    align: ``procrustes`` (one similarity on corresponding points, the public code) or ``icp``
    (rigid, the paper); in both cases the error is that of corresponding points.
    """
    used = predictions.vertices if predictions.vertices is not None else predictions.shape
    assert used is not None
    count = truth.model.layout.vertex_count
    if used.shape[1] != count:
        raise MissingDataError(
            f"the predictions have {used.shape[1]} vertices per face, the face model {count}: "
            "both must have the same UV layout"
        )
    landmark = truth.model.layout.landmark_indices
    names = ["reconstruction"]
    if predictions.vertices is not None:
        names += ["dense_2d", "dense_3d"]
    if align == "procrustes":  # only it finds the template's scale
        names += ["template"]
    out = {name: np.full(len(benchmark), np.nan) for name in names}
    offset = np.full((len(benchmark), 2), np.nan)
    self_error = np.full(len(benchmark), np.nan)
    parameters = truth.parameters_of(benchmark)
    for i, g in truth.faces(benchmark):
        progress(1)
        difference = g[landmark] - benchmark.landmarks[i]
        offset[i] = difference[:, :2].mean(0)
        self_error[i] = metrics.nme_2d(g[None, landmark], benchmark.landmarks[None, i])[0]
        p = np.asarray(used[i], float)
        if not np.isfinite(p).all():
            continue
        if predictions.vertices is None:
            g = truth.shape(parameters, i).astype(float)
        else:
            out["dense_2d"][i] = metrics.nme_2d(p[None], g[None])[0]
            out["dense_3d"][i] = metrics.nme_3d(p[None], g[None])[0]
        eyes = float(metrics.inter_ocular(g[landmark]))
        if "template" in out:
            up = g * [1, -1, 1] if predictions.vertices is not None else g
            mean = truth.model.layout.mean_shape
            out["template"][i] = metrics.reconstruction_error(mean, up, eyes)
        if align == "icp":
            out["reconstruction"][i] = icp_error(p, g, eyes)
        else:
            out["reconstruction"][i] = metrics.reconstruction_error(p, g, eyes)
    # How well the dense truth agrees with the 68 true points: checks basis and pixel origin.
    truth.details.update(
        {
            "points": count,
            "align": align,
            "y flip": truth.y_flip,
            "NME 2D of its landmarks against the 68 points": float(np.nanmean(self_error)),
            "mean offset to the 68 points (x, y) pixels": np.nanmean(offset, 0).round(3).tolist(),
        }
    )
    return out
