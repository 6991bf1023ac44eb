"""Targets: the books of a run folder."""

from __future__ import annotations

import json
import math

from sadr_cli.files import is_safe_name
from sadr_cli.gallery import cards
from sadr_cli.results.entry import OVERLAYS, Entry
from sadr_cli.results.face_record import read_face_json
from sadr_cli.results.manifest import JOURNAL, NAME, Damage, Manifest, ManifestReader
from sadr_cli.results.poses_csv import COLUMNS, PosesCSV, pose_row

from .cases import one_sentence
from .fuzzed import calmly, folder, made_run, put


def check_entry(entry: Entry) -> None:
    names = [entry.name] if entry.name else []
    for face in entry.faces:
        names += [face.json, *face.files.values()]
        numbers = (face.confidence, face.yaw, face.pitch, face.roll, *(face.box or ()))
        assert all(v is None or math.isfinite(v) for v in numbers)
    names += [name.removeprefix(f"{OVERLAYS}/") for name in entry.outputs]
    assert all(map(is_safe_name, names)), names
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


def manifest(data: bytes) -> None:
    put(NAME, data)

    def read() -> None:
        for found in ManifestReader(folder()):
            if isinstance(found, Damage):
                one_sentence(found.problem)
            else:
                check_entry(found)

    calmly(read)


def journal(data: bytes) -> None:
    put(JOURNAL, data)
    (folder() / NAME).unlink(missing_ok=True)

    def read() -> None:
        books = Manifest(folder(), {})
        for _, key in books.names():
            found = books.get(key)
            assert found is not None
            check_entry(found)
        books.close("finished", {})
        assert len(list(ManifestReader(folder()))) == len(list(books.names()))

    calmly(read)


def card(data: bytes) -> None:
    (folder() / cards.FOLDER).mkdir(exist_ok=True)
    put(f"{cards.FOLDER}/a.json", data)
    for number, found in cards.read_cards(folder(), "a").items():
        assert number == found.face and len(found.rotation) == 9
        for part in (found.thumbnail, found.texture, found.mesh, found.strip.replace(":", "")):
            assert not set(part) & set("<>&\"' \n\\")


def record(data: bytes) -> None:
    path = put("a.json", data)

    def read() -> None:
        cells = pose_row(read_face_json(path, folder()))
        assert len(cells) == len(COLUMNS) and all(c.isprintable() for c in cells)

    calmly(read)


def poses(data: bytes) -> None:
    path = put("poses.csv", data)
    for _ in range(2):
        with PosesCSV(path, keep=["p0", "p1", "p2"]) as table:
            table.close(["p2", "p1"])
        again = path.read_bytes()
        assert again.startswith(",".join(COLUMNS).encode() + b"\n") and again.endswith(b"\n")


def seed(name: str) -> list[bytes]:
    return [(made_run() / name).read_bytes()]


def journals() -> list[bytes]:
    entries = json.loads((made_run() / NAME).read_bytes())["inputs"]
    return [b"".join(json.dumps(e).encode() + b"\n" for e in entries)]
