"""The batch engine: decode, detect, crop | network and alignment | writing, all at once.

Photos are prepared and written by threads while the network runs; faces of different photos
share its batches. Queues are bounded by number and by bytes, so memory does not depend on how
many photos there are. Results are committed in the order of the inputs, whatever finishes
first.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from sadr_cli import __version__
from sadr_cli.errors import NothingToDoError, SadrError
from sadr_cli.pipeline.batches import BatchRunner
from sadr_cli.pipeline.photo import (
    OVERLAYS,
    FaceFiles,
    Photo,
    Preparer,
    Work,
    Written,
    finish_photo,
    identity,
    write_face,
)
from sadr_cli.pipeline.settings import (
    FaceDetector,
    FaceReconstructor,
    RunSettings,
    StopFlag,
    Summary,
)
from sadr_cli.writers.atomic import check_writable, remove_leftovers
from sadr_cli.writers.manifest import Manifest, fingerprint
from sadr_cli.writers.poses_csv import PosesCSV

# Names whose files would collide with the run's own, or with those of a photo's second face.
_RESERVED = frozenset(("manifest", "poses", "index", OVERLAYS))
_FACE_SUFFIX = re.compile(r"_face\d+$", re.IGNORECASE)


def run(
    works: Iterable[Work],
    reconstructor: FaceReconstructor,
    make_detector: Callable[[], FaceDetector],
    settings: RunSettings,
    *,
    stop: StopFlag | None = None,
    on_entry: Callable[[dict[str, Any]], None] | None = None,
) -> Summary:
    """Reconstruct every face of ``works`` and write the results to ``settings.out``.

    make_detector: called once in every reading thread.
    on_entry: called with the manifest's entry of each input, in input order; entries that an
        earlier run had finished carry ``skipped``.
    Raises OutputError when the output cannot be written (the run can be resumed), and what
    iterating over ``works`` raises, after finishing what was in flight.
    """
    iterator = iter(works)
    first = next(iterator, None)
    if first is None:
        raise NothingToDoError("nothing to do: no input was given")
    engine = _Engine(reconstructor, make_detector, settings, stop, on_entry)
    return engine.run(chain([first], iterator))


class _Engine:
    """The state of one run. All of it belongs to the thread that calls :meth:`run`."""

    def __init__(
        self,
        reconstructor: FaceReconstructor,
        make_detector: Callable[[], FaceDetector],
        settings: RunSettings,
        stop: StopFlag | None,
        on_entry: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        check_writable(settings.out)
        remove_leftovers(settings.out)
        self.settings = settings
        self.stop = stop if stop is not None else StopFlag()
        self.on_entry = on_entry or (lambda entry: None)
        self.summary = Summary()
        self._uv = reconstructor.uv
        self._prepare = Preparer(reconstructor, make_detector, settings)
        self._batches = BatchRunner(reconstructor, settings.batch_size, settings.two_pass)
        weights = asdict(reconstructor.info)
        self._deciding = {
            **settings.deciding(),
            "alignment": weights.get("alignment"),
            "weights": weights.get("sha256"),
        }
        description = {"version": __version__, "settings": self._deciding, "weights": weights}
        self._manifest = Manifest(settings.out, description)
        self._names = {name.casefold(): key for name, key in self._manifest.names()}
        self._met: set[str] = set()
        done = [e["name"] for e in self._manifest.entries.values() if e["status"] == "ok"]
        self._poses = PosesCSV(settings.out / "poses.csv", keep=done)

        # In the order of the inputs: photos being prepared, faces waiting for the network, and
        # the slots from which results are committed.
        self._preparing: deque[tuple[Photo, Future[Photo]]] = deque()
        self._waiting: deque[tuple[Photo, int]] = deque()
        self._slots: deque[Photo | Future[Written] | dict[str, Any]] = deque()
        self._files: dict[int, list[Future[FaceFiles]]] = {}  # by id of the photo
        self._face_jobs: deque[Future[FaceFiles]] = deque()
        self._typical: float | None = None  # bytes of a decoded photo
        self._bytes = 0  # of decoded photos that left _preparing
        self._freed: deque[int] = deque()  # filled by the writing threads
        self._jobs = max(settings.jobs, 1)
        self._ahead = 2 * (self._batches.size + self._jobs)
        self._readers = ThreadPoolExecutor(self._jobs, "sadr-read")
        self._writers = ThreadPoolExecutor(self._jobs, "sadr-write")

    def run(self, works: Iterator[Work]) -> Summary:
        began = time.monotonic()
        state = "stopped"
        try:
            self._drive(works)
            state = "interrupted" if self.stop else "finished"
        finally:
            self._readers.shutdown(wait=True, cancel_futures=True)
            self._writers.shutdown(wait=True, cancel_futures=True)
            self.summary.interrupted = bool(self.stop)
            self.summary.seconds = time.monotonic() - began
            self._close(state)
        return self.summary

    def _close(self, state: str) -> None:
        """Leave table and manifest whole; a failing disk must not hide the first error."""
        try:
            with self._poses:
                self._poses.close([e["name"] for e in self._manifest.in_order()])
            self._manifest.close(state, self.summary.counts())
        except SadrError:
            if state != "stopped":
                raise

    # --- the loop ---------------------------------------------------------------------------

    def _drive(self, works: Iterator[Work]) -> None:
        more = True
        listing_error: Exception | None = None
        while True:
            if self.stop:
                more = False
                self._forget_queued()
            try:
                while more and self._room():
                    work = next(works, None)
                    if work is None:
                        more = False
                    else:
                        self._admit(work)
            except Exception as error:  # a broken listing: finish what is in flight, then say so
                more, listing_error = False, error
            if self._preparing and len(self._waiting) < self._batches.size:
                self._take_in(self._preparing.popleft()[1].result())
            elif self._waiting:
                self._reconstruct_batch()
            elif self._slots:  # only writing is left to wait for
                self._commit(wait=True)
            elif not more:
                break
            self._commit(wait=False)
        if listing_error is not None:
            raise listing_error

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
        """Drop photos that no thread has begun with."""
        dropped = {id(photo) for photo, future in self._preparing if future.cancel()}
        if dropped:
            self._preparing = deque(p for p in self._preparing if id(p[0]) not in dropped)
            self._slots = deque(s for s in self._slots if id(s) not in dropped)

    # --- inputs -----------------------------------------------------------------------------

    def _admit(self, work: Work) -> None:
        """Queue an input, or skip it when it is finished."""
        key, stamp = identity(work.source)
        label = work.source.label
        before = self._manifest.entries.get(key)
        own = self.settings.out.absolute() / OVERLAYS
        if key in self._met or (work.source.path is not None and Path(key).parent == own):
            entry = {"source": label, "key": key, "status": "skipped", "skipped": True}
            if key not in self._met:
                entry["reason"] = "is an overlay of this folder"
            elif work.detections is None:
                entry["reason"] = "named twice, done once"
            else:
                entry.update(status="failed", reason="its faces are not on consecutive lines")
            self._slots.append(entry)
            return
        self._met.add(key)
        boxes = work.detections
        marks = None if boxes is None else [[round(float(v), 3) for v in d.box] for d in boxes]
        settings = fingerprint({**self._deciding, "boxes": marks})
        if before is not None and not self.settings.overwrite and before["status"] != "failed":
            same = before.get("settings") == settings and before.get("stamp") == stamp
            if same and all((self.settings.out / name).exists() for name in before["outputs"]):
                self._manifest.keep(key)
                self._slots.append(self._manifest.entries[key])
                return
        photo = Photo(work, key, self._name(work.source.name, key, before), settings, stamp)
        self._slots.append(photo)
        self._preparing.append((photo, self._readers.submit(self._prepare, photo)))

    def _name(self, name: str, key: str, before: dict[str, Any] | None) -> str:
        """A stem that no other input of this folder has, in this run or an earlier one."""
        if before is not None:
            return str(before["name"])
        taken = self._names.get(name.casefold(), key) != key
        if taken or name.casefold() in _RESERVED or _FACE_SUFFIX.search(name):
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
            name = f"{name}_{digest[:8]}"
            if self._names.get(name.casefold(), key) != key:
                name = f"{name}{digest[8:24]}"
        self._names[name.casefold()] = key
        return name

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

    def _reconstruct_batch(self) -> None:
        count = min(self._batches.size, len(self._waiting))
        items = [self._waiting.popleft() for _ in range(count)]
        began = time.perf_counter()
        faces = self._batches.run(items)
        share = (time.perf_counter() - began) / count
        for (photo, index), face in zip(items, faces, strict=True):
            photo.seconds += share
            photo.images[index] = photo.images[index][:0]
            if isinstance(face, str):
                photo.error = photo.error or face
            else:
                photo.faces[index] = face
                job = self._writers.submit(write_face, photo, index, self._uv, self.settings)
                self._files.setdefault(id(photo), []).append(job)
                self._face_jobs.append(job)
            if index == len(photo.detections) - 1:
                self._finish(photo)
        # Writing must keep pace: reconstructed faces are large.
        while len(self._face_jobs) > 2 * self._ahead:
            self._face_jobs.popleft().exception()

    def _finish(self, photo: Photo) -> None:
        """Hand a photo to its last step; the slot keeps its place in the order."""
        files = self._files.pop(id(photo), [])
        size = photo.nbytes

        def release(_: Future[Written]) -> None:
            photo.frame = None
            photo.faces.clear()
            self._freed.append(size)

        # The writers take jobs in order, so those of the photo's faces have begun by then.
        future = self._writers.submit(finish_photo, photo, files, self._uv, self.settings)
        slot = next(i for i, s in enumerate(self._slots) if s is photo)
        self._slots[slot] = future
        future.add_done_callback(release)

    # --- results ----------------------------------------------------------------------------

    def _commit(self, wait: bool) -> None:
        """Record what is finished at the front of the order; with ``wait`` at least one."""
        while self._slots:
            head = self._slots[0]
            if isinstance(head, Photo) or (isinstance(head, Future) and not (head.done() or wait)):
                return
            if isinstance(head, Future):
                written = head.result()  # OutputError stops the run here
                before = self._manifest.entries.get(written.entry["key"])
                self._manifest.add(written.entry)
                self._poses.append(written.entry["name"], written.rows)
                self._remove_stale(before, written.entry)
                wait, head = False, written.entry
            self._slots.popleft()
            self._count(head)
            self.on_entry(head)

    def _remove_stale(self, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
        """Remove files of an earlier result that the new one does not have, unless it failed."""
        if before is None or now["status"] == "failed":
            return
        for name in set(before["outputs"]) - set(now["outputs"]):
            path = Path(name)
            if path.name in (name, name.removeprefix(f"{OVERLAYS}/")):  # never leaves the folder
                (self.settings.out / path).unlink(missing_ok=True)

    def _count(self, entry: dict[str, Any]) -> None:
        s = self.summary
        s.inputs += 1
        s.skipped += bool(entry.get("skipped"))
        status = entry.get("status")
        s.ok += status == "ok"
        s.faces += len(entry.get("faces", ()))
        if status == "failed":
            s.failed += 1
            s.failures.append((entry["source"], entry["reason"]))
        elif status == "no_face":
            s.no_face += 1
            s.faceless.append(entry["source"])
