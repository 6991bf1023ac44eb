"""One JSON file per face: landmarks, pose, crop and detection, with their conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sadr_cli.documents import indented, parse, rounded
from sadr_cli.errors import InputError
from sadr_cli.expression import MEASURES
from sadr_cli.faces import Face, Frame
from sadr_cli.files import atomic_write
from sadr_cli.folder import read_file
from sadr_cli.landmarks import JAW
from sadr_cli.results.fields import Damaged, Fields, array, count, matrix, number, text, texts
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.writers.mesh import Mesh

FORMAT = "sadr-face"
SCHEMA = 1
ATTENTION = 16  # rows and columns of the stored attention, as in the network `mobile`
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
    "yxz": "the same rotation as R = Ry(yaw) Rx(pitch) Rz(roll), safe at profiles: yaw about the "
    "picture's vertical, within +-180, pitch within +-90; signs as above",
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
    files: Mapping[str, str] | None = None,
    version: str = "",
) -> dict[str, Any]:
    """The record as plain JSON types: landmarks and boxes in photo pixels, pose, mesh, files.

    index: number of the face in its photo. files: format -> file name beside the JSON.
    """
    numbers = face_numbers(face)
    marks: dict[str, Any] = {
        "order": "300-W, 68 points",
        "points": rounded(face.landmarks, 3),
        "visibility": rounded(face.landmark_visibility, 4),
        "confidence": rounded(face.landmark_confidence, 4),
        **contour_numbers(face),
    }
    if mesh.landmarks is not None:
        marks["vertices"] = mesh.landmarks.tolist()
    image: dict[str, Any] = {"width": frame.width, "height": frame.height}
    if frame.index is not None:
        image["index"] = frame.index
    if frame.time is not None:
        image["time"] = frame.time
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "version": version,
        "source": frame.source,
        "name": frame.name,
        "face": index,
        "image": image,
        "frame": PHOTO_FRAME,
        **{k: numbers[k] for k in ("confidence", "warnings", "box", "expression")},
        "landmarks": marks,
        "pose": {**numbers["pose"], "convention": POSE_CONVENTION},
        "crop": {
            **numbers["crop"],
            "note": "square in photo pixels, what the network saw; angle: degrees that it is "
            "turned about its centre, clockwise",
        },
        **attention_numbers(face),
        "detection": numbers["detection"],
        "mesh": mesh.describe(),
        "files": dict(files or {}),
    }


def contour_numbers(face: Face) -> dict[str, Any]:
    """The jaw landmarks 0 to 16 on the visible outline; empty if they were not computed."""
    if face.contour is None:
        return {}
    return {"contour_jaw": rounded(face.contour[JAW], 3)}


def attention_numbers(face: Face) -> dict[str, Any]:
    """The attention, at most ATTENTION x ATTENTION; empty for a network without it."""
    attention = np.asarray(face.attention, np.float32)
    side = len(attention)
    if side == 1:
        return {}
    step = side // ATTENTION
    if step > 1 and side % ATTENTION == 0:
        attention = attention.reshape(ATTENTION, step, ATTENTION, step).mean((1, 3))
    note = "over the crop, row by row from its top, in [0, 1]: low where something covers the face"
    return {"attention": {"values": rounded(attention, 3), "note": note}}


def face_numbers(face: Face) -> dict[str, Any]:
    """Position, pose and confidence of a face, for its record and its row of poses.csv."""
    euler, yxz = (
        {k: rounded(v, 4) for k, v in zip(("yaw", "pitch", "roll"), angles, strict=True)}
        for angles in (face.euler, face.euler_yxz)
    )
    detection = None
    if face.detection is not None:
        points = face.detection.points
        detection = {
            "detector": face.detection.detector,
            "score": rounded(face.detection.score, 4),
            "box": rounded(face.detection.box, 3),
            "points": None if points is None else rounded(points, 3),
        }
    return {
        "confidence": rounded(face.confidence, 4),
        "warnings": list(face.warnings),
        "box": rounded(face.box, 3),
        "expression": {k: rounded(v, 4) for k, v in face.expression.items()},
        "pose": {
            **euler,
            "yxz": yxz,
            "rotation_matrix": rounded(face.rotation, 9),
            "quaternion_wxyz": rounded(face.quaternion, 9),
            "scale": rounded(face.scale, 6),
            "pixels_per_millimetre": rounded(face.scale / MM_PER_UNIT, 6),
            "translation": rounded(face.translation, 4),
        },
        "crop": {k: rounded(v, 4) for k, v in vars(face.crop).items()},
        "detection": detection,
    }


def write_face_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record of :func:`face_json`, one landmark per line for readability."""
    atomic_write(path, indented(record).encode())


