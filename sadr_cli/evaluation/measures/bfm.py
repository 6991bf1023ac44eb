"""Face models for the dense truth: the documented npz, or the usual BFM ``.mat`` + UV ``.mat``.

npz (shape frame: y up, 1 unit = 66.67 mm; V face pixels in ``np.where(mask)`` order)
    ``mask`` (256, 256) bool; ``region`` (256, 256) uint8; ``kpt`` (68, 2) int row, column;
    ``mean`` (V, 3); ``basis`` (V, 3, K), column k = one standard deviation of coefficient k;
    ``sigma`` (K,) BFM coefficient of that standard deviation; optional ``identities``, the
    number of identity columns (40 if absent), the rest being expression; optional ``covered``.

BFM ``.mat``
    As the tools around 300W-LP write it (one ``model`` struct, or the fields themselves), in
    micrometres: ``shapeMU`` (3 N,), ``shapePC`` (3 N, 199), ``shapeEV`` (199,), ``expMU``,
    ``expPC`` (3 N, 29), ``expEV`` (29,), ``tri`` (3, T) one-based; also under the names of
    3DDFA's files (``mu_shape``, ``w``, ``sigma``, ``mu_exp``, ``w_exp``, ``sigma_exp``).
UV ``.mat``
    ``UV`` (N, 2), u to the right and v up in [0, 1].
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import read_mat, write_npz
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.measures.dense import UNIT, DenseTruth
from sadr_cli.model.face_model import load_face_model
from sadr_cli.render.rasterize import interpolate, rasterize
from sadr_cli.uv import SIZE, UVLayout

_ALIASES = {
    "shapeMU": ("shapeMU", "mu_shape"),
    "shapePC": ("shapePC", "w"),
    "shapeEV": ("shapeEV", "sigma"),
    "expMU": ("expMU", "mu_exp"),
    "expPC": ("expPC", "w_exp"),
    "expEV": ("expEV", "sigma_exp"),
    "tri": ("tri",),
}
_BLOCK = 8  # basis columns rasterised at a time


def load_dense_truth(path: Path, y_flip: str = "height") -> DenseTruth:
    """The decoder of the dense truth from a face-model npz."""
    model = load_face_model(path)
    k, identities = model.basis.shape[-1], model.identities
    if identities > 199 or k - identities > 29:
        raise MissingDataError(
            f"{path} has {identities} identity and {k - identities} expression coefficients, more "
            "than the 199 and 29 of the .mat files"
        )
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    return DenseTruth(model, y_flip, sha)


def convert_bfm(bfm: Path, uv: Path, layout: UVLayout, out: Path) -> Path:
    """Write the documented npz from a BFM ``.mat`` and its UV ``.mat``.

    layout: the UV pixels of the face and its landmarks (part of every checkpoint, not of the
    BFM). Each face pixel takes the surface point under its centre; pixels outside the model's
    own UV triangles copy the nearest pixel inside.
    """
    model, coordinates = _read_bfm(bfm), _read_uv(uv)
    vertices = model["shapeMU"].size // 3
    if len(coordinates) != vertices:
        raise MissingDataError(
            f"{uv} has {len(coordinates)} UV points but {bfm} has {vertices} vertices: they do not "
            "belong together"
        )
    triangles = model["tri"]
    # column = 255 u, row = 255 (1 - v), z = 0
    flat = np.column_stack([coordinates[:, 0], 1 - coordinates[:, 1], np.zeros(vertices)])
    flat *= SIZE - 1
    face_index, weights, _ = rasterize(flat, triangles, SIZE, SIZE)
    covered = (face_index >= 0) & layout.mask
    if not covered.any():
        raise MissingDataError(f"no UV triangle of {uv} lies inside the face mask")
    source = _nearest(covered)[layout.mask]

    def to_pixels(values: NDArray[Any]) -> NDArray[np.float32]:
        """(N, C) at the model's vertices -> (V, C) at the face pixels."""
        image = interpolate(values, triangles, face_index, weights)
        return image.reshape(SIZE * SIZE, -1)[source]

    mean = (model["shapeMU"] + model["expMU"]).reshape(-1, 3)
    columns = np.concatenate([model["shapePC"], model["expPC"]], 1)
    sigma = np.concatenate([model["shapeEV"].ravel(), model["expEV"].ravel()])
    basis = np.empty((layout.vertex_count, 3, len(sigma)), np.float32)
    for start in range(0, len(sigma), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(sigma)))
        block = (columns[:, part] * sigma[part]).reshape(vertices, -1)
        basis[..., part] = UNIT * to_pixels(block).reshape(layout.vertex_count, 3, -1)
    arrays = {
        "mask": layout.mask,
        "covered": covered,
        "region": layout.region,
        "kpt": layout.kpt,
        "mean": UNIT * to_pixels(mean),
        "basis": basis,
        "sigma": sigma.astype(np.float32),
        "identities": np.array(model["shapePC"].shape[1], np.int64),
    }
    write_npz(out, arrays)
    return out


def _read_bfm(path: Path) -> dict[str, NDArray[Any]]:
    raw = read_mat(path, [a for aliases in _ALIASES.values() for a in aliases], "model")
    out: dict[str, NDArray[Any]] = {}
    for name, aliases in _ALIASES.items():
        key = next((a for a in aliases if a in raw), None)
        if key is None:
            raise MissingDataError(f"{path} has no {' or '.join(aliases)}: it is not a BFM file")
        out[name] = np.asarray(raw[key], np.float64)
        if not np.isfinite(out[name]).all():
            raise MissingDataError(f"{path}: {key} holds values that are not finite")
    n = out["shapeMU"].size
    for kind in ("shape", "exp"):
        out[f"{kind}MU"] = out[f"{kind}MU"].ravel()
        k = out[f"{kind}EV"].size
        good = out[f"{kind}MU"].shape == (n,) and out[f"{kind}PC"].shape == (n, k) and n % 3 == 0
        if not good:
            raise MissingDataError(f"{path}: the sizes of {kind}MU, {kind}PC, {kind}EV differ")
    triangles = np.atleast_2d(out["tri"].astype(np.int64) - 1)
    if triangles.shape[0] == 3 and triangles.shape[1] != 3:
        triangles = triangles.T
    inside = triangles.size > 0 and triangles.min() >= 0 and triangles.max() < n // 3
    if triangles.shape[1:] != (3,) or not inside:
        raise MissingDataError(f"{path}: tri must hold one-based vertex numbers (3, T)")
    out["tri"] = triangles
    return out


def _read_uv(path: Path) -> NDArray[np.float64]:
    raw = read_mat(path, ["UV"])
    if "UV" not in raw:
        raise MissingDataError(f"{path} has no UV: it is not a UV coordinate file")
    uv = np.asarray(raw["UV"], float)
    if uv.ndim == 2 and uv.shape[1] != 2 and uv.shape[0] == 2:
        uv = uv.T
    if uv.ndim != 2 or uv.shape[1] != 2:
        raise MissingDataError(f"{path}: UV must be (N, 2), not {uv.shape}")
    if not (np.abs(uv - 0.5) <= 1).all():
        raise MissingDataError(f"{path}: UV must lie in [0, 1]")
    return uv


def _nearest(covered: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(H, W) flat index of the nearest covered pixel."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.asarray(rows * covered.shape[1] + columns, np.intp)
