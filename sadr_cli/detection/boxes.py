"""Detections as JSON lines: what ``sadr detect --json`` writes and ``--boxes`` reads.

One object per face::

    {"file": "photos/a.jpg", "face": 0, "box": [x0, y0, x1, y1], "score": 0.93,
     "points": [[x, y], ... 5], "angle": -3.1, "detector": "centerface", "width": 1200,
     "height": 800}

Pixels of the upright photo, the centre of the top-left pixel is (0, 0). Needed are ``file`` and
``box``. Without ``detector`` the box is taken as the box of the 68 landmarks; ``points`` refine
the crop where the detector's calibration uses them. ``angle``: degrees by which the face is turned,
clockwise; without it the ``points`` say so. Faces of a video also have ``frame`` and
``time``. Lines with a ``summary``, an ``error`` or ``"faces": 0`` are skipped, other keys ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sadr_cli.detection.calibration import CALIBRATIONS, WHOLE_CROP, face_angle
from sadr_cli.errors import UsageError
from sadr_cli.faces import Detection, Frame
from sadr_cli.pose import wrapped
from sadr_cli.text import LineTooLong

MOST_FACES = 2000  # of one photo: each keeps its crop until the photo is done
_FAR = 10_000_000  # pixels, frames, faces: beyond it nothing can be meant


@dataclass
class BoxGroup:
    """The faces of one file (of one frame, for a video), from consecutive lines.

    faces: the number each face had when it was detected, its place in the group if none is given.
    """

    file: str
    detections: list[Detection] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    frame: int | None = None

    def add(self, detections: Sequence[Detection], faces: Sequence[int]) -> None:
        """More faces of the file; ValueError when they become too many."""
        if len(self.faces) + len(faces) > MOST_FACES:
            raise ValueError(f"more than {MOST_FACES} faces for {self.file}")
        self.faces += faces
        self.detections += detections


def detection_to_record(detection: Detection, frame: Frame, face: int) -> dict[str, Any]:
    """The JSON object of one face; pixels rounded to a hundredth."""
    record: dict[str, Any] = {"file": str(frame.path or frame.source), "name": frame.name}
    if frame.index is not None:
        record |= {"frame": frame.index, "time": frame.time}
    points = None if detection.points is None else np.round(detection.points, 2).tolist()
    angle = face_angle(detection)
    return record | {
        "face": face,
        "box": np.round(detection.box, 2).tolist(),
        "score": round(float(detection.score), 4),
        "points": points,
        "angle": None if angle is None else round(angle, 2),
        "detector": detection.detector,
        "width": frame.width,
        "height": frame.height,
    }


def read_boxes(lines: Iterable[str], label: str = "--boxes") -> Iterator[BoxGroup]:
    """Groups of consecutive faces of the same file, as lines come in.

    Raises UsageError naming ``label``, the line and what is wrong with it.
    """
    group: BoxGroup | None = None
    number = 0
    try:
        for number, line in enumerate(lines, 1):  # noqa: B007
            record = _parse(line.strip())
            if record is None:
                continue
            file, frame = _text(record, "file"), _whole(record, "frame")
            detection, face = record_to_detection(record), _whole(record, "face")
            if group is None or (group.file, group.frame) != (file, frame):
                if group is not None:
                    yield group
                group = BoxGroup(file, frame=frame)
            group.add([detection], [len(group.faces) if face is None else face])
    except LineTooLong:
        raise UsageError(f"{label}, line {number + 1}: is too long: not JSON lines") from None
    except ValueError as error:
        raise UsageError(f"{label}, line {number}: {error}") from error
    if group is not None:
        yield group


def merge_boxes(groups: Iterable[BoxGroup], label: str = "--boxes") -> list[BoxGroup]:
    """One group per file, wherever its lines are; UsageError as :func:`read_boxes`."""
    merged: dict[str, BoxGroup] = {}
    for group in groups:
        known = merged.setdefault(group.file, group)
        if known is not group:
            try:
                known.add(group.detections, group.faces)
            except ValueError as error:
                raise UsageError(f"{label}: {error}") from error
    return list(merged.values())


def record_to_detection(record: dict[str, Any]) -> Detection:
    """The Detection of one JSON object; raises ValueError saying what is wrong."""
    box = _numbers(record.get("box"), 4, "'box' must be four numbers x0, y0, x1, y1")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"'box' needs x0 < x1 and y0 < y1, not {box.tolist()}")
    if min(box[2] - box[0], box[3] - box[1]) < 1:
        raise ValueError(f"'box' is smaller than a pixel: {box.tolist()}")
    points = record.get("points")
    if points is not None:
        flat = [v for p in points for v in p] if _is_pairs(points) else None
        points = _numbers(flat, 10, "'points' must be five pairs of numbers").reshape(5, 2)
    score = record.get("score", 1.0)
    score = _numbers([score], 1, "'score' must be a number").item()
    detector = record.get("detector") or "landmarks"
    if not isinstance(detector, str):
        raise ValueError(f"'detector' must be a detector's name, not {_brief(detector)}")
    if detector not in CALIBRATIONS and detector != WHOLE_CROP:
        known = ", ".join([*CALIBRATIONS, WHOLE_CROP])
        raise ValueError(f"unknown 'detector' {_brief(detector)}: one of {known}")
    angle = record.get("angle")
    if angle is not None:
        angle = wrapped(_numbers([angle], 1, "'angle' must be a number of degrees").item())
    return Detection(box, float(min(max(score, 0.0), 1.0)), points, detector, angle)


def _parse(text: str) -> dict[str, Any] | None:
    """The line's object; None where it has no face."""
    if not text:
        return None
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if text.startswith(("{", "[")):
            hint = "the line is cut, or the JSON is spread over several lines (jq needs -c)"
        else:
            hint = "expected one JSON object per line, as `sadr detect --json` writes"
        raise ValueError(f"not JSON: {hint}") from error
    except ValueError as error:
        raise ValueError("a number has thousands of digits") from error
    if not isinstance(record, dict):
        raise ValueError("expected a JSON object with 'file' and 'box'")
    no_face = "summary" in record or "error" in record or record.get("faces") == 0
    return None if no_face else record


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value)


def _numbers(value: Any, count: int, message: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    good = isinstance(value, list) and len(value) == count
    # Compared as they are: a whole number of many digits is no float.
    if not good or not all(type(v) in (int, float) and -_FAR < v < _FAR for v in value):
        raise ValueError(f"{message}, each within {_FAR:,} of 0")
    return np.array(value, float)


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key!r} is missing or no text")
    return value


def _whole(record: dict[str, Any], key: str) -> int | None:
    value = record.get(key)
    if value is not None and (type(value) is not int or not 0 <= value < _FAR):
        raise ValueError(f"{key!r} must be a whole number below {_FAR:,}, not {_brief(value)}")
    return value


def _brief(value: Any) -> str:
    """``value`` in a message, whatever somebody wrote there."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
