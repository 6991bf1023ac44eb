"""The face as coefficients of the user's linear model, in JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sadr_cli.documents import indented, rounded
from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.model.linear import fit_coefficients, load_linear_model
from sadr_cli.writers.mesh import Mesh


class CoefficientsWriter:
    """``NAME.coefficients.json``: identity, expression and the residual."""

    format = "coefficients"
    suffix = ".coefficients.json"

    def __init__(self, face_model: Path | None = None) -> None:
        self._path = face_model

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        if self._path is None:
            raise UsageError("coefficients need a face model: give its npz with --face-model")
        if face is None or mesh.layout is None:
            raise UsageError("coefficients need the face's record: its JSON file or an npz mesh")
        model = load_linear_model(self._path, mesh.layout)
        found = fit_coefficients(model, face.shape)
        k, left = model.identities, found.residual
        matrix = np.eye(4)
        matrix[:3, :3] = found.scale * found.rotation
        matrix[:3, 3] = found.translation
        document = {
            "format": "sadr-coefficients",
            "schema": 1,
            "model": {"file": self._path.name, "sha256": model.sha256, "points": len(model.points)},
            "units": "identity, expression: standard deviations; own: the model's own coefficients",
            "identity": rounded(found.identity, 5),
            "expression": rounded(found.expression, 5),
            "own": {
                "identity": rounded(found.identity * model.sigma[:k], 6),
                "expression": rounded(found.expression * model.sigma[k:], 6),
            },
            "residual_mm": {
                "mean": rounded(left.mean(), 4),
                "median": rounded(np.median(left), 4),
                "p95": rounded(np.percentile(left, 95), 4),
                "max": rounded(left.max(), 4),
                "note": "millimetres of the mean head, not measured",
            },
            "prior_mm2": model.prior,
            "model_to_canonical_mm": rounded(matrix, 6),
        }
        atomic_write(path, (indented(document) + "\n").encode())
        return [path]
