"""manifest.json: the result of every input of a run; valid after any interruption.

The manifest is rewritten atomically from time to time and at the end. In between, every finished
input is appended as a line to a journal beside it, so even a killed run loses nothing: the next
run reads manifest and journal together.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sadr_cli.documents import compact, parse
from sadr_cli.errors import MissingDataError, OutputError
from sadr_cli.files import AppendFile, atomic_stream, output_error
from sadr_cli.folder import open_file, remove_file
from sadr_cli.results.entry import SCHEMA, Entry
from sadr_cli.results.fields import Damaged

NAME = "manifest.json"
JOURNAL = ".manifest-journal.jsonl"
_FORMAT = "sadr-manifest"
_INPUTS = b'"inputs": ['  # ends the line after which every line is an entry
_REST = 15.0  # seconds between rewrites; more if a rewrite takes long
_BLOCK = 1000  # entries per write


def fingerprint(settings: dict[str, Any]) -> str:
    """Short hash of the settings that determine the contents of the output files."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """A damaged part of a manifest or journal: its file, and which part is damaged and how."""

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class ManifestReader:
    """Iterates over the entries of a run folder's manifest without loading them all.

    head: the values before the entries. schema: of the file; only entries of :data:`SCHEMA` are
    returned. Raises OSError, and MissingDataError for a damaged file or one that sadr did not
    write, also during the iteration.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file = open_file(self.path, folder)
        self._first = b""  # line of the first entry
        self._documents: list[Any] | None = None  # of a file that is not one entry per line
        try:
            self.head = self._read_head()
            if not isinstance(self.head, dict) or self.head.get("format") != _FORMAT:
                raise MissingDataError(f"{self.path} was not written by sadr")
        except BaseException:
            self._file.close()
            raise
        self.schema = self.head.get("schema")
        if self.schema != SCHEMA:
            self._file.close()

    def __iter__(self) -> Iterator[Entry | Damage]:
        if self.schema != SCHEMA:
            return
        with self._file:
            documents = self._lines() if self._documents is None else self._documents
            for number, document in enumerate(documents, 1):
                yield entry_or_damage(document, self.path, f"input {number}")

    def _read_head(self) -> Any:
        lines: list[bytes] = []
        for line in self._file:
            lines.append(line)
            if line.strip() == _INPUTS:
                break
        self._first = self._file.readline().strip()
        if self._first == b"]" or _is_whole(self._first):
            return self._parse(b"".join(lines) + b"]}")
        # Reformatted by another program.
        self._file.seek(0)
        document = self._parse(self._file.read())
        self._documents = document.get("inputs", []) if isinstance(document, dict) else []
        if not isinstance(self._documents, list):
            raise self._damaged()
        return document

    def _lines(self) -> Iterator[Any]:
        line = self._first
        while line != b"]":
            yield self._parse(line.removesuffix(b","))
            line = self._file.readline().strip()
        if self._file.read(100).strip() != b"}":
            raise self._damaged()

    def _parse(self, data: bytes) -> Any:
        try:
            return parse(data)
        except ValueError as error:
            raise self._damaged() from error

    def _damaged(self) -> MissingDataError:
        return MissingDataError(f"{self.path} is damaged")


def read_manifest(folder: Path) -> ManifestReader:
    """The manifest of a finished run.

    MissingDataError if it cannot be read, is damaged, or was written by another version.
    """
    try:
        reader = ManifestReader(folder)
    except OSError as error:
        reason = error.strerror or error
        raise MissingDataError(f"{folder / NAME} cannot be read: {reason}") from error
    if reader.schema != SCHEMA:
        raise MissingDataError(
            f"{folder} was written by another version of sadr (layout {reader.schema!r:.20}, this "
            f"one reads {SCHEMA}): reconstruct it again"
        )
    return reader


def entry_or_damage(document: Any, path: Path, part: str) -> Entry | Damage:
    """The entry of a JSON document of :data:`SCHEMA`."""
    try:
        return Entry.from_json(document)
    except Damaged as error:
        return Damage(path, f"{part} is damaged: {error}")


def _is_whole(line: bytes) -> bool:
    try:
        parse(line.removesuffix(b","))
    except ValueError:
        return False
    return True


# Writing ---------------------------------------------------------------------------------------


