"""One face -> its files, its row of poses.csv, its line in the manifest and its card."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from sadr_cli.faces import Face, Frame
from sadr_cli.gallery import Card, face_card
from sadr_cli.pipeline.settings import RunSettings
from sadr_cli.render.coarse import encode_motion
from sadr_cli.render.contour import with_contour
from sadr_cli.results.entry import FaceEntry, Span
from sadr_cli.results.face_record import face_json, write_face_json
from sadr_cli.results.poses_csv import pose_row
from sadr_cli.uv import UVLayout
from sadr_cli.version import __version__
from sadr_cli.writers.animation import Motion
from sadr_cli.writers.compose import compose_mesh, write_formats


@dataclass(frozen=True)
class FaceFiles:
    """What :func:`write_face_files` made: file names, the row of poses.csv, the manifest's line."""

    outputs: list[str]
    row: list[str]
    entry: FaceEntry
    seconds: float
    card: Card | None = None


def write_face_files(
    face: Face,
    frame: Frame,
    stem: str,
    number: int,
    uv: UVLayout,
    settings: RunSettings,
    span: Span | None = None,
    motion: Motion | None = None,
) -> FaceFiles:
    """Write the files ``stem.*`` of a face in the photo, or the video's frame, ``frame``.

    number: of the face in its photo, or of its track. span, motion: of the track.
    Raises ValueError for a face that is not finite, OutputError.
    """
    began = time.perf_counter()
    check_finite(face)
    look, size = settings.look, (frame.height, frame.width)
    mesh = compose_mesh(face, uv, look, size, frame.image)
    files, outputs = write_formats(settings.out, stem, replace(mesh, motion=motion), face, look)
    record = face_json(face, frame, number, mesh, files, __version__)
    if span is not None:
        record["track"] = {**vars(span), "shape": "mean over the track"}
    document = f"{stem}.json"
    write_face_json(settings.out / document, record)
    card = None
    if settings.index:
        card = face_card(number, frame.image, face, uv, mesh)
        if motion is not None:
            card = replace(card, motion=_played(motion, uv))
    entry = FaceEntry(
        face=number,
        json=document,
        files=files,
        confidence=record["confidence"],
        box=tuple(record["box"]),
        **{k: record["pose"][k] for k in ("yaw", "pitch", "roll")},
        warnings=tuple(record["warnings"]),
        span=span,
    )
    row = pose_row(record)
    return FaceFiles([*outputs, document], row, entry, time.perf_counter() - began, card)


def _played(motion: Motion, uv: UVLayout) -> str:
    turns = None if motion.path is None else motion.path.rotations
    return encode_motion(motion.times, turns, motion.targets, motion.weights, uv)


def as_asked(face: Face, uv: UVLayout, settings: RunSettings) -> Face:
    """``face`` with what ``settings`` want of it besides."""
    return with_contour(face, uv) if settings.jaw == "contour" else face


def check_finite(face: Face) -> None:
    """ValueError for a face with coordinates that are no numbers."""
    if not (np.isfinite(face.vertices).all() and np.isfinite(face.landmarks).all()):
        raise ValueError("the network gave coordinates that are not finite")


def without_shape(face: Face) -> Face:
    """What drawing a face needs of it."""
    nothing = np.zeros((0, 3))
    return replace(face, shape=nothing, pose_face=nothing, visibility=nothing[:, 0])
