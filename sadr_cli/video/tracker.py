"""Faces keep their number from frame to frame; the detector looks only where it must.

A face is cropped by its landmarks in the frame before. The detector looks at the first frame, at
every cut, when a track weakens, when there is no track, and every so many frames to find who
else has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import box_iou, crop_box, extract_crop
from sadr_cli.detection import select_faces
from sadr_cli.faces import LOW_CONFIDENCE, Crop, Detection, Face
from sadr_cli.passes import second_crop, second_pass
from sadr_cli.protocols import FaceDetector, FaceReconstructor

SAME_FACE = 0.3  # overlap of two crops (intersection over union) from which they show one face
DOUBLE = 0.6  # overlap from which two tracks have run into one another
PATIENCE = 3  # detections in a row that may miss a track that looks sound
_JUMP = 0.35  # of a crop's side that its centre may move between two frames
_GROWTH = 1.5  # factor by which it may grow or shrink
_CUT = 0.12  # mean change of a thumbnail's pixels, of 1, and
_CUT_RATIO = 3.0  # of their usual change, from which a frame is a cut
_THUMBNAIL = (48, 27)


@dataclass
class Track:
    """One face through the frames.

    crop: where it is looked for next; anchor: where it surely was, by a detection or a sound
    reconstruction.
    """

    number: int
    crop: Crop
    anchor: Crop
    detection: Detection | None
    new: bool = True
    weak: bool = False
    missed: int = 0


@dataclass(frozen=True)
class Tracked:
    """A face of a frame: the number of its track, and whether the track begins here."""

    track: int
    face: Face
    new: bool


class CutFinder:
    """Tells a cut from motion and flicker by the change between frames, and its usual size."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual = 0.0

    def __call__(self, image: NDArray[np.uint8]) -> bool:
        """Whether ``image`` begins a new shot; the first one does not."""
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        last, self._last = self._last, small
        if last is None:
            return False
        change = float(np.abs(small - last).mean())
        cut = change > _CUT and change > _CUT_RATIO * self._usual
        if not cut:
            self._usual += 0.1 * (change - self._usual)
        return cut


class Tracker:
    """Follows the faces of one video, frame by frame.

    faces: "largest", "all" or how many are followed at once, chosen by size when they come.
    detect_every: frames after which the detector looks though nothing asks for it.
    """

    def __init__(
        self,
        reconstructor: FaceReconstructor,
        detector: FaceDetector,
        faces: str | int = "all",
        detect_every: int = 30,
    ) -> None:
        self._reconstructor, self._detector = reconstructor, detector
        self._faces, self._every = faces, max(detect_every, 1)
        self._cuts = CutFinder()
        self._tracks: list[Track] = []
        self._next, self._since = 1, 0
        self.detections = 0  # frames the detector has looked at

    @property
    def alive(self) -> list[int]:
        """Numbers of the tracks that go on."""
        return [track.number for track in self._tracks]

    def step(self, image: NDArray[np.uint8]) -> list[Tracked]:
        """The faces of the next frame (H, W, 3) uint8 RGB, by track; new numbers after a cut."""
        if self._cuts(image):
            self._tracks.clear()
        self._since += 1
        due = not self._tracks or any(t.weak for t in self._tracks) or self._since > self._every
        if due:
            self._detect(image)
        seen = [(t, f) for t, f in self._look(image) if f is not None]
        out = []
        for track, face in seen:
            out.append(Tracked(track.number, replace(face, detection=track.detection), track.new))
            track.new, track.detection = False, None
        self._tracks = [track for track, _ in seen]
        self._drop_doubles(out)
        return out

    # --- detection --------------------------------------------------------------------------

    def _detect(self, image: NDArray[np.uint8]) -> None:
        """Confirm tracks, end those that are gone, begin new ones."""
        self._since = 0
        self.detections += 1
        found = self._detector.detect(image)
        crops = [self._reconstructor.crop_for(d) for d in found]
        free = set(range(len(found)))
        for track in list(self._tracks):
            fits = {k: max(overlap(c, crops[k]) for c in (track.crop, track.anchor)) for k in free}
            best = max(fits, key=lambda k: fits[k], default=None)
            if best is not None and fits[best] >= SAME_FACE:
                free.discard(best)
                track.missed, track.detection, track.anchor = 0, found[best], crops[best]
                if track.weak:  # it went astray: begin again from the detection
                    track.crop = crops[best]
            else:
                track.missed += 1
                if track.weak or track.missed > PATIENCE:
                    self._tracks.remove(track)
        self._begin([found[k] for k in sorted(free)], image.shape[:2])

    def _begin(self, found: Sequence[Detection], photo: tuple[int, ...]) -> None:
        """Tracks for detections that belong to none, as many as are wanted."""
        limit = {"all": None, "largest": 1}.get(str(self._faces), self._faces)
        room: str | int = "all" if limit is None else int(limit) - len(self._tracks)
        if isinstance(room, int) and room < 1:
            return
        for detection in select_faces(found, room, (photo[0], photo[1])):
            crop = self._reconstructor.crop_for(detection)
            if any(overlap(crop, t.crop) >= SAME_FACE for t in self._tracks):
                continue
            self._tracks.append(Track(self._next, crop, crop, detection))
            self._next += 1

    # --- the network ------------------------------------------------------------------------

    def _look(self, image: NDArray[np.uint8]) -> list[tuple[Track, Face | None]]:
        """The face of every track; the crop of the next frame and the track's health with it."""
        faces = self._reconstruct(image, [t.crop for t in self._tracks])
        # A face cropped by a detection gets a second pass; the others are cropped by landmarks.
        again = [k for k, t in enumerate(self._tracks) if t.new or t.weak]
        second = second_pass(
            [faces[k] for k in again], lambda _, crops: self._reconstruct(image, crops)
        )
        for k, better in zip(again, second, strict=True):
            faces[k] = better
        out: list[tuple[Track, Face | None]] = []
        for k, track in enumerate(self._tracks):
            face = faces[k]
            if face is None:
                out.append((track, None))  # nothing that could be a face: the track ends
                continue
            crop = second_crop(face)
            astray = crop is None or (_jumped(track.crop, crop) and not track.new)
            track.weak = astray or face.confidence < LOW_CONFIDENCE
            track.crop = crop or track.anchor
            if not track.weak:
                track.anchor = track.crop
            out.append((track, face))
        return out

    def _reconstruct(self, image: NDArray[np.uint8], crops: Sequence[Crop]) -> list[Face | None]:
        if not crops:
            return []
        cut = [extract_crop(image, c, self._reconstructor.crop_resolution) for c in crops]
        faces = self._reconstructor.reconstruct_crops(cut, list(crops), [None] * len(cut))
        return [f if np.isfinite(f.vertices).all() else None for f in faces]

    def _drop_doubles(self, out: list[Tracked]) -> None:
        """Of two tracks on one face the older stays."""
        for track in sorted(self._tracks, key=lambda t: -t.number):
            older = [t for t in self._tracks if t.number < track.number]
            if any(overlap(track.crop, t.crop) > DOUBLE for t in older):
                self._tracks.remove(track)
                out[:] = [t for t in out if t.track != track.number]


def overlap(a: Crop, b: Crop) -> float:
    """Intersection over union of two crops."""
    return box_iou(crop_box(a), crop_box(b))


def _jumped(a: Crop, b: Crop) -> bool:
    """Whether a crop moved or changed its size more than a face does between two frames."""
    far = np.hypot(a.center_x - b.center_x, a.center_y - b.center_y) > _JUMP * a.size
    return bool(far or not 1 / _GROWTH < b.size / a.size < _GROWTH)
