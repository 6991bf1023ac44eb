"""What a run knows of its inputs: names, what is done already, manifest, table, counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sadr_cli.errors import InputError, SadrError
from sadr_cli.files import check_writable
from sadr_cli.folder import Folder, file_size, remove_file
from sadr_cli.gallery import cards
from sadr_cli.lock import FolderLock
from sadr_cli.pipeline.photo import Photo, Work, Written, identity
from sadr_cli.pipeline.settings import RunSettings, Summary
from sadr_cli.protocols import FaceReconstructor
from sadr_cli.results.entry import OVERLAYS, Entry
from sadr_cli.results.face_record import read_face_json
from sadr_cli.results.manifest import Manifest, fingerprint
from sadr_cli.results.poses_csv import PosesCSV, pose_row
from sadr_cli.version import __version__

# Names whose files would collide with the run's own, or with those of a photo's second face or
# of a video.
_RESERVED = frozenset(("manifest", "poses", "index", OVERLAYS))
_FACE_SUFFIX = re.compile(r"_((face|track)\d+|poses|landmarks)$", re.IGNORECASE)
_OWN_ENDS = r"(\.|_(face|track|frame)\d|_(poses|landmarks)\.)"  # of files, after a result's name
_SAID = 5  # damaged entries that are named one by one


class Ledger:
    """The books of one output folder; all of it belongs to one thread.

    Raises OutputError when the folder cannot be written or another run is at work in it.
    """

    def __init__(
        self,
        reconstructor: FaceReconstructor,
        settings: RunSettings,
        on_entry: Callable[[Entry], None] | None = None,
    ) -> None:
        check_writable(settings.out, below=(OVERLAYS, cards.FOLDER))
        self._lock = FolderLock(settings.out)
        self.settings = settings
        self.summary = Summary()
        self._on_entry = on_entry or (lambda entry: None)
        weights = asdict(reconstructor.info)
        self._deciding = {
            **settings.deciding(),
            "alignment": weights.get("alignment"),
            "weights": weights.get("sha256"),
        }
        description = {"version": __version__, "settings": self._deciding, "weights": weights}
        try:
            self._open(description)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, description: dict[str, Any]) -> None:
        """Read and begin the books."""
        self._manifest = Manifest(self.settings.out, description)
        self.summary.notes += self._damage()
        self._names: dict[str, str] = {}
        for name, key in self._manifest.names():
            self._names.setdefault(name.casefold(), key)
        self._met: set[str] = set()
        self._usual: dict[str, str] = {}  # fingerprints of inputs without given faces, by kind
        self._folder = Folder(self.settings.out)
        keep = (name for name, _ in self._manifest.names())
        try:
            self._poses = PosesCSV(self.settings.out / "poses.csv", keep)
        except BaseException:
            self._manifest.leave()
            raise

    def admit(self, work: Work) -> Photo | Entry:
        """The photo to be done, or the entry of an input that needs nothing."""
        key, stamp = identity(work.source)
        if key in self._met or self._is_overlay(work, key):
            return self._refusal(work, key)
        self._met.add(key)
        settings = self._fingerprint(work)
        before = self._manifest.get(key)
        if before is not None and not self.settings.overwrite:
            same = before.settings == settings and before.stamp == stamp
            if same and self._is_whole(before):
                return before.as_skipped()
        return Photo(work, key, self._name(work.source.name, key, before), settings, stamp)

    def _is_overlay(self, work: Work, key: str) -> bool:
        own = self.settings.out.absolute() / OVERLAYS
        return work.source.path is not None and Path(key).parent == own

    def _refusal(self, work: Work, key: str) -> Entry:
        """The entry of an input that is none, or was met before."""
        status, reason = "skipped", "named twice, done once"
        if key not in self._met:
            reason = "is an overlay of this folder"
        elif work.detections is not None:
            status, reason = "failed", "its faces are not on consecutive lines"
        return Entry(work.source.label, key, status, reason=reason, skipped=True)

    def _fingerprint(self, work: Work) -> str:
        """Of what decides the files of an input."""
        kind, boxes = work.source.kind, work.detections
        if boxes is None and kind in self._usual:
            return self._usual[kind]
        marks = None if boxes is None else [[round(float(v), 3) for v in d.box] for d in boxes]
        deciding = {**self._deciding, "boxes": marks}
        if kind == "video":
            deciding["video"] = self.settings.video.deciding()
        result = fingerprint(deciding)
        if boxes is None:
            self._usual[kind] = result
        return result

    def _is_whole(self, entry: Entry) -> bool:
        """Whether an earlier result is finished and all of it is there: its name, its files and
        its rows of poses.csv, which are made again from the faces' records where they are lost.
        """
        out = self.settings.out
        if entry.status not in ("ok", "no_face") or not self._is_own(entry.name, entry.key):
            return False
        if not all(map(self._is_there, entry.outputs)):
            return False
        if self._poses.holds(entry.name, entry.faces):
            return True
        try:
            rows = [pose_row(read_face_json(out / face.json, out)) for face in entry.faces]
        except (InputError, KeyError, TypeError, ValueError):
            return False
        self._poses.append(entry.name, rows)
        return self._poses.holds(entry.name, entry.faces)

    def _is_there(self, name: str) -> bool:
        """Whether an output is a file that is not empty."""
        below, _, file = name.rpartition("/")
        if below:
            return file_size(self.settings.out / name, self.settings.out) > 0
        return self._folder.size(file) > 0

    def _is_own(self, name: str, key: str) -> bool:
        """Whether an earlier run's name of this input is one that it can keep."""
        return self._names.get(name.casefold()) == key and not _is_reserved(name)

    def _name(self, name: str, key: str, before: Entry | None) -> str:
        """A stem that no other input of this folder has, in this run or an earlier one."""
        if before is not None and self._is_own(before.name, key):
            return before.name
        taken = self._names.get(name.casefold(), key) != key
        if taken or _is_reserved(name):
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
            name = f"{name}_{digest[:8]}"
            if self._names.get(name.casefold(), key) != key:
                name = f"{name}{digest[8:24]}"
        self._names[name.casefold()] = key
        return name

    def settle(self, result: Written | Entry) -> None:
        """Record what became of an input; to be called in the order of the inputs."""
        if isinstance(result, Written):
            entry = result.entry
            before = self._manifest.get(entry.key)
            # Rows first: an input counts as done when all of it is on the disk.
            self._poses.append(entry.name, result.rows)
            self._manifest.add(entry)
            self._remove_stale(before, entry)
        else:
            entry = result
            if entry.name:
                self._manifest.keep(entry)
        self.summary.count(entry)
        self._on_entry(entry)

    def _remove_stale(self, before: Entry | None, now: Entry) -> None:
        """Remove files of an earlier result that the new one does not have, unless it failed."""
        if before is None or now.status == "failed" or before.name != now.name:
            return
        own = re.compile(re.escape(f"{before.name}") + _OWN_ENDS, re.IGNORECASE)
        for name in set(before.outputs) - set(now.outputs):
            if own.match(name.rpartition("/")[2]):  # whatever a manifest says, no other's files
                remove_file(self.settings.out / name, self.settings.out)

    def close(self, state: str) -> None:
        """Leave table and manifest whole; a failing disk must not hide the first error."""
        try:
            with self._poses:
                self._poses.close(name for name, _ in self._manifest.names())
            self._manifest.close(state, self.summary.counts())
        except SadrError:
            if state != "stopped":
                raise
        finally:
            self._manifest.leave()
            self._folder.close()
            self._lock.release()

    def _damage(self) -> list[tuple[str, str]]:
        """What of an earlier run's books could not be used, for the summary."""
        found = self._manifest.damage
        said = [(str(d.path), f"{d.problem}; its input is done again") for d in found[:_SAID]]
        if len(found) > _SAID:
            said.append((str(found[0].path.parent), f"{len(found) - _SAID} more damaged entries"))
        return said


def _is_reserved(name: str) -> bool:
    return name.casefold() in _RESERVED or _FACE_SUFFIX.search(name) is not None
