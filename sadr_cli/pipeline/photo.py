"""The two steps that run in threads: a photo in (decode, detect, crop), its files out."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import extract_crop
from sadr_cli.detection import select_faces
from sadr_cli.errors import InputError, OutputError
from sadr_cli.faces import Crop, Detection, Face, Frame
from sadr_cli.files import atomic_write
from sadr_cli.gallery import write_cards
from sadr_cli.marks import marked
from sadr_cli.pipeline.face_files import FaceFiles, as_asked, without_shape, write_face_files
from sadr_cli.pipeline.settings import RunSettings
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.render.overlay import render_overlay
from sadr_cli.results.entry import OVERLAYS, Entry, Stamp
from sadr_cli.sources import Source, load_frame
from sadr_cli.uv import UVLayout
from sadr_cli.watchdog import progress

_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Work:
    """One input of a run.

    detections: given faces, in their order; None: to be detected.
    numbers: the number of each given face, its place in the photo's files and records.
    """

    source: Source
    detections: tuple[Detection, ...] | None = None
    numbers: tuple[int, ...] = ()

    def number(self, index: int) -> int:
        """The number of face ``index``: its place, unless all given faces have their own."""
        given = self.numbers
        unique = self.detections is not None and len(set(given)) == len(self.detections)
        return given[index] if unique else index


@dataclass
class Photo:
    """A photo on its way through the run."""

    work: Work
    key: str
    name: str
    settings: str
    stamp: Stamp = None
    frame: Frame | None = None
    detections: list[Detection] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    faces: list[Face | None] = field(default_factory=list)
    doubtful: int = 0  # faces left out for their confidence
    error: str | None = None
    notes: tuple[str, ...] = ()
    decoded: int = 0  # bytes of the decoded photo
    seconds: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of the photo that are kept until its files are written."""
        return 0 if self.frame is None else self.frame.image.nbytes


@dataclass(frozen=True)
class Written:
    """What :func:`finish_photo` made: the manifest's entry and the rows of poses.csv."""

    entry: Entry
    rows: list[list[str]]


class Preparer:
    """Decode, detect and crop; called from several threads, each with its own detector."""

    def __init__(
        self,
        reconstructor: FaceReconstructor,
        make_detector: Callable[[], FaceDetector],
        settings: RunSettings,
    ) -> None:
        self._reconstructor = reconstructor
        self._make_detector = make_detector
        self._settings = settings
        self._local = threading.local()

    def __call__(self, photo: Photo) -> Photo:
        """Fill ``photo`` in; a failure becomes its ``error``, never an exception."""
        began = time.perf_counter()
        try:
            self._prepare(photo)
        except InputError as error:
            photo.error = reason_of(error, photo.work.source.label)
        except MemoryError:
            photo.error = "not enough memory to read it"
        except Exception as error:  # one bad photo never stops a run
            photo.error = f"{type(error).__name__}: {error}"
        photo.seconds += time.perf_counter() - began
        progress()
        return photo

    def _prepare(self, photo: Photo) -> None:
        source = photo.work.source
        if source.kind == "video" and source.error is None:
            raise InputError(
                f"{source.label}: is a video, whose faces --boxes cannot give: name it as an input"
            )
        frame = load_frame(source, self._settings.max_pixels)
        photo.decoded, photo.notes = frame.image.nbytes, frame.notes
        if photo.work.detections is not None:
            detections = list(photo.work.detections)
            _check_boxes(detections, frame)
        else:
            found = self._detector.detect(frame.image)
            photo_size = (frame.height, frame.width)
            detections = select_faces(found, self._settings.faces, photo_size)
        photo.detections = detections
        photo.crops = [self._reconstructor.crop_for(d) for d in detections]
        photo.images = [
            extract_crop(frame.image, crop, self._reconstructor.crop_resolution)
            for crop in photo.crops
        ]
        photo.faces = [None] * len(detections)
        if detections:  # a photo without a face is not kept in memory
            photo.frame = frame

    @property
    def _detector(self) -> FaceDetector:
        detector: FaceDetector | None = getattr(self._local, "detector", None)
        if detector is None:
            detector = self._local.detector = self._make_detector()
        return detector


