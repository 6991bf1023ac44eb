"""One JSON file per face: landmarks, pose, crop, detection, and how to read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face, Frame
from sadr_cli.files import atomic_write
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.writers.mesh import Mesh

SCHEMA = 1
PHOTO_FRAME = {
    "name": "photo",
    "units": "pixels",
    "axes": "x right, y down, z towards the viewer",
    "origin": "(0, 0) is the centre of the photo's top-left pixel; z is relative",
}
POSE_CONVENTION = {
    "angles": "degrees, R = Rx(pitch) Ry(yaw) Rz(roll) as in AFLW2000-3D / 300W-LP",
    "yaw": "positive turns the face to the picture's left; beyond +-90 past the profile",
    "pitch": "positive lifts the chin",
    "roll": "positive turns the head clockwise in the picture",
    "rotation_matrix": "rows; takes the shape frame (x right, y up, z towards the viewer) to the "
    "photo turned y up",
    "quaternion_wxyz": "the same rotation, w >= 0",
    "projection": "p = scale * rotation_matrix @ S + translation; photo x = p[0], y = -p[1], "
    "z = p[2]",
    "scale": "pixels per unit of S; 1 unit = 66.67 mm of the model's prior, not measured",
}


def face_json(
    face: Face,
    frame: Frame,
    index: int,
    mesh: Mesh,
    files: dict[str, str] | None = None,
    version: str = "",
) -> dict[str, Any]:
    """The record as plain JSON types: landmarks and boxes in photo pixels, pose, mesh, files.

    index: number of the face in its photo. files: format -> file name beside the JSON.
    """
    yaw, pitch, roll = face.euler
    record: dict[str, Any] = {
        "format": "sadr-face",
        "schema": SCHEMA,
        "version": version,
        "source": frame.source,
        "name": frame.name,
        "face": index,
        "image": {"width": frame.width, "height": frame.height},
        "frame": PHOTO_FRAME,
        "confidence": _round(face.confidence, 4),
        "warnings": list(face.warnings),
        "box": _round(face.box, 3),
        "landmarks": {
            "order": "300-W, 68 points",
            "points": _round(face.landmarks, 3),
            "visibility": _round(face.landmark_visibility, 4),
            "confidence": _round(face.landmark_confidence, 4),
        },
        "pose": {
            "yaw": _round(yaw, 4),
            "pitch": _round(pitch, 4),
            "roll": _round(roll, 4),
            "rotation_matrix": _round(face.rotation, 9),
            "quaternion_wxyz": _round(face.quaternion, 9),
            "scale": _round(face.scale, 6),
            "pixels_per_millimetre": _round(face.scale / MM_PER_UNIT, 6),
            "translation": _round(face.translation, 4),
            "convention": POSE_CONVENTION,
        },
        "crop": {
            "center_x": _round(face.crop.center_x, 4),
            "center_y": _round(face.crop.center_y, 4),
            "size": _round(face.crop.size, 4),
            "note": "axis-aligned square in photo pixels, what the network saw",
        },
        "detection": None,
        "mesh": mesh.describe(),
        "files": files or {},
    }
    if mesh.landmarks is not None:
        record["landmarks"]["vertices"] = mesh.landmarks.tolist()
    if frame.index is not None:
        record["image"]["index"] = frame.index
    if frame.time is not None:
        record["image"]["time"] = frame.time
    if face.detection is not None:
        points = face.detection.points
        record["detection"] = {
            "detector": face.detection.detector,
            "score": _round(face.detection.score, 4),
            "box": _round(face.detection.box, 3),
            "points": None if points is None else _round(points, 3),
        }
    return record


def write_face_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record of :func:`face_json`, one landmark per line so that people can read it."""
    atomic_write(path, dump(record).encode("utf-8", "surrogateescape"))


def dump(value: Any, depth: int = 0) -> str:
    """JSON with one key per line; lists of numbers stay on one line."""
    pad = "  " * (depth + 1)
    if isinstance(value, dict) and value:
        rows = [f"{pad}{json.dumps(k)}: {dump(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + "  " * depth + "}"
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        rows = [pad + dump(v, depth + 1) for v in value]
        return "[\n" + ",\n".join(rows) + "\n" + "  " * depth + "]"
    return json.dumps(value, allow_nan=False)


def _round(values: Any, decimals: int) -> Any:
    """Numbers of any nesting as Python floats; NaN and infinity, which JSON lacks, as None."""
    array: NDArray[np.float64] = np.asarray(values, np.float64).round(decimals)
    if np.isfinite(array).all():
        return (array + 0.0).tolist()  # + 0.0: no "-0.0"
    return np.where(np.isfinite(array), array, np.array(None, object)).tolist()
