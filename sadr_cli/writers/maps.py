"""Maps of a face over its photo (depth, normals, PNCC...) and over the UV layout.

The PNG text of each explains its values; 16-bit maps store ``value = low + step * v``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import crop_matrix
from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.render.rasterize import interpolate, rasterize, vertex_normals
from sadr_cli.uv import UVLayout
from sadr_cli.writers.mesh import Mesh
from sadr_cli.writers.pictures import write_png

_STEPS = 65534.0  # 0 is reserved for "no face"


class UVMapWriter:
    """The UV position map, PRNet's format: (256, 256, 3) photo pixels, ``.npy`` and 16-bit PNG.

    Outside the face, the ``.npy`` has NaN and the PNG 0.
    """

    format = "uvmap"
    suffix = ".uv.npy"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        face, uv, _ = _known(mesh, face)
        vertices = np.asarray(face.vertices, np.float32)
        buffer = io.BytesIO()
        np.save(buffer, uv.to_map(vertices, np.nan))
        atomic_write(path, buffer.getvalue())
        picture = path.with_suffix(".png")
        stored, text = _sixteen(vertices, ("x", "y", "z"))
        write_png(picture, uv.to_map(stored), {**text, "frame": "photo pixels, y down"})
        return [path, picture]


class AttentionWriter:
    """The attention mask, resized to the photo: 255 is full attention; 0 outside the crop."""

    format = "attention"
    suffix = ".attention.png"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        face, _, (height, width) = _known(mesh, face)
        if face.attention.size <= 1:
            raise UsageError("the attention mask is only in npz meshes: reconstruct with npz")
        matrix = cv2.invertAffineTransform(crop_matrix(face.crop, len(face.attention)))
        picture = cv2.warpAffine(
            np.asarray(face.attention, np.float32),
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        write_png(path, np.rint(picture * 255).astype(np.uint8), {"values": "attention x 255"})
        return [path]


class VisibilityWriter:
    """Visibility over the UV layout, 8 bits: 255 is visible, 0 hidden or outside the face."""

    format = "visibility"
    suffix = ".visibility.png"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        face, uv, _ = _known(mesh, face)
        values = np.rint(np.clip(face.visibility, 0, 1) * 255).astype(np.uint8)
        write_png(path, uv.to_map(values), {"values": "visibility x 255 over the UV layout"})
        return [path]


class DepthWriter:
    """Depth over the photo, 16 bits: larger is nearer, 0 outside the face."""

    format = "depth"
    suffix = ".depth.png"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        face, _, size = _known(mesh, face)
        window, local = _window(face, size)
        depth = _rasterize(mesh, face, window, local)[2]
        here = np.isfinite(depth)
        out = np.zeros(size, np.uint16)
        text = {"values": "no face in the photo"}
        if here.any():
            stored, text = _sixteen(depth[here][:, None], ("z",))
            out[window][here] = stored[:, 0]
        write_png(path, out, {**text, "frame": "photo pixels, z towards the viewer"})
        return [path]


class NormalsWriter:
    """Normals over the photo, 8 bits: (n + 1) / 2, x right, y up, z to the viewer; 0: no face."""

    format = "normals"
    suffix = ".normals.png"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        face, uv, _ = _known(mesh, face)
        normals = vertex_normals(face.vertices, uv.triangles[:, ::-1]) * (1, -1, 1)

        def encode(values: NDArray[np.float32]) -> NDArray[np.float32]:
            length = np.linalg.norm(values, axis=-1, keepdims=True)
            return (values / np.maximum(length, 1e-9) + 1) / 2

        text = {"values": "(n + 1) / 2 x 255, x right, y up, z to the viewer"}
        write_png(path, _over_photo(mesh, face, normals, encode), text)
        return [path]


class PNCCWriter:
    """Projected normalised coordinate code: each pixel's position on the mean face as a colour.

    As in 3DDFA, the coordinates of the mean face, each scaled to [0, 1], are R, G and B.
    """

    format = "pncc"
    suffix = ".pncc.png"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        face, uv, _ = _known(mesh, face)
        mean = np.asarray(uv.mean_shape, np.float64)
        code = (mean - mean.min(0)) / np.maximum(np.ptp(mean, axis=0), 1e-9)
        text = {"values": "mean face x, y, z in [0, 1] x 255"}
        write_png(path, _over_photo(mesh, face, code, lambda values: values), text)
        return [path]


def _over_photo(
    mesh: Mesh,
    face: Face,
    values: NDArray[Any],
    encode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> NDArray[np.uint8]:
    """Values (V, 3) per vertex, interpolated over the photo and encoded to [0, 1]; 0 elsewhere."""
    _, uv, size = _known(mesh, face)
    window, local = _window(face, size)
    index, weights, _ = _rasterize(mesh, face, window, local)
    inside = interpolate(values, uv.triangles[:, ::-1], index, weights)
    out = np.zeros((*size, 3), np.uint8)
    out[window] = np.rint(encode(inside) * 255).astype(np.uint8) * (index >= 0)[..., None]
    return out


def _window(face: Face, size: tuple[int, int]) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """The part of the photo that the face covers, and the vertices in that part's pixels."""
    low = np.floor(face.vertices[:, :2].min(0)).astype(int)
    high = np.ceil(face.vertices[:, :2].max(0)).astype(int) + 1
    x0, y0 = np.clip(low, 0, (size[1], size[0]))
    x1, y1 = np.clip(high, (x0, y0), (size[1], size[0]))
    local = np.array(face.vertices, np.float64)
    local[:, :2] -= (x0, y0)
    return (slice(y0, y1), slice(x0, x1)), local


def _rasterize(
    mesh: Mesh, face: Face, window: tuple[slice, slice], local: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    _, uv, _ = _known(mesh, face)
    rows, columns = (part.stop - part.start for part in window)
    return rasterize(local, uv.triangles[:, ::-1], rows, columns)


def _sixteen(
    values: NDArray[Any], names: tuple[str, ...]
) -> tuple[NDArray[np.uint16], dict[str, str]]:
    """(N, C) -> integers 1..65535, scaled per column, and the text with the scaling."""
    low, high = values.min(0).astype(float), values.max(0).astype(float)
    step = np.maximum(high - low, 1e-9) / _STEPS
    stored = np.rint((values - low) / step + 1).astype(np.uint16)
    ways = (
        f"{n} = {a:.9g} + {s:.9g} * (value - 1)" for n, a, s in zip(names, low, step, strict=True)
    )
    return stored, {"values": "; ".join(ways) + "; 0: nothing here"}


def _known(mesh: Mesh, face: Face | None) -> tuple[Face, UVLayout, tuple[int, int]]:
    """The face, its layout and its photo's (height, width); UsageError if one is missing."""
    if face is None or mesh.layout is None or mesh.photo_size is None:
        raise UsageError("maps need the face's record: its JSON file, or an npz mesh")
    return face, mesh.layout, mesh.photo_size
