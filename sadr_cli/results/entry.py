"""The manifest's record of one input, its JSON, and reading it back.

Reading treats the JSON as untrusted: types are checked, and file names cannot leave their folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sadr_cli.files import is_safe_name, safe_name
from sadr_cli.results.fields import (
    Damaged,
    Fields,
    array,
    count,
    file_name,
    number,
    numbers,
    text,
    texts,
)

SCHEMA = 1
OVERLAYS = "overlays"  # subfolder of overlay pictures
STATUSES = ("ok", "no_face", "failed", "skipped")

Stamp = tuple[int, int] | str | None


@dataclass(frozen=True)
class Span:
    """The part of a video that a track covers: frame numbers, and times in seconds."""

    frames: int
    first_frame: int | None = None
    last_frame: int | None = None
    start: float | None = None
    end: float | None = None
    best_frame: int | None = None

    @classmethod
    def from_fields(cls, read: Fields) -> Span:
        return cls(
            frames=read("frames", count, 0),
            first_frame=read("first_frame", count, None),
            last_frame=read("last_frame", count, None),
            start=read("start", number, None),
            end=read("end", number, None),
            best_frame=read("best_frame", count, None),
        )


@dataclass(frozen=True)
class FaceEntry:
    """One face of an input.

    face: its number in the photo, or its track in the video. json: file name of its record.
    files: format -> name of the main file. confidence: in [0, 1]; box: x0, y0, x1, y1 of the
    landmarks in pixels; yaw, pitch, roll: degrees. span: for tracks, else None.
    """

    face: int
    json: str
    files: Mapping[str, str]
    confidence: float | None = None
    box: tuple[float, ...] | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    warnings: tuple[str, ...] = ()
    span: Span | None = None

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"face": self.face}
        if self.span is not None:
            document.update(track=self.face, **vars(self.span))
        document.update(json=self.json, **self.files, confidence=self.confidence)
        document["box"] = None if self.box is None else list(self.box)
        document.update(yaw=self.yaw, pitch=self.pitch, roll=self.roll)
        if self.warnings:
            document["warnings"] = list(self.warnings)
        return document

    @classmethod
    def from_json(cls, document: Any) -> FaceEntry:
        """Damaged if the document is not a face."""
        read = Fields(document, "a face")
        box = read("box", numbers, None)
        if box is not None and len(box) != 4:
            raise Damaged("a face's box does not have four numbers")
        names = [k for k, v in document.items() if k not in _FACE_KEYS and isinstance(v, str)]
        return cls(
            face=read("face", count, 0),
            json=read("json", file_name),
            files={name: read(name, file_name) for name in names},
            confidence=read("confidence", number, None),
            box=box,
            yaw=read("yaw", number, None),
            pitch=read("pitch", number, None),
            roll=read("roll", number, None),
            warnings=read("warnings", texts, ()),
            span=Span.from_fields(read) if "track" in document else None,
        )


@dataclass(frozen=True)
class Entry:
    """One input of a run.

    source: as the user named it. key: identifies it (its absolute path). status: ok, no_face,
    failed, or skipped for an input that is not a photo in its own right. name: stem of its files,
    unique in the folder. reason: why there is no face. notes: about reading it. outputs: names of
    all files, overlays below ``overlays/``. seconds: processing time. settings: fingerprint of the
    settings that determine the files. stamp: size and modification time (ns) of the input's file,
    or a digest. kind: ``video`` or None; frames, frames_detected: of a video. skipped: finished by
    an earlier run.
    """

    source: str
    key: str
    status: str
    name: str = ""
    reason: str | None = None
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    faces: tuple[FaceEntry, ...] = ()
    seconds: float | None = None
    settings: str | None = None
    stamp: Stamp = None
    kind: str | None = None
    frames: int | None = None
    frames_detected: int | None = None
    skipped: bool = False

    def as_skipped(self) -> Entry:
        return replace(self, skipped=True)

    def to_json(self) -> dict[str, Any]:
        """The entry for the manifest and ``--json``, without fields that do not apply."""
        document = {
            "source": self.source,
            "key": self.key,
            "name": self.name or None,
            "kind": self.kind,
            "status": self.status,
            "reason": self.reason,
            "notes": list(self.notes) or None,
            "frames": self.frames,
            "frames_detected": self.frames_detected,
            "outputs": list(self.outputs),
            "faces": [face.to_json() for face in self.faces],
            "seconds": self.seconds,
            "settings": self.settings,
            "stamp": list(self.stamp) if isinstance(self.stamp, tuple) else self.stamp,
            "skipped": self.skipped or None,
        }
        return {k: v for k, v in document.items() if v is not None}

    @classmethod
    def from_json(cls, document: Any) -> Entry:
        """Read an entry of :data:`SCHEMA`; Damaged if it is not one."""
        read = Fields(document, "it")
        status = read("status", text, "failed")
        if status not in STATUSES:
            raise Damaged(f"its status is {status!r:.40}")
        return cls(
            source=read("source", text),
            key=sys.intern(read("key", text)),  # saves memory
            status=status,
            name=read("name", _stem),
            reason=read("reason", text, None),
            notes=read("notes", texts, ()),
            outputs=read("outputs", _outputs, ()),
            faces=read("faces", _faces, ()),
            seconds=read("seconds", number, None),
            settings=read("settings", text, None),
            stamp=read("stamp", _stamp, None),
            kind=read("kind", text, None),
            frames=read("frames", count, None),
            frames_detected=read("frames_detected", count, None),
            skipped=read("skipped", bool, False),
        )


_FACE_KEYS = frozenset(("track", *Span.__annotations__, *FaceEntry.__annotations__))


def _stamp(value: Any) -> Stamp:
    if isinstance(value, str):
        return value
    size, time = array(value)
    if type(size) is not int or type(time) is not int:
        raise TypeError
    return size, time


def _stem(value: Any) -> str:
    """A stem for file names, made safe if necessary."""
    return text(value) if is_safe_name(text(value)) else safe_name(text(value))


def _outputs(value: Any) -> tuple[str, ...]:
    names = []
    for path in texts(value):
        folder = f"{OVERLAYS}/" if path.startswith(f"{OVERLAYS}/") else ""
        names.append(folder + file_name(path))
    return tuple(names)


def _faces(value: Any) -> tuple[FaceEntry, ...]:
    faces = tuple(FaceEntry.from_json(v) for v in array(value))
    if len({face.face for face in faces}) < len(faces):
        raise Damaged("two of its faces have the same number")
    return faces
