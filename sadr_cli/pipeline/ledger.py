"""What a run knows of its inputs: names, what is done already, manifest, table, counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sadr_cli.errors import SadrError
from sadr_cli.files import FolderLock, check_writable, remove_leftovers
from sadr_cli.pipeline.photo import OVERLAYS, Photo, Work, Written, identity
from sadr_cli.pipeline.settings import RunSettings, Summary
from sadr_cli.protocols import FaceReconstructor
from sadr_cli.results.manifest import Manifest, fingerprint
from sadr_cli.results.poses_csv import PosesCSV
from sadr_cli.version import __version__

# Names whose files would collide with the run's own, or with those of a photo's second face or
# of a video.
_RESERVED = frozenset(("manifest", "poses", "index", OVERLAYS))
_FACE_SUFFIX = re.compile(r"_((face|track)\d+|poses|landmarks)$", re.IGNORECASE)


class Ledger:
    """The books of one output folder; all of it belongs to one thread.

    Raises OutputError when the folder cannot be written or another run is at work in it.
    """

    def __init__(
        self,
        reconstructor: FaceReconstructor,
        settings: RunSettings,
        on_entry: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        check_writable(settings.out)
        self._lock = FolderLock(settings.out)
        remove_leftovers(settings.out)
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
        self._manifest = Manifest(settings.out, description)
        self._names = {name.casefold(): key for name, key in self._manifest.names()}
        self._met: set[str] = set()
        done = [e["name"] for e in self._manifest.entries.values() if e["status"] == "ok"]
        self._poses = PosesCSV(settings.out / "poses.csv", keep=done)

    def admit(self, work: Work) -> Photo | dict[str, Any]:
        """The photo to be done, or the entry of an input that needs nothing."""
        key, stamp = identity(work.source)
        before = self._manifest.entries.get(key)
        own = self.settings.out.absolute() / OVERLAYS
        if key in self._met or (work.source.path is not None and Path(key).parent == own):
            entry = {"source": work.source.label, "key": key, "status": "skipped", "skipped": True}
            if key not in self._met:
                entry["reason"] = "is an overlay of this folder"
            elif work.detections is None:
                entry["reason"] = "named twice, done once"
            else:
                entry.update(status="failed", reason="its faces are not on consecutive lines")
            return entry
        self._met.add(key)
        boxes = work.detections
        marks = None if boxes is None else [[round(float(v), 3) for v in d.box] for d in boxes]
        deciding = {**self._deciding, "boxes": marks}
        if work.source.kind == "video":
            deciding["video"] = self.settings.video.deciding()
        settings = fingerprint(deciding)
        if before is not None and not self.settings.overwrite and before["status"] != "failed":
            same = before.get("settings") == settings and before.get("stamp") == stamp
            if same and all((self.settings.out / name).exists() for name in before["outputs"]):
                self._manifest.keep(key)
                return self._manifest.entries[key]
        return Photo(work, key, self._name(work.source.name, key, before), settings, stamp)

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

    def settle(self, result: Written | dict[str, Any]) -> None:
        """Record what became of an input; to be called in the order of the inputs."""
        if isinstance(result, Written):
            entry = result.entry
            before = self._manifest.entries.get(entry["key"])
            self._manifest.add(entry)
            self._poses.append(entry["name"], result.rows)
            self._remove_stale(before, entry)
            result = entry
        self.summary.count(result)
        self._on_entry(result)

    def _remove_stale(self, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
        """Remove files of an earlier result that the new one does not have, unless it failed."""
        if before is None or now["status"] == "failed":
            return
        for name in set(before["outputs"]) - set(now["outputs"]):
            folder, _, file = name.rpartition("/")
            if (
                folder in ("", OVERLAYS) and file == Path(file).name
            ):  # never leaves the output folder
                (self.settings.out / name).unlink(missing_ok=True)

    def close(self, state: str) -> None:
        """Leave table and manifest whole; a failing disk must not hide the first error."""
        try:
            with self._poses:
                self._poses.close([e["name"] for e in self._manifest.in_order()])
            self._manifest.close(state, self.summary.counts())
        except SadrError:
            if state != "stopped":
                raise
        finally:
            self._lock.release()
