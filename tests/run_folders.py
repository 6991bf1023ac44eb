"""Runs with the fake network over a few made-up photos, and what is in their folders."""

from __future__ import annotations

import csv
import json

from fakes import FakeDetector, FakeReconstructor, photo_with

from sadr_cli.files import TEMPORARY_PREFIX
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import iter_sources

ROWS = [("p0", "0"), ("p1", "0"), ("p2", "0"), ("p2", "1"), ("p3", "0")]


def make_photos(folder):
    """Four photos; p2 has two faces."""
    for k in range(4):
        two = [(20, 30, 40), (110, 60, 60)]
        photo_with(folder / f"p{k}.png", two if k == 2 else [(60, 50, 40)])
    return folder


def go(photos, out, **settings):
    """(summary, entries) of a run over a folder."""
    entries = []
    summary = run(
        (Work(s) for s in iter_sources([str(photos)])),
        FakeReconstructor(),
        FakeDetector,
        RunSettings(out, **{"formats": ("stl",), "batch_size": 4, "jobs": 2, **settings}),
        on_entry=entries.append,
    )
    return summary, entries


def document(out):
    return json.loads((out / "manifest.json").read_text())


def rows(out):
    with (out / "poses.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cells(out):
    return [tuple(row.values()) for row in rows(out)]


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def leftovers(out):
    return list(out.rglob(TEMPORARY_PREFIX + "*"))
