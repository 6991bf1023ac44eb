"""The 68 landmarks for other programs: ``.pts`` (300-W) and CSV.

Order of 300-W / iBUG, also used by dlib's 68-point predictor and OpenCV's ``FacemarkLBF``: jaw
0-16, brows 17-26, nose 27-35, eyes 36-47, lips 48-67, each from left to right in the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.writers.mesh import Mesh


class PTSWriter:
    """300-W's text format: x and y, with (1, 1) at the top-left pixel.

    The jaw follows the visible outline, as in 300-W, if the face has a contour.
    """

    format = "pts"
    suffix = ".pts"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        points = _landmarks(mesh, face) if face is None else face.shown_landmarks
        points = np.asarray(points, np.float64)[:, :2] + 1
        rows = [f"{x:.4f} {y:.4f}" for x, y in points.tolist()]
        text = "\n".join(["version: 1", f"n_points: {len(rows)}", "{", *rows, "}", ""])
        atomic_write(path, text.encode())
        return [path]


class CSVWriter:
    """One row per landmark: position in the photo and in the mesh's frame, and vertex index."""

    format = "csv"
    suffix = ".csv"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        points = _landmarks(mesh, face)
        head = ["index", "photo_x_px", "photo_y_px", "photo_z_px"]
        columns = [[str(k) for k in range(len(points))]]
        columns += [[f"{v:.4f}" for v in points[:, axis]] for axis in range(3)]
        if face is not None:
            head += ["visibility", "confidence"]
            columns.append([f"{v:.4f}" for v in face.landmark_visibility])
            columns.append([f"{v:.4f}" for v in face.landmark_confidence])
            if face.contour is not None:
                head += ["contour_x_px", "contour_y_px", "contour_z_px"]
                columns += [[f"{v:.4f}" for v in axis] for axis in face.contour.T]
        if mesh.landmarks is not None:
            unit = {"pixels": "px", "millimetres": "mm"}.get(mesh.units, "")
            head += [f"{mesh.frame}_{axis}_{unit}".rstrip("_") for axis in "xyz"] + ["vertex"]
            at = mesh.vertices[mesh.landmarks]
            columns += [[f"{v:.5f}" for v in at[:, axis]] for axis in range(3)]
            columns.append([str(v) for v in mesh.landmarks])
        lines = [",".join(head), *(",".join(row) for row in zip(*columns, strict=True)), ""]
        atomic_write(path, "\n".join(lines).encode())
        return [path]


def _landmarks(mesh: Mesh, face: Face | None) -> NDArray[np.float64]:
    """(68, 3) landmarks in photo pixels."""
    if face is not None:
        return np.asarray(face.landmarks, np.float64)
    if mesh.landmarks is None or mesh.to_photo is None:
        raise UsageError("landmarks need a mesh written by sadr, with its position in the photo")
    at = np.asarray(mesh.vertices[mesh.landmarks], np.float64)
    return at @ mesh.to_photo[:3, :3].T + mesh.to_photo[:3, 3]
