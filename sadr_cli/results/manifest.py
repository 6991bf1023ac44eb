"""manifest.json: what a run did with every input; whole after any interruption.

The manifest is rewritten atomically now and then and at the end. In between every finished
input is one line appended to a journal beside it, so that even a killed run forgets nothing:
the next one reads manifest and journal together.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sadr_cli.errors import OutputError
from sadr_cli.files import atomic_write, output_error

SCHEMA = 1
NAME = "manifest.json"
JOURNAL = ".manifest-journal.jsonl"
STATUSES = ("ok", "no_face", "failed")
_REST = 15.0  # seconds between rewrites, more when a rewrite takes long


def fingerprint(settings: dict[str, Any]) -> str:
    """Short hash of the settings that decide what the output files contain."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Manifest:
    """Entries by input, in the order of the run.

    An entry: ``source`` as the user named it, ``key`` that identifies the input (its absolute
    path), ``name`` stem of its output files, ``status`` ok, no_face or failed, ``reason``,
    ``notes`` on how it was read, ``outputs`` file names, ``faces``, ``seconds``, ``settings``
    fingerprint it was made with, ``stamp`` size and time of the input file, ``skipped`` when an
    earlier run had finished it.
    """

    def __init__(self, folder: Path, run: dict[str, Any]) -> None:
        self.path = folder / NAME
        self.journal_path = folder / JOURNAL
        self.run = run
        self.entries: dict[str, dict[str, Any]] = self._load()
        self._order: dict[str, None] = {}
        self._last, self._cost = time.monotonic(), 0.0
        self._started = time.time()
        self.save("running")
        try:
            self._journal = self.journal_path.open("wb")  # closed by close()
        except OSError as error:
            raise output_error(self.journal_path, error) from error

    def add(self, entry: dict[str, Any]) -> None:
        """Record one finished input."""
        entry = {k: v for k, v in entry.items() if v is not None}
        self.entries[entry["key"]] = entry
        self._order[entry["key"]] = None
        try:
            self._journal.write(json.dumps(entry).encode() + b"\n")
            self._journal.flush()
        except OSError as error:
            raise output_error(self.journal_path, error) from error
        if time.monotonic() - self._last > max(_REST, 20 * self._cost):
            self.save("running")
            self._journal.seek(0)
            self._journal.truncate()

    def keep(self, key: str) -> None:
        """Record that an earlier run's entry still stands; it is marked ``skipped``."""
        self.entries[key] = {**self.entries[key], "skipped": True}
        self._order[key] = None

    def save(self, state: str, summary: dict[str, Any] | None = None) -> None:
        """Rewrite manifest.json whole; ``state``: running, finished, interrupted or stopped."""
        began = time.monotonic()
        entries = self.in_order()
        document = {
            "format": "sadr-manifest",
            "schema": SCHEMA,
            **self.run,
            "state": state,
            "started": _iso(self._started),
            "updated": _iso(time.time()),
            **({"summary": summary} if summary is not None else {}),
        }
        head = json.dumps(document, indent=2)[:-2]
        rows = ",\n".join("    " + json.dumps(entry) for entry in entries)
        text = head + ',\n  "inputs": [\n' + rows + ("\n" if rows else "") + "  ]\n}\n"
        atomic_write(self.path, text.encode(), durable=state != "running")
        self._last, self._cost = time.monotonic(), time.monotonic() - began

    def close(self, state: str, summary: dict[str, Any]) -> None:
        """Last rewrite; the journal goes once the manifest holds everything."""
        self._journal.close()
        self.save(state, summary)
        self.journal_path.unlink(missing_ok=True)

    def in_order(self) -> list[dict[str, Any]]:
        """Entries of this run in input order, then those of earlier runs it did not meet."""
        here = [self.entries[k] for k in self._order if k in self.entries]
        return here + [e for k, e in self.entries.items() if k not in self._order]

    def names(self) -> Iterable[tuple[str, str]]:
        """(name, key) of all entries, those of earlier runs included."""
        return [(e["name"], k) for k, e in self.entries.items()]

    def _load(self) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        try:
            document = json.loads(self.path.read_bytes())
            if document.get("format") != "sadr-manifest":
                raise OutputError(
                    f"{self.path} was not written by sadr: choose another output folder"
                )
            for entry in document["inputs"] if document.get("schema") == SCHEMA else []:
                entries[entry["key"]] = entry
        except FileNotFoundError:
            pass
        except OSError as error:
            raise output_error(self.path, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{self.path} is damaged: remove it to start afresh, or choose another folder"
            ) from error
        try:
            lines = self.journal_path.read_bytes().split(b"\n")[:-1]  # the last may be torn
        except OSError:
            lines = []
        for line in lines:
            try:
                entry = json.loads(line)
                entries[entry["key"]] = entry
            except (ValueError, KeyError, TypeError):
                continue
        return entries


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
