"""Face detection: one module per detector, and each one's calibration to the network's crop.

    detector = create_detector("centerface")
    faces = select_faces(detector.detect(image), "largest", image.shape[:2])  # (H, W, 3) uint8
    crop = crop_for_detection(faces[0])

A detector's module is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module

from sadr_cli.detection.base import (
    SelectiveDetector,
    non_maximum_suppression,
    prominence,
    select_faces,
)
from sadr_cli.detection.boxes import detection_to_record, merge_boxes, read_boxes
from sadr_cli.detection.calibration import crop_for_detection, face_angle
from sadr_cli.detection.turned import QUICK_SIDE, TurningDetector
from sadr_cli.errors import UsageError
from sadr_cli.protocols import FaceDetector

__all__ = [
    "DEFAULT_DETECTOR",
    "DETECTORS",
    "SelectiveDetector",
    "TurningDetector",
    "available_detectors",
    "create_detector",
    "crop_for_detection",
    "detection_to_record",
    "face_angle",
    "merge_boxes",
    "non_maximum_suppression",
    "prominence",
    "read_boxes",
    "runnable_detectors",
    "select_faces",
]

DEFAULT_DETECTOR = "centerface"
DETECTORS = ("centerface", "sfd", "blazeface", "yunet", "retinaface", "none")


def create_detector(
    name: str = DEFAULT_DETECTOR,
    device: str = "cpu",
    faces: str | int = "all",
    min_score: float = 0.0,
    min_size: float = 0.0,
) -> FaceDetector:
    """The detector ``name``, ready to use; it also finds faces that are turned in the picture.

    faces: as for :func:`select_faces`; where only the main one is wanted, centerface looks at fewer
    pixels, and may leave out the others.
    device: where sfd, blazeface and retinaface run ("cpu", "cuda", "mps"); the others use the CPU.
    min_score, min_size: see ``SelectiveDetector``.
    Raises UsageError for an unknown name, MissingDataError when its weights are not there.
    """
    detector = _create(name, device, faces)
    if name != "none":
        quick = _create(name, device, faces, QUICK_SIDE) if name == "centerface" else None
        detector = TurningDetector(detector, quick)
    if min_score or min_size:
        return SelectiveDetector(detector, min_score, min_size)
    return detector


def _create(name: str, device: str, faces: str | int, closest: int | None = None) -> FaceDetector:
    if name == "centerface":
        from sadr_cli.detection.centerface import CenterFace

        return CenterFace(main=faces in ("largest", 1), closest=closest)
    if name == "none":
        from sadr_cli.detection.none import WholeImage

        return WholeImage()
    if name in DETECTORS:
        from sadr_cli.detection.face_alignment import FaceAlignmentDetector

        return FaceAlignmentDetector(name, device)
    raise UsageError(f"unknown detector {name!r}: choose one of {', '.join(runnable_detectors())}")


def available_detectors() -> dict[str, str | None]:
    """Every detector's name -> None when it can run here, else one sentence saying why not."""
    centerface = import_module("sadr_cli.detection.centerface")
    others = import_module("sadr_cli.detection.face_alignment")
    return {
        "centerface": centerface.why_unavailable(),
        **{name: others.why_unavailable(name) for name in others.NAMES},
        "none": None,
    }


def runnable_detectors() -> list[str]:
    """Names of the detectors that can run here."""
    return [name for name, reason in available_detectors().items() if reason is None]