def _check_boxes(detections: Sequence[Detection], frame: Frame) -> None:
    """InputError when a given box holds nothing of the photo."""
    for x0, y0, x1, y1 in (detection.box.tolist() for detection in detections):
        if x1 < 0 or y1 < 0 or x0 > frame.width - 1 or y0 > frame.height - 1:
            raise InputError(
                f"{frame.source}: the box {x0:g} {y0:g} {x1:g} {y1:g} lies outside the photo of "
                f"{frame.width} x {frame.height} pixels"
            )


def face_name(name: str, number: int) -> str:
    """Stem of the files of face ``number`` of a photo: ``name``, ``name_face1``..."""
    return name if number == 0 else f"{name}_face{number}"


def write_face(photo: Photo, index: int, uv: UVLayout, settings: RunSettings) -> FaceFiles:
    """Write the files of one face; afterwards only what an overlay needs of it is kept."""
    face, frame = photo.faces[index], photo.frame
    if face is None or frame is None:
        raise ValueError("the face has not been reconstructed")
    number = photo.work.number(index)
    named = replace(frame, name=photo.name)
    stem = face_name(photo.name, number)
    face = as_asked(face, uv, settings)
    files = write_face_files(face, named, stem, number, uv, settings)
    photo.faces[index] = without_shape(face)
    progress()
    return files


def finish_photo(
    photo: Photo, files: Sequence[Future[FaceFiles]], uv: UVLayout, settings: RunSettings
) -> Written:
    """Collect the faces' files, draw the overlay, compose the manifest's entry.

    OutputError passes and stops the run; anything else that goes wrong fails this photo alone.
    """
    done: list[FaceFiles] = []
    outputs: list[str] = []
    try:
        for future in files:
            try:
                done.append(future.result())
            except OutputError:
                raise
            except Exception as error:
                photo.error = photo.error or f"{type(error).__name__}: {error}"
        outputs = [name for face in done for name in face.outputs]
        if settings.overlay and done and photo.frame is not None:
            outputs.append(_write_overlay(photo, photo.frame, uv, settings))
        if settings.index and done:
            cards = [face.card for face in done if face.card is not None]
            write_cards(settings.out, photo.name, cards)
    except OutputError:
        raise
    except Exception as error:
        photo.error = photo.error or f"{type(error).__name__}: {error}"
    status = "failed" if photo.error is not None else "ok" if done else "no_face"
    entry = Entry(
        source=photo.work.source.label,
        key=photo.key,
        name=photo.name,
        status=status,
        reason=photo.error or (None if done else nobody(photo.doubtful)),
        notes=photo.notes,
        outputs=tuple(outputs),
        faces=tuple(face.entry for face in done),
        seconds=round(photo.seconds + sum(face.seconds for face in done), 3),
        settings=photo.settings,
        stamp=photo.stamp,
    )
    return Written(entry, [face.row for face in done])


def nobody(doubtful: int) -> str:
    """Why there is no face; ``doubtful`` ones were left out for their confidence."""
    return f"no face found but {doubtful} of too low a confidence" if doubtful else "no face found"


def _write_overlay(photo: Photo, frame: Frame, uv: UVLayout, settings: RunSettings) -> str:
    """Draw all faces of the photo; returns the file's name in the output folder."""
    shown = [(photo.work.number(k), face) for k, face in enumerate(photo.faces) if face is not None]
    labels = [str(number) for number, _ in shown] if len(photo.faces) > 1 else []
    faces = [face for _, face in shown]
    picture = render_overlay(frame.image, faces, uv, settings.layers, labels=labels)
    path = settings.out / OVERLAYS / f"{photo.name}.jpg"
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    data = cv2.imencode(".jpg", picture[..., ::-1], quality)[1].tobytes()
    atomic_write(path, marked(data), root=settings.out)
    return f"{OVERLAYS}/{path.name}"


def identity(source: Source) -> tuple[str, Stamp]:
    """(key, stamp) of an input: which one it is, and a sign that it has not changed since."""
    if source.data is not None:
        digest = hashlib.sha256(source.data).hexdigest()
        return f"data:{digest}", digest[:16]
    if source.path is None:
        return f"missing:{source.label}", None
    path = Path(source.path).absolute()
    key = sys.intern(str(path))  # one object wherever it is kept
    try:
        status = path.stat()
    except OSError:
        return key, None
    return key, (status.st_size, status.st_mtime_ns)


def reason_of(error: Exception, label: str) -> str:
    """The error's sentence without the input's name in front, which reports put there."""
    text = str(error)
    return text.removeprefix(f"{label}: ")
