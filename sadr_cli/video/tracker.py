"""Faces keep their number from frame to frame; the detector looks only where it must.

A face is cropped by its landmarks in the frame before, and again by those of its own frame where
it has moved far. The detector looks at the first frame, at every cut, in a frame that shows a
face of low confidence, which it confirms or takes out, when there is no track, and every so many
frames to find who else has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sadr_cli.border import with_border
from sadr_cli.crop import box_iou, crop_box, extract_crop, shrink
from sadr_cli.detection import select_faces
from sadr_cli.faces import LOW_CONFIDENCE, Crop, Detection, Face
from sadr_cli.passes import second_crop, second_pass
from sadr_cli.protocols import FaceDetector, FaceReconstructor

SAME_FACE = 0.3  # overlap of two crops (intersection over union) from which they show one face
DOUBLE = 0.6  # overlap from which two tracks have run into one another
PATIENCE = 3  # detections in a row that may miss a track that looks sound
_MOVED = 0.06  # of a crop's side that its face may have moved before it is cropped again
_JUMP = 0.35  # of a crop's side that its centre may move between two frames
_GROWTH = 1.5  # factor by which it may grow or shrink
_CUT = 0.12  # mean change of a thumbnail's pixels, of 1, and
_CUT_RATIO = 3.0  # of their usual change, from which a frame is a cut
_THUMBNAIL = (48, 27)


@dataclass
class Track:
    """One face through the frames.

    crop: where it is looked for next, as far on as it last moved; anchor: where it surely was, by
    a detection or a sound reconstruction.
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
        small = np.asarray(shrink(image, _THUMBNAIL), np.float32) / np.float32(255)
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
        self._reconstructor, self._detector = reconstructor.low_latency(), detector
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
        faces = self._look(image)
        if not due and any(track.weak for track in self._tracks):
            self._look_again(image, faces)
        faces = with_border(faces, image.shape[:2])
        seen = [(t, f) for t, f in zip(self._tracks, faces, strict=True) if f is not None]
        out = []
        for track, face in seen:
            if track.weak and track.detection is None:
                continue  # neither network nor detector sees it; the next frame tells what it was
            out.append(Tracked(track.number, replace(face, detection=track.detection), track.new))
            track.new, track.detection = False, None
        self._tracks = [track for track, _ in seen]
        self._drop_doubles(out)
        return out

    # --- detection --------------------------------------------------------------------------

    def _detect(self, image: NDArray[np.uint8]) -> None:
        """Confirm tracks, end those that are gone, begin new ones."""
        found, free = self._find(image)
        for track in list(self._tracks):
            if not self._confirm(track, found, free):
                track.missed += 1
                if track.weak or track.missed > PATIENCE:
                    self._tracks.remove(track)
        self._begin([found[k][0] for k in sorted(free)], image.shape[:2])

    def _find(self, image: NDArray[np.uint8]) -> tuple[list[tuple[Detection, Crop]], set[int]]:
        """Detections with their crops, and the numbers of those that belong to no track yet."""
        self._since = 0
        self.detections += 1
        found = [(d, self._reconstructor.crop_for(d)) for d in self._detector.detect(image)]
        return found, set(range(len(found)))

    def _confirm(
        self, track: Track, found: Sequence[tuple[Detection, Crop]], free: set[int]
    ) -> bool:
        """Whether one of ``found`` that is ``free`` shows the face of ``track``; it is taken."""
        fits = {k: max(overlap(c, found[k][1]) for c in (track.crop, track.anchor)) for k in free}
        best = max(fits, key=lambda k: fits[k], default=None)
        if best is None or fits[best] < SAME_FACE:
            return False
        free.discard(best)
        track.detection, crop = found[best]
        track.missed, track.anchor = 0, crop
        if track.weak:  # it went astray: begin again from the detection
            track.crop = crop
        return True

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

    def _look(self, image: NDArray[np.uint8]) -> list[Face | None]:
        """The face of every track; the crop of the next frame and the track's health with it.

        None where there is nothing that could be a face: the track ends.
        """
        faces = self._seen(image, self._tracks)
        for track, face in zip(self._tracks, faces, strict=True):
            if face is not None:
                _follow(track, face)
        return faces

    def _look_again(self, image: NDArray[np.uint8], faces: list[Face | None]) -> None:
        """Put better ones in the place of weak ``faces``, from where the detector sees them now."""
        found, free = self._find(image)
        weak = [k for k, t in enumerate(self._tracks) if t.weak and faces[k] is not None]
        weak = [k for k in weak if self._confirm(self._tracks[k], found, free)]
        others = self._seen(image, [self._tracks[k] for k in weak])
        for k, other in zip(weak, others, strict=True):
            face = faces[k]
            if face is not None and other is not None and other.confidence > face.confidence:
                faces[k] = other
                _follow(self._tracks[k], other)

    def _seen(self, image: NDArray[np.uint8], tracks: Sequence[Track]) -> list[Face | None]:
        """The faces in the tracks' crops, with a second pass where these were far off."""
        faces = self._reconstruct(image, [t.crop for t in tracks])
        new = [k for k, track in enumerate(tracks) if track.new]  # nobody turns over in a frame
        return second_pass(faces, lambda _, crops: self._reconstruct(image, crops), new, _MOVED)

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


def _follow(track: Track, face: Face) -> None:
    """Where ``track`` is looked for next, and whether that is sure."""
    crop, before = second_crop(face), track.anchor
    astray = crop is None or (_jumped(track.crop, crop) and not track.new)
    track.weak = astray or face.confidence < LOW_CONFIDENCE
    track.crop = crop or track.anchor
    if crop is not None and not track.weak:
        track.anchor = crop
        if not track.new:  # it will move on as it did since the frame before
            x, y = crop.center_x - before.center_x, crop.center_y - before.center_y
            track.crop = replace(crop, center_x=crop.center_x + x, center_y=crop.center_y + y)


def overlap(a: Crop, b: Crop) -> float:
    """Intersection over union of two crops."""
    return box_iou(crop_box(a), crop_box(b))


def _jumped(a: Crop, b: Crop) -> bool:
    """Whether a crop moved or changed its size more than a face does between two frames."""
    far = np.hypot(a.center_x - b.center_x, a.center_y - b.center_y) > _JUMP * a.size
    return bool(far or not 1 / _GROWTH < b.size / a.size < _GROWTH)
