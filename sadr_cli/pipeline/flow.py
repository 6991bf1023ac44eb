"""The overlapped loop: decode, detect, crop | network and alignment | writing, all at once.

Photos are prepared and written by threads while the network runs; faces of different photos
share its batches. Queues are bounded by number and by bytes, so memory does not depend on how
many photos there are. Results are settled in the order of the inputs, whatever finishes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

from sadr_cli.pipeline.batches import BatchRunner, Done
from sadr_cli.pipeline.face_files import FaceFiles
from sadr_cli.pipeline.feed import LISTED, Feed
from sadr_cli.pipeline.photo import Photo, Preparer, Written
from sadr_cli.pipeline.settings import OnFrame, RunSettings, StopFlag, unobserved
from sadr_cli.pipeline.writing import PhotoWriter
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.results.entry import Entry
from sadr_cli.watchdog import progress

T = TypeVar("T")


class Flow(Generic[T]):
    """Takes ``items`` through all steps. All of it belongs to the thread that calls :meth:`run`.

    admit: makes of an item a photo to be done, or an entry of what is settled already.
    settle: called with every result, in the order of the items.
    """

    def __init__(
        self,
        items: Iterable[T],
        admit: Callable[[T], Photo | Entry],
        settle: Callable[[Written | Entry], None],
        reconstructor: FaceReconstructor,
        make_detector: Callable[[], FaceDetector],
        settings: RunSettings,
        stop: StopFlag,
        on_frame: OnFrame = unobserved,
    ) -> None:
        self.settings = settings
        self.stop = stop
        self._on_frame = on_frame
        self._admit_item, self._settle = admit, settle
        self._reconstructor, self._make_detector = reconstructor, make_detector
        self._uv = reconstructor.uv
        self._prepare = Preparer(reconstructor, make_detector, settings)
        self._batches = BatchRunner(
            reconstructor, settings.batch_size, settings.two_pass, settings.batches
        )

        # In the order of the inputs: photos being prepared, faces waiting for the network,
        # videos waiting for everything before them, and the slots of results to be settled.
        self._preparing: deque[tuple[Photo, Future[Photo]]] = deque()
        self._waiting: deque[tuple[Photo, int]] = deque()
        self._clips: deque[Photo] = deque()
        self._slots: deque[Photo | Future[Written] | Written | Entry] = deque()
        self._writing: dict[int, PhotoWriter] = {}  # by id of the photo
        self._face_jobs: deque[Future[FaceFiles]] = deque()
        self._typical: float | None = None  # bytes of a decoded photo
        self._bytes = 0  # of decoded photos that left _preparing
        self._freed: deque[int] = deque()  # filled by the writing threads
        self._jobs = max(settings.jobs, 1)
        self._ahead = 2 * (self._batches.size + self._jobs)
        self._readers = ThreadPoolExecutor(self._jobs, "sadr-read")
        self._writers = ThreadPoolExecutor(self._jobs, "sadr-write")
        self.feed = Feed(items, max(self._ahead, LISTED))

    def run(self) -> None:
        """Until everything is settled; raises OutputError when the output cannot be written,
        and what listing the items raised, after finishing what was in flight."""
        try:
            self._drive()
        finally:
            self.feed.stop()
            self._batches.close()
            self._readers.shutdown(wait=True, cancel_futures=True)
            self._writers.shutdown(wait=True, cancel_futures=True)
        if self.feed.error is not None and not self.stop:
            raise self.feed.error

    # --- the loop ---------------------------------------------------------------------------

    def _drive(self) -> None:
        while True:
            progress()  # waiting for names, with nothing in flight, is no standstill
            if self.stop:
                self.feed.stop()
                self._forget_queued()
            self._take_new()
            if self._batches.room and self._batch_ready():
                self._begin_batch()
            elif awaited := self._in_flight():
                self._settle_until(awaited)
                self._move_on()
            elif self._clips:
                self._run_clip(self._clips.popleft())
            elif self._slots:  # only writing is left to wait for
                self._commit(wait=True)
            elif self.feed.over:
                break
            else:
                self._admit(self.feed.take(timeout=0.1))
            self._commit(wait=False)

    def _take_new(self) -> None:
        while not self._clips and self._room():
            item = self.feed.take()
            if item is None:
                return
            self._admit(item)

    def _room(self) -> bool:
        """Whether one more photo may be taken in."""
        while self._freed:
            self._bytes -= self._freed.popleft()
        if len(self._preparing) >= self._ahead or len(self._slots) >= 4 * self._ahead:
            return False
        ready = [f.result().nbytes for _, f in self._preparing if f.done()]
        coming = len(self._preparing) - len(ready)
        if self._typical is None:  # the first photos tell how large they are
            return coming < self._jobs and not ready
        expected = self._bytes + sum(ready) + (coming + 1) * self._typical
        return expected <= self.settings.memory or not self._slots

    def _forget_queued(self) -> None:
        """Drop photos that no thread has begun with, and videos."""
        dropped = {id(photo) for photo, future in self._preparing if future.cancel()}
        dropped.update(id(photo) for photo in self._clips)
        self._clips.clear()
        if dropped:
            self._preparing = deque(p for p in self._preparing if id(p[0]) not in dropped)
            self._slots = deque(s for s in self._slots if id(s) not in dropped)

    def _batch_ready(self) -> bool:
        """Whether the faces that wait are enough for a batch, or all that will come."""
        return len(self._waiting) >= (self._batches.size if self._preparing else 1)

    def _in_flight(self) -> list[Future[Any]]:
        """What can be gone on with once it is done."""
        oldest = self._batches.oldest
        wanted = self._preparing and len(self._waiting) < self._batches.size
        return [
            *([oldest] if oldest is not None else []),
            *([self._preparing[0][1]] if wanted else []),
        ]

    def _move_on(self) -> None:
        """With what is done of :meth:`_in_flight`."""
        oldest = self._batches.oldest
        if oldest is not None and oldest.done():
            self._hand_on(self._batches.take())
        elif self._preparing and self._preparing[0][1].done():
            self._take_in(self._preparing.popleft()[1].result())

    # --- inputs -----------------------------------------------------------------------------

    def _admit(self, item: T | None) -> None:
        if item is None:
            return
        photo = self._admit_item(item)
        self._slots.append(photo)
        if isinstance(photo, Photo):
            source = photo.work.source
            if source.kind == "video" and source.error is None and photo.work.detections is None:
                self._clips.append(photo)
            else:
                self._preparing.append((photo, self._readers.submit(self._prepare, photo)))

    def _take_in(self, photo: Photo) -> None:
        """A prepared photo: its faces wait for the network."""
        self._bytes += photo.nbytes
        if photo.decoded:
            before = photo.decoded if self._typical is None else self._typical
            self._typical = 0.8 * before + 0.2 * photo.decoded
        if photo.error is not None or not photo.detections:
            self._finish(photo)
        else:
            self._waiting.extend((photo, index) for index in range(len(photo.detections)))

    # --- faces ------------------------------------------------------------------------------

    def _begin_batch(self) -> None:
        count = min(self._batches.size, len(self._waiting))
        self._batches.begin([self._waiting.popleft() for _ in range(count)])

    def _hand_on(self, batch: Done) -> None:
        """The faces of a batch go to the writing threads."""
        share = batch.seconds / len(batch.items)
        for (photo, index), face in zip(batch.items, batch.faces, strict=True):
            photo.seconds += share
            photo.images[index] = photo.images[index][:0]
            if isinstance(face, str):
                photo.error = photo.error or face
            else:
                kept = face.confidence >= self.settings.min_confidence
                photo.doubtful += not kept
                photo.faces[index] = face if kept else None
            if photo.faces[index] is not None:
                self._face_jobs.append(self._writer_of(photo).add(index))
            if index == len(photo.detections) - 1:
                self._finish(photo)
        # Writing must keep pace: reconstructed faces are large.
        while len(self._face_jobs) > 2 * self._ahead:
            self._face_jobs.popleft().exception()

    def _writer_of(self, photo: Photo) -> PhotoWriter:
        if id(photo) not in self._writing:
            writer = PhotoWriter(self._writers, photo, self._uv, self.settings)
            self._writing[id(photo)] = writer
        return self._writing[id(photo)]

    def _finish(self, photo: Photo) -> None:
        """Hand a photo to its last step; the slot keeps its place in the order."""
        writer, size = self._writer_of(photo), photo.nbytes
        del self._writing[id(photo)]

        def release(_: Future[Written]) -> None:
            photo.frame = None
            photo.faces.clear()
            self._freed.append(size)

        self._slots[self._slot(photo)] = writer.done
        writer.done.add_done_callback(release)
        writer.close()

    def _run_clip(self, photo: Photo) -> None:
        """A video, from its first frame to its last, in this thread."""
        from sadr_cli.pipeline.clip import run_clip

        tools = self._reconstructor, self._make_detector
        written = run_clip(photo, *tools, self.settings, self.stop, self._on_frame)
        if written is None:  # asked to stop: to be done again
            del self._slots[self._slot(photo)]
        else:
            self._slots[self._slot(photo)] = written

    # --- results ----------------------------------------------------------------------------

    def _slot(self, photo: Photo) -> int:
        return next(i for i, s in enumerate(self._slots) if s is photo)

    def _settle_until(self, awaited: list[Future[Any]]) -> None:
        """Settle what is finished until one of ``awaited`` is done, however long that takes."""
        while not any(future.done() for future in awaited):
            head = self._slots[0]
            either = [*awaited, head] if isinstance(head, Future) else awaited
            wait(either, return_when=FIRST_COMPLETED)
            self._commit(wait=False)

    def _commit(self, wait: bool) -> None:
        """Settle what is finished at the front of the order; with ``wait`` at least one."""
        while self._slots:
            head = self._slots[0]
            if isinstance(head, Photo) or (isinstance(head, Future) and not (head.done() or wait)):
                return
            if isinstance(head, Future):
                head, wait = head.result(), False  # OutputError stops the run here
            self._slots.popleft()
            self._settle(head)