def read_face_json(path: Path, root: Path | None = None) -> dict[str, Any]:
    """Read a record; root: see :func:`sadr_cli.folder.open_file`.

    InputError if it is missing, damaged or of another version.
    """
    try:
        record = parse(read_file(path, root))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}: the result is incomplete") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged, or not written by sadr") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: damaged, or not written by sadr")
    if record.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: was written by another version of sadr (layout {record.get('schema')!r:.20}, "
            f"this one reads {SCHEMA}): reconstruct it again"
        )
    try:
        _check(record)
    except Damaged as error:
        raise InputError(f"{path}: damaged: {error}; reconstruct it again") from error
    return record


def _check(record: dict[str, Any]) -> None:
    """Damaged unless all values that are read later have the right type and shape.

    Afterwards ``confidence`` exists, possibly as None, and optional values are valid or absent.
    """
    read = Fields(record, "the record")
    for key, check in _RECORD.items():
        read(key, check)
    record["confidence"] = read("confidence", number, None)
    if record.get("expression") is not None:  # records of earlier versions have none
        measures = Fields(record["expression"], "its expression")
        for key in MEASURES:
            measures(key, number, None)
    for part, checks in _PARTS.items():
        read = Fields(record.get(part), f"its {part}")
        for key, check in checks.items():
            read(key, check)
    for part, checks in _OPTIONAL.items():
        read = Fields(record[part], f"its {part}")
        values = {key: read(key, check, None) for key, check in checks.items()}
        for key in [key for key, value in values.items() if value is None]:
            record[part].pop(key, None)
    if record.get("detection") is not None:
        Fields(record["detection"], "its detection")("score", number)
    if record.get("attention") is not None:  # since 0.3
        Fields(record["attention"], "its attention")("values", _square)


def _rotation(value: Any) -> list[list[float]]:
    rows = matrix(3, 3)(value)
    if not np.allclose(np.array(rows) @ np.transpose(rows), np.eye(3), atol=1e-3):
        raise ValueError
    return rows


def _positive(value: Any) -> float:
    if number(value) <= 0:
        raise ValueError
    return value


def _side(value: Any) -> int:
    if not 0 < count(value) <= _LONGEST:
        raise ValueError
    return value


def _square(value: Any) -> list[Any]:
    side = len(array(value))
    if not 0 < side <= _FINEST:
        raise ValueError
    return matrix(side, side)(value)


_LONGEST = 1_000_000  # pixels of a photo's side
_FINEST = 256  # cells of an attention's side
_Checks = dict[str, Callable[[Any], Any]]
_RECORD: _Checks = {
    "source": text,
    "name": text,
    "face": count,
    "warnings": texts,
    "box": matrix(4),
}
_PARTS: dict[str, _Checks] = {
    "image": {"width": _side, "height": _side},
    "mesh": {"frame": text},
    "landmarks": {"points": matrix(68, 3), "visibility": matrix(68), "confidence": matrix(68)},
    "pose": {
        **dict.fromkeys(("yaw", "pitch", "roll"), number),
        "rotation_matrix": _rotation,
        "quaternion_wxyz": matrix(4),
        "scale": _positive,
        "pixels_per_millimetre": _positive,
        "translation": matrix(3),
    },
    "crop": {"center_x": number, "center_y": number, "size": _positive},
}
_OPTIONAL: dict[str, _Checks] = {
    "landmarks": {"contour_jaw": matrix(17, 3)},
    "image": {"index": count, "time": number},
    "crop": {"angle": number},
    "mesh": {"vertices": count, "triangles": count, "to_photo": matrix(4, 4)},
}