class Manifest:
    """The manifest of a run in progress: entries by input, in the order of the run.

    damage: unusable parts of an earlier run's records; those inputs are processed again. Entries
    are held in memory as text, so that hundreds of thousands fit.
    """

    def __init__(self, folder: Path, run: dict[str, Any]) -> None:
        self.path = folder / NAME
        self.journal_path = folder / JOURNAL
        self.run = run
        self.damage: list[Damage] = []
        # Key -> name, JSON: inputs that this run has finished, in order; then all others.
        self._settled: dict[str, tuple[str, bytes]] = {}
        self._before: dict[str, tuple[str, bytes]] = {}
        self._load(folder)
        self._last, self._cost = time.monotonic(), 0.0
        self._started = time.time()
        self.save("running")
        self._journal = AppendFile(self.journal_path)  # closed by close()

    def get(self, key: str) -> Entry | None:
        """The entry of an input, if any."""
        found = self._settled.get(key) or self._before.get(key)
        return None if found is None else Entry.from_json(parse(found[1]))

    def add(self, entry: Entry) -> None:
        """Record one finished input."""
        self.keep(entry)
        self._journal.append(self._settled[entry.key][1] + b"\n")
        if time.monotonic() - self._last > max(_REST, 20 * self._cost):
            self.save("running")
            self._journal.clear()

    def keep(self, entry: Entry) -> None:
        """Record an entry of an earlier run that is still valid, in this run's order."""
        self._before.pop(entry.key, None)
        self._settled[entry.key] = _line(entry)

    def save(self, state: str, summary: dict[str, Any] | None = None) -> None:
        """Rewrite manifest.json; ``state``: running, finished, interrupted or stopped."""
        began = time.monotonic()
        document = {
            "format": _FORMAT,
            "schema": SCHEMA,
            **self.run,
            "state": state,
            "started": _iso(self._started),
            "updated": _iso(time.time()),
            **({"summary": summary} if summary is not None else {}),
        }
        head = json.dumps(document, indent=2)[:-2]
        with atomic_stream(self.path, durable=state != "running") as file:
            file.write(head.encode() + b",\n  " + _INPUTS + b"\n")
            lines = [line for _, _, line in self._all()]
            for k in range(0, len(lines), _BLOCK):
                end = b",\n" if k + _BLOCK < len(lines) else b"\n"
                file.write(b",\n".join(b"    " + line for line in lines[k : k + _BLOCK]) + end)
            file.write(b"  ]\n}\n")
        self._last, self._cost = time.monotonic(), time.monotonic() - began

    def close(self, state: str, summary: dict[str, Any]) -> None:
        """Rewrite for the last time, and then remove the journal."""
        self.leave()
        self.save(state, summary)
        remove_file(self.journal_path, self.path.parent)

    def leave(self) -> None:
        """Close the journal and leave it for the next run."""
        self._journal.close()

    def names(self) -> Iterator[tuple[str, str]]:
        """(name, key) of all entries: this run's in input order, then those of other inputs."""
        return ((name, key) for key, name, _ in self._all())

    def _all(self) -> Iterator[tuple[str, str, bytes]]:
        for key, (name, line) in chain(self._settled.items(), self._before.items()):
            yield key, name, line

    def _load(self, folder: Path) -> None:
        try:
            for found in ManifestReader(folder):
                self._take(found)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise output_error(self.path, error) from error
        except MissingDataError as error:
            raise OutputError(
                f"{error}: choose another output folder, or remove the file to start over"
            ) from error
        try:
            with open_file(self.journal_path, folder) as file:
                for number, line in enumerate(file, 1):
                    if line.endswith(b"\n"):  # the last one may be incomplete
                        self._take(self._journal_line(line, number))
        except FileNotFoundError:
            pass
        except OSError as error:
            reason = error.strerror or str(error)
            self.damage.append(Damage(self.journal_path, f"cannot be read: it {reason}"))

    def _journal_line(self, line: bytes, number: int) -> Entry | Damage:
        part = f"line {number}"
        try:
            return entry_or_damage(parse(line), self.journal_path, part)
        except ValueError:
            return Damage(self.journal_path, f"{part} is damaged: it is not JSON")

    def _take(self, found: Entry | Damage) -> None:
        if isinstance(found, Damage):
            self.damage.append(found)
        else:
            self._before[found.key] = _line(found)


def _line(entry: Entry) -> tuple[str, bytes]:
    return entry.name, compact(entry.to_json())


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
