"""NumPy archive with all data of a face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sadr_cli.arrays import write_npz
from sadr_cli.faces import Face
from sadr_cli.writers.mesh import Mesh

PHOTO_FRAME = "photo pixels: x right, y down, z towards the viewer, (0, 0) = centre of top-left"


class NPZWriter:
    """Uncompressed, without pickle; ``about`` is a JSON text that describes every array."""

    format = "npz"
    suffix = ".npz"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        arrays, about = _mesh_arrays(mesh)
        if face is not None:
            more, more_about = _face_arrays(face)
            arrays.update(more)
            about.update(more_about)
        about["mesh"] = mesh.describe()
        arrays["about"] = np.array(json.dumps(about))
        write_npz(path, arrays)
        return [path]


def _mesh_arrays(mesh: Mesh) -> tuple[dict[str, Any], dict[str, Any]]:
    where = f"frame {mesh.frame}, {mesh.units}, see mesh"
    table: dict[str, tuple[Any, str]] = {
        "vertices": (mesh.vertices, f"(V, 3) {where}"),
        "triangles": (mesh.triangles, "(T, 3) vertex indices, counter-clockwise from outside"),
        "colors": (mesh.colors, "(V, 3) sRGB from the photo"),
        "uv": (mesh.uv, "(V, 2) texture coordinates, v up"),
        "visibility": (mesh.visibility, "(V,) in [0, 1]"),
        "confidence": (mesh.confidence, "(V,) in [0, 1]"),
        "landmark_indices": (mesh.landmarks, "(68,) vertex of each landmark, 300-W order"),
        "to_photo": (mesh.to_photo, "(4, 4) homogeneous vertices -> photo pixels"),
    }
    table = {k: v for k, v in table.items() if v[0] is not None}
    return {k: v[0] for k, v in table.items()}, {k: v[1] for k, v in table.items()}


def _face_arrays(face: Face) -> tuple[dict[str, Any], dict[str, str]]:
    f4 = np.float32
    crop = [face.crop.center_x, face.crop.center_y, face.crop.size]
    table: dict[str, tuple[Any, str]] = {
        "vertices_photo": (np.asarray(face.vertices, f4), f"(V, 3) final face G, {PHOTO_FRAME}"),
        "pose_face_photo": (np.asarray(face.pose_face, f4), "(V, 3) face P, photo pixels"),
        "shape": (np.asarray(face.shape, f4), "(V, 3) S: y up, 1 unit = 66.67 mm of the prior"),
        "landmarks": (np.asarray(face.landmarks, f4), "(68, 3) photo pixels"),
        "landmark_visibility": (np.asarray(face.landmark_visibility, f4), "(68,) in [0, 1]"),
        "landmark_confidence": (np.asarray(face.landmark_confidence, f4), "(68,) in [0, 1]"),
        "attention": (np.asarray(face.attention, f4), "(A, A) over the crop, in [0, 1]"),
        "rotation": (np.asarray(face.rotation), "(3, 3) R of p = scale R S + translation"),
        "scale": (np.float64(face.scale), "pixels per unit of S"),
        "translation": (np.asarray(face.translation), "(3,) pixels; photo x = p.x, y = -p.y"),
        "euler": (np.array(face.euler), "yaw, pitch, roll in degrees, AFLW2000-3D convention"),
        "euler_yxz": (np.array(face.euler_yxz), "the same in the order y-x-z, safe at profiles"),
        "quaternion": (np.array(face.quaternion), "w, x, y, z of the rotation"),
        "crop": (np.array(crop), "centre x, centre y, side of the square, photo pixels"),
        "crop_angle": (np.float64(face.crop.angle), "degrees of its clockwise rotation"),
        "box": (np.asarray(face.box), "x0, y0, x1, y1 of the landmarks, photo pixels"),
        "face_confidence": (np.float64(face.confidence), "in [0, 1]"),
    }
    if face.detection is not None:
        box = np.asarray(face.detection.box, np.float64)
        table["detection_box"] = (box, "x0, y0, x1, y1 of the detector, photo pixels")
        table["detection_score"] = (np.float64(face.detection.score), "in [0, 1]")
    return {k: v[0] for k, v in table.items()}, {k: v[1] for k, v in table.items()}
