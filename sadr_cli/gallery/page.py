"""index.html: made from a run's manifest and cards, in one pass, whatever their number."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sadr_cli.faces import LOW_CONFIDENCE, PROFILE_YAW
from sadr_cli.files import atomic_stream
from sadr_cli.gallery.cards import QUANTUM_MM, page_grid, read_cards
from sadr_cli.pages import render_page
from sadr_cli.results import manifest
from sadr_cli.uv import UVLayout

NAME = "index.html"
# Bytes of pictures and meshes in the page; browsers load this from a disk in about a second.
# Beyond it faces keep their numbers and files, first without mesh, then without picture.
MAX_MESHES, MAX_PAGE = 96_000_000, 160_000_000
_CURVE = 600  # points of a video's curves at most
_BLOCK = 60  # faces per script element: the page parses one at a time
_HERE = Path(__file__).parent


def write_page(folder: Path, uv: UVLayout) -> Path:
    """Write ``index.html`` of the run in ``folder`` from its manifest; returns its path.

    One file, no network, works from a disk. Raises OutputError.
    """
    document = json.loads((folder / manifest.NAME).read_bytes())
    title = f"Faces of {folder.absolute().name}"
    items: list[dict[str, Any]] = []
    path = folder / NAME
    with atomic_stream(path) as file:
        # The payload comes first in the making, the list of items first in the file.
        blocks = _Blocks()
        for entry in document["inputs"]:
            cards = read_cards(folder, entry["name"])
            curves = _curves(folder, entry) if entry.get("kind") == "video" else {}
            for face in entry.get("faces", ()):
                item = _face_item(entry, face, cards.get(face["face"]), blocks)
                if face["face"] in curves:
                    item["curve"] = curves[face["face"]]
                items.append(item)
            if entry["status"] != "ok":
                items.append({k: entry.get(k) for k in ("name", "source", "status", "reason")})
        about = {
            "items": items,
            "photos": len(document["inputs"]),
            "block": _BLOCK,
            "low_confidence": LOW_CONFIDENCE,
            "profile": PROFILE_YAW,
            "quantum": QUANTUM_MM,
            "grid": _grid(uv),
        }
        page = render_page(
            _HERE / "page.html",
            title=title,
            style=(_HERE / "page.css").read_text(encoding="utf-8"),
            script=(_HERE / "viewer.js").read_text(encoding="utf-8"),
            about=about,
            blocks=blocks.texts(),
        )
        for part in page:
            file.write(part.encode("utf-8", "replace"))
    return path


class _Blocks:
    """Lines of ``thumbnail texture mesh strip`` in base64, - for what there is not."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._bytes = 0

    def add(self, card: dict[str, Any]) -> int | None:
        """Take in a face; returns its number, None when the page is full."""
        parts = [card["thumbnail"], card["texture"], card["mesh"], card.get("strip") or "-"]
        if self._bytes > MAX_PAGE:
            return None
        if self._bytes > MAX_MESHES:
            parts[1:] = "-", "-", "-"
        self._lines.append(" ".join(parts))
        self._bytes += len(self._lines[-1])
        return len(self._lines) - 1

    def texts(self) -> Iterator[str]:
        """The lines, :data:`_BLOCK` at a time; base64 has nothing to escape."""
        for k in range(0, len(self._lines), _BLOCK):
            yield Markup("\n".join(self._lines[k : k + _BLOCK]))


def _face_item(
    entry: dict[str, Any], face: dict[str, Any], card: dict[str, Any] | None, blocks: _Blocks
) -> dict[str, Any]:
    keys = ("face", "track", "yaw", "pitch", "roll", "confidence", "warnings")
    item = {k: face[k] for k in keys if face.get(k)}
    item = {"yaw": 0, "pitch": 0, "roll": 0, "confidence": 0, **item}
    known = {*keys, "box"}
    files = [v for k, v in face.items() if k not in known and isinstance(v, str)]
    overlay = [name for name in entry["outputs"] if "/" in name]
    item.update(name=entry["name"], source=entry["source"], status="ok", files=files + overlay)
    if card is not None:
        number = blocks.add(card)
        if number is not None:
            item.update(p=number, rotation=card["rotation"])
    return item


def _curves(folder: Path, entry: dict[str, Any]) -> dict[int, list[list[float]]]:
    """Track -> [seconds, yaw, pitch, roll, confidence] over a video, from its table of poses."""
    curves: dict[int, list[list[float]]] = {}
    table = next((n for n in entry["outputs"] if n.endswith("_poses.csv")), None)
    try:
        with (folder / Path(table or "").name).open(encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                angles = (float(row[f"{a}_deg"]) for a in ("yaw", "pitch", "roll"))
                when = float(row["time_s"] or row["frame"])
                point = [round(when, 2), *(round(a, 1) for a in angles), float(row["confidence"])]
                curves.setdefault(int(row["track"]), []).append(point)
    except (OSError, KeyError, ValueError):  # an older run, or a table that somebody changed
        return {}
    return {k: v[:: -(-len(v) // _CURVE)] for k, v in curves.items()}


def _grid(uv: UVLayout) -> dict[str, str]:
    grid = page_grid(uv)
    return {
        "mean": _text(np.rint(grid.mean / QUANTUM_MM).astype("<i2")),
        "triangles": _text(grid.triangles.astype("<u2")),
        "uv": _text(grid.uv.astype("<f4")),
    }


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
