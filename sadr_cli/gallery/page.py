"""index.html, generated from a run's manifest and cards in one pass."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sadr_cli.faces import LOW_CONFIDENCE, PROFILE_YAW
from sadr_cli.files import atomic_stream
from sadr_cli.folder import open_file
from sadr_cli.gallery.cards import Card, read_cards
from sadr_cli.pages import mesh_script, page_json, render_page
from sadr_cli.pose import matrix_to_yxz
from sadr_cli.render.coarse import is_mesh, is_motion, page_mesh
from sadr_cli.results.entry import Entry, FaceEntry
from sadr_cli.results.manifest import Damage, ManifestReader
from sadr_cli.uv import UVLayout

NAME = "index.html"
# Bytes of pictures and meshes in the page, which browsers load from a disk in about a second.
# Beyond these, faces have no mesh, and then no picture; beyond MAX_ITEMS they are left out. The
# page states the limits.
MAX_MESHES, MAX_PAGE = 96_000_000, 160_000_000
MAX_ITEMS = 200_000
_CURVE = 600  # points of a video's curves at most
_BLOCK = 60  # faces per script element: the page parses one at a time
_HERE = Path(__file__).parent


def write_page(folder: Path, uv: UVLayout) -> Path:
    """Write ``index.html`` of the run in ``folder`` from its manifest; returns its path.

    One file, no network, works from a disk. Raises OutputError.
    """
    page = _Page(folder, uv)
    path = folder / NAME
    with atomic_stream(path) as file:
        parts = render_page(
            _HERE / "page.html",
            title=f"Faces of {folder.absolute().name}",
            style=(_HERE / "page.css").read_text(encoding="utf-8"),
            script=_script(),
            page=page,
        )
        for part in parts:
            file.write(part.encode("utf-8", "replace"))
    return path


def _script() -> str:
    first, last = ((_HERE / name).read_text(encoding="utf-8") for name in ("grid.js", "dialog.js"))
    return f"{first}{mesh_script()}{last}"


class _Page:
    """The contents of the template, generated in pieces by :meth:`blocks` and :meth:`about`."""

    def __init__(self, folder: Path, uv: UVLayout) -> None:
        self._folder, self._uv = folder, uv
        self._shown: dict[tuple[str, int], dict[str, Any]] = {}  # what items say of their pictures
        self._limit: dict[str, int] = {}
        self._about: dict[str, Any] = {
            "block": _BLOCK,
            "low_confidence": LOW_CONFIDENCE,
            "profile": PROFILE_YAW,
            **page_mesh(uv),
        }

    def blocks(self) -> Iterator[Markup]:
        """Blocks of :data:`_BLOCK` lines ``thumbnail texture mesh strip motion`` in base64, with -
        for missing values."""
        lines: list[str] = []
        size = meshes = 0
        for name, card in self._all_cards():
            if size > MAX_PAGE:
                self._limit["pictures"] = len(self._shown)
                break
            parts = [card.thumbnail, card.texture, card.mesh, card.strip or "-", "-"]
            if size > MAX_MESHES:
                self._limit["meshes"] = meshes
                parts[1:] = "-", "-", "-", "-"
            else:
                meshes += 1
                if not is_mesh(card.mesh, self._uv):
                    parts[2] = "-"
                elif card.motion and is_motion(card.motion, self._uv):
                    parts[4] = card.motion
            lines.append(" ".join(parts))
            size += len(lines[-1])
            angles = matrix_to_yxz([card.rotation[k : k + 3] for k in (0, 3, 6)]).round(4).tolist()
            self._shown[name, card.face] = {
                "p": len(self._shown),
                "rotation": card.rotation,
                **dict(zip(("yaw", "pitch", "roll"), angles, strict=True)),
            }
            if len(lines) == _BLOCK:
                yield Markup("\n".join(lines))
                lines.clear()
        if lines:
            yield Markup("\n".join(lines))

    def about(self) -> Iterator[Markup]:
        """The JSON of all other data; must be called after :meth:`blocks`."""
        yield Markup('{"items":[')
        photos = shown = 0
        for entry in ManifestReader(self._folder):
            photos += 1
            if isinstance(entry, Damage):
                continue
            for item in self._items(entry):
                shown += 1
                if shown <= MAX_ITEMS:
                    yield Markup("," if shown > 1 else "") + page_json(item)
        if shown > MAX_ITEMS:
            self._limit["items"] = MAX_ITEMS
        rest = {**self._about, "photos": photos, "limit": self._limit}
        yield Markup("],") + page_json(rest)[1:]

    def _all_cards(self) -> Iterator[tuple[str, Card]]:
        for entry in ManifestReader(self._folder):
            if isinstance(entry, Entry) and entry.faces:
                cards = read_cards(self._folder, entry.name)
                yield from ((entry.name, cards[f.face]) for f in entry.faces if f.face in cards)

    def _items(self, entry: Entry) -> Iterator[dict[str, Any]]:
        curves = _curves(self._folder, entry) if entry.kind == "video" else {}
        for face in entry.faces:
            item = _face_item(entry, face) | self._shown.get((entry.name, face.face), {})
            if face.face in curves:
                item["curve"] = curves[face.face]
            yield item
        if entry.status != "ok":
            yield {k: getattr(entry, k) for k in ("name", "source", "status", "reason")}


def _face_item(entry: Entry, face: FaceEntry) -> dict[str, Any]:
    overlay = [name for name in entry.outputs if "/" in name]
    item: dict[str, Any] = {
        "name": entry.name,
        "source": entry.source,
        "status": "ok",
        **{k: getattr(face, k) or 0 for k in ("yaw", "pitch", "roll", "confidence")},
        "files": [face.json, *face.files.values(), *overlay],
    }
    if face.span is not None:
        item["track"] = face.face
    elif face.face:
        item["face"] = face.face
    if face.warnings:
        item["warnings"] = face.warnings
    return item


def _curves(folder: Path, entry: Entry) -> dict[int, list[list[float]]]:
    """Track -> [seconds, yaw, pitch, roll, confidence] over a video, from its table of poses."""
    table = next((n for n in entry.outputs if n.endswith("_poses.csv")), "")
    curves: dict[int, array[float]] = {}
    try:
        with open_file(folder / table, folder) as file:
            lines = io.TextIOWrapper(file, "utf-8", "replace", newline="")
            for row in csv.DictReader(lines):
                order = "_yxz" if "yaw_yxz_deg" in row else ""  # older runs have one triple
                angles = (float(row[f"{a}{order}_deg"]) for a in ("yaw", "pitch", "roll"))
                when = float(row["time_s"] or row["frame"])
                point = [round(when, 2), *(round(a, 1) for a in angles), float(row["confidence"])]
                if not all(map(math.isfinite, point)):
                    return {}
                curves.setdefault(int(row["track"]), array("d")).extend(point)
    # An older run, or a modified table.
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return {}
    points = {k: [v[i : i + 5].tolist() for i in range(0, len(v), 5)] for k, v in curves.items()}
    return {k: v[:: -(-len(v) // _CURVE)] for k, v in points.items()}
