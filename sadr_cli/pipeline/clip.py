"""One video through all steps: frames, tracks, smoothing, and the files of the whole.

One thread decodes, the calling one follows the faces of the next frame, and a third takes those of
the frames before to smoothing, tables and strips. Each takes the frames in their order, and none
looks at what another does meanwhile: the results do not depend on who is faster.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from sadr_cli.errors import InputError, OutputError
from sadr_cli.faces import Face, FloatArray, Frame
from sadr_cli.folder import remove_file
from sadr_cli.gallery import Strip, write_cards
from sadr_cli.pipeline.clip_files import ClipDrawings, ClipTables
from sadr_cli.pipeline.face_files import FaceFiles, as_asked, write_face_files
from sadr_cli.pipeline.feed import Feed
from sadr_cli.pipeline.photo import Photo, Written, nobody, reason_of
from sadr_cli.pipeline.settings import OnFrame, RunSettings, StopFlag, unobserved
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.results.entry import Entry, Span
from sadr_cli.sources import iter_frames, probe_video
from sadr_cli.video import Tracked, Tracker, TrackSmoother
from sadr_cli.video.motion import MotionRecorder
from sadr_cli.writers import PLAYING, face_mesh
from sadr_cli.writers.animation import Motion
from sadr_cli.writers.compose import compose_mesh, write_formats

_AHEAD = 4  # decoded frames that wait
_BEHIND = 3  # frames whose faces wait for their tables
_SHORT = 0.9  # of the frames the container announces: fewer, and the file was cut short


def run_clip(
    photo: Photo,
    reconstructor: FaceReconstructor,
    make_detector: Callable[[], FaceDetector],
    settings: RunSettings,
    stop: StopFlag,
    on_frame: OnFrame = unobserved,
) -> Written | None:
    """Reconstruct a video; None when asked to stop before its end (nothing of it is kept then).

    Files, all beside those of the photos: NAME_poses.csv and NAME_landmarks.jsonl with a line a
    face and frame, NAME_track1... the mesh of each track with its mean shape, as it stands in
    its best frame, NAME_frame000120_track1... with ``mesh_every``, overlays/NAME.mp4.
    Raises OutputError; anything else that goes wrong fails this video alone.
    """
    began = time.perf_counter()
    clip = _Clip(photo, reconstructor, settings)
    error: str | None = None
    try:
        if not clip.follow(make_detector(), stop, on_frame):
            clip.forget()
            return None
    except OutputError:
        raise
    except InputError as problem:
        error = reason_of(problem, photo.work.source.label)
    except Exception as problem:  # one bad video never stops a run
        error = f"{type(problem).__name__}: {problem}"
    finally:
        clip.close()
    return clip.entry(error, time.perf_counter() - began)


class _Clip:
    """The state of one video; files grow under temporary names until :meth:`follow` ends."""

    def __init__(
        self, photo: Photo, reconstructor: FaceReconstructor, settings: RunSettings
    ) -> None:
        self.photo, self.settings = photo, settings
        self._reconstructor, self._uv = reconstructor, reconstructor.uv
        self._smooth = TrackSmoother(settings.video.smooth, self._uv.landmark_indices)
        self._people: dict[int, _Person] = {}
        self._frames = self._looked = 0
        self._outputs: list[str] = []
        self._written: list[FaceFiles] = []
        self._strips: dict[int, Strip] = {}
        self._motions: dict[int, MotionRecorder] = {}
        self._notes: list[str] = []
        self._doubtful: set[int] = set()  # tracks with frames left out for their confidence
        self._tables = ClipTables(settings.out, photo.name)
        self._drawings: ClipDrawings | None = None
        self._pool = ThreadPoolExecutor(max(settings.jobs, 1), "sadr-clip")
        self._jobs: deque[Future[list[str]]] = deque()
        self._keeping = ThreadPoolExecutor(1, "sadr-clip-frames")
        self._behind: deque[Future[None]] = deque()

    def follow(self, detector: FaceDetector, stop: StopFlag, on_frame: OnFrame) -> bool:
        """All frames; False when asked to stop."""
        source, video = self.photo.work.source, self.settings.video
        info = probe_video(source)
        if self.settings.overlay:
            rate = (info.rate or 25.0) / video.step
            self._drawings = ClipDrawings(
                self.settings, self.photo.name, rate, self._uv, self._pool
            )
        frames = iter_frames(
            source,
            start=video.start,
            end=video.end,
            step=video.step,
            max_pixels=self.settings.max_pixels,
        )
        tracker = Tracker(self._reconstructor, detector, self.settings.faces, video.detect_every)
        feed = Feed(frames, _AHEAD)
        last = -1
        try:
            while not feed.over:
                if stop:
                    return False
                frame = feed.take(timeout=0.2)
                if frame is not None:
                    last = frame.index if frame.index is not None else last
                    on_frame(source.label, last, info.frames)
                    self._look(frame, tracker)
        finally:
            feed.stop()
        if feed.error is not None:
            raise feed.error
        if video.end is None and info.frames and last + video.step < _SHORT * info.frames:
            self._notes.append(f"damaged or cut short: ends at frame {last} of about {info.frames}")
        self._looked = tracker.detections
        self._wait_for_kept(0)
        self._finish()
        return True

    def _look(self, frame: Frame, tracker: Tracker) -> None:
        """Follow the faces of the next frame; those of the frames before are kept meanwhile."""
        found, alive = tracker.step(frame.image), frozenset(tracker.alive)
        self._behind.append(self._keeping.submit(self._keep, frame, found, alive))
        self._wait_for_kept(_BEHIND)

    def _wait_for_kept(self, waiting: int) -> None:
        """Until at most so many frames are not; raises what keeping one of them raised."""
        while len(self._behind) > waiting:
            self._behind.popleft().result()

    def _finish(self) -> None:
        """Write what waits for the last frame."""
        for number in list(self._people):
            self._end_track(number)
        while self._jobs:
            self._collect()
        if self._drawings is not None:
            self._outputs += self._drawings.finish()
            self._notes += filter(None, [self._drawings.writer.problem])
        self._outputs += self._tables.finish()
        cards = [files.card for files in self._written if files.card is not None]
        if cards:
            write_cards(self.settings.out, self.photo.name, cards)

    def close(self) -> None:
        """Let go of threads and unfinished files."""
        self._keeping.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._drawings is not None:
            self._drawings.discard()
        self._tables.discard()

    def forget(self) -> None:
        """Remove what an unfinished video has written."""
        self._keeping.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        for job in self._jobs:
            if not job.cancelled() and job.exception() is None:
                self._outputs += job.result()
        for name in self._outputs:
            remove_file(self.settings.out / name, self.settings.out)

    # --- frames, in a thread of their own ---------------------------------------------------

    def _keep(self, frame: Frame, found: list[Tracked], alive: frozenset[int]) -> None:
        """The faces ``found`` in the next frame, after which the tracks ``alive`` go on."""
        seconds = frame.time or 0.0
        self._frames += 1
        self._notes += frame.notes
        shown = {}
        for item in found:
            if item.face.confidence < self.settings.min_confidence:
                self._doubtful.add(item.track)
                continue
            if item.track not in self._people:
                self._people[item.track] = _Person(item.track)
            self._people[item.track].see(item.face, frame)
            smooth = self._smooth(item.track, item.face, seconds)
            face = as_asked(smooth, self._uv, self.settings)
            self._tables.add(face, frame, item.track)
            if self.settings.index:
                strip = self._strips.setdefault(item.track, Strip())
                strip.see(frame.image, face, self._uv, seconds)
            if self.settings.index or PLAYING.intersection(self.settings.formats):
                motion = self._motions.setdefault(item.track, MotionRecorder())
                motion.see(face, seconds, (frame.height, frame.width))
            shown[item.track] = face
            every = self.settings.video.mesh_every
            if every is not None and (self._frames - 1) % every == 0:
                stem = f"{self.photo.name}_frame{frame.index:06d}_track{item.track}"
                self._jobs.append(self._pool.submit(self._mesh, stem, face, frame))
        self._smooth.keep(alive)
        for number in set(self._people) - alive:
            self._end_track(number)
        while len(self._jobs) > 4 * max(self.settings.jobs, 1):
            self._collect()
        if self._drawings is not None:
            self._drawings.add(frame, shown)

    def _mesh(self, stem: str, face: Face, frame: Frame) -> list[str]:
        look, size = self.settings.look, (frame.height, frame.width)
        mesh = compose_mesh(face, self._uv, look, size, frame.image)
        return write_formats(self.settings.out, stem, mesh, face, look)[1]

    def _collect(self) -> None:
        self._outputs += self._jobs.popleft().result()

    def _end_track(self, number: int) -> None:
        """Write the mean face of a track that has ended."""
        person = self._people.pop(number)
        face = as_asked(person.mean(), self._uv, self.settings)
        frame = replace(person.frame, name=self.photo.name)
        stem = f"{self.photo.name}_track{number}"
        files = write_face_files(
            *(face, frame, stem, number, self._uv, self.settings, person.span()),
            motion=self._motion(number, face, frame),
        )
        if files.card is not None:
            strip = self._strips.pop(number).text()
            files = replace(files, card=replace(files.card, strip=strip))
        self._written.append(files)
        self._outputs += files.outputs

    def _motion(self, number: int, face: Face, frame: Frame) -> Motion | None:
        recorder = self._motions.pop(number, None)
        if recorder is None:
            return None
        still = face_mesh(face, self._uv, frame.height, "canonical").to_photo
        assert still is not None
        moves = self.settings.frame != "canonical"
        return recorder.motion(face, frame.time or 0.0, still, moves)

    def entry(self, error: str | None, seconds: float) -> Written:
        """The manifest's entry, with a row a track for the run's own table."""
        photo = self.photo
        written = sorted(self._written, key=lambda files: files.entry.face) if error is None else []
        status = "failed" if error is not None else "ok" if written else "no_face"
        reason = error
        if error is None:
            reason = "; ".join(self._notes) or None if written else nobody(len(self._doubtful))
        entry = Entry(
            source=photo.work.source.label,
            key=photo.key,
            name=photo.name,
            kind="video",
            status=status,
            reason=reason,
            notes=tuple(self._notes),
            frames=self._frames,
            frames_detected=self._looked,
            outputs=tuple(self._outputs),
            faces=tuple(files.entry for files in written),
            seconds=round(seconds, 3),
            settings=photo.settings,
            stamp=photo.stamp,
        )
        return Written(entry, [files.row for files in written])


@dataclass
class _Person:
    """What is kept of a track: the mean shape, and the frame that shows the face best."""

    number: int

    def __post_init__(self) -> None:
        self._weight, self._best = 0.0, -1.0
        self._shape: FloatArray | float = 0.0
        self._frames = 0

    def see(self, face: Face, frame: Frame) -> None:
        """Frontal, confident faces count most (of the far side a profile shows nothing)."""
        facing = max(float(face.rotation[2, 2]), 0.05)
        weight = max(face.confidence, 0.01) * facing
        self._shape = self._shape + weight * np.asarray(face.shape, float)
        self._weight += weight
        self._frames += 1
        if self._frames == 1:
            self._from = (frame.index, frame.time)
        if weight > self._best:
            self._best, self.face, self.frame = weight, face, frame
        self._to_place = (frame.index, frame.time)

    def mean(self) -> Face:
        """The best frame's face with the track's mean shape."""
        face = self.face
        shape = np.asarray(self._shape / self._weight, np.float32)
        placed = face.scale * shape @ np.asarray(face.rotation).T + face.translation
        return replace(face, shape=shape, vertices=(placed * (1, -1, 1)).astype(np.float32))

    def span(self) -> Span:
        (first, start), (last, end) = self._from, self._to_place
        return Span(
            frames=self._frames,
            first_frame=first,
            last_frame=last,
            start=None if start is None else round(start, 4),
            end=None if end is None else round(end, 4),
            best_frame=self.frame.index,
        )
