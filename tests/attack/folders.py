"""Run folders that somebody else made: exported face by face, resumed, and never left."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fakes import FakeReconstructor, photo_with
from run_folders import document, go, make_photos, rows, tree
from test_damaged import ENTRIES, MESHES, RECORDS, UV, other_is_exported, put
from test_foreign_folders import EVIL, LINKS, WRONG
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import OutputError
from sadr_cli.gallery import write_page
from sadr_cli.results.manifest import JOURNAL

from .cases import Case, lasting_folder, one_sentence

LEAST = 74
_TEXTS = [
    b"", b"NaN", b"[]", b"\xff", b'["sadr-face"]', b"\0" * 999, b"{" * 100_000,
    '{"format": "sadr-face"}'.encode("utf-16"), b'{"format":"sadr-face","schema":1e999}',
    b'{"format":"sadr-face","schema":' + b"9" * 6000 + b"}",
]  # fmt: skip
_MORE = [
    put("landmarks", "points", [[10**400] * 3] * 68),
    put("pose", "scale", 1e308),
    put("confidence", [[]]),
    put("box", [1, 2, 3]),
    put("name", "../../evil"),
    put("name", "=1+1"),
    put("warnings", ["\x1b[2J"]),
]


@cache
def _made() -> Path:
    """A run over two photos, a and b, as OBJ; and one over four, photos beside it."""
    top = lasting_folder()
    for name in "ab":
        photo_with(top / "two" / f"{name}.png")
    go(top / "two", top / "export", formats=("obj",), two_pass=False)
    go(make_photos(top / "photos"), top / "run", index=True, overlay=True)
    return top


def cases() -> Iterator[Case]:
    yield from exports()
    yield from foreign_names()
    yield from damaged_books()
    yield from links()


def _case(name: str, attempt: Callable[[Path], None]) -> Case:
    def inside() -> None:
        with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
            attempt(Path(folder))

    return Case(name, inside)


def exports() -> Iterator[Case]:
    def changed(name: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
        def apply(folder: Path) -> None:
            content = json.loads((folder / name).read_text())
            change(content["inputs"][0] if name == "manifest.json" else content)
            (folder / name).write_text(json.dumps(content))

        return apply

    def written(data: bytes) -> Callable[[Path], None]:
        return lambda folder: (folder / "a.json").write_bytes(data) and None

    damages = {f"record {n}": changed("a.json", c) for n, c in enumerate(RECORDS)}
    damages |= {f"entry {n}": changed("manifest.json", c) for n, c in enumerate(ENTRIES)}
    damages |= {f"text {n}": written(data) for n, data in enumerate(_TEXTS)}
    damages |= {f"mesh {n}": damage for n, damage in enumerate(MESHES)}
    for name, damage in damages.items():
        yield _case(f"export {name}", lambda folder, damage=damage: _export(folder, damage, True))
    for number, change in enumerate(_MORE):
        damage = changed("a.json", change)
        name = f"export odd record {number}"
        yield _case(name, lambda folder, damage=damage: _export(folder, damage, False))


def _export(folder: Path, damage: Callable[[Path], None], fails: bool) -> None:
    """The face a is damaged: b is exported, nothing is written elsewhere."""
    shutil.copytree(_made() / "export", folder / "run")
    damage(folder / "run")
    before = set(folder.rglob("*"))
    out = folder / "deep" / "out"
    result = _exported(folder / "run", "ply,pts", out)
    if fails:
        other_is_exported(result, out)
    else:
        assert result.exit_code in (0, 3) and "internal error" not in result.stderr, result.stderr
        assert (out / "b.ply").stat().st_size and "\x1b" not in result.stderr
    assert all(
        p == folder / "deep" or out in (p, *p.parents) for p in set(folder.rglob("*")) - before
    )


def _exported(run: Path, formats: str, out: Path, *more: str) -> Any:
    with (
        patch("sadr_cli.model.checkpoint.find_weights", lambda weights: "none"),
        patch("sadr_cli.model.checkpoint.load_layout", lambda path: UV),
    ):
        command = ["export", str(run), "--format", formats, "--out", str(out), *more]
        return CliRunner().invoke(app, command)


def foreign_names() -> Iterator[Case]:
    for number, name in enumerate(EVIL):
        for where in ("manifest.json", JOURNAL):
            attempt = lambda folder, name=name, where=where: _resume_named(folder, name, where)  # noqa: E731
            yield _case(f"name {number} in {where}", attempt)


def _resume_named(folder: Path, name: str, where: str) -> None:
    """A result of that name, in a folder that is used as --out."""
    photos, out = _made() / "photos", folder / "deep" / "out"
    out.mkdir(parents=True)
    (folder / "victim").mkdir()
    (folder / "victim" / "evil").write_text("precious")
    entry = {"source": "x", "key": str(photos / "p1.png"), "name": name, "status": "ok"}
    entry |= {"outputs": [f"../{name}.stl", "../../victim/evil", "overlays/../../victim/evil"]}
    entry |= {"faces": [{"face": 0, "json": f"../{name}.json", "stl": "/etc/passwd"}]}
    if where == JOURNAL:
        (out / JOURNAL).write_text(json.dumps(entry) + "\n")
    else:
        whole = {"format": "sadr-manifest", "schema": 1, "inputs": [entry]}
        (out / "manifest.json").write_text(json.dumps(whole))
    before = tree(folder)
    summary, entries = go(photos, out, overlay=True, index=True)
    write_page(out, FakeReconstructor().uv)
    assert summary.ok == 4 and len({e.name.casefold() for e in entries}) == 4
    new = set(tree(folder).items()) - set(before.items())
    assert all(path.parts[:2] == ("deep", "out") for path, _ in new)
    assert (folder / "victim" / "evil").read_text() == "precious"
    assert len(rows(out)) == 5 and go(photos, out, overlay=True, index=True)[0].skipped == 4


def damaged_books() -> Iterator[Case]:
    for number, change in enumerate(WRONG):
        yield _case(f"entry of the books {number}", lambda f, c=change: _resume_damaged(f, c))
    for number, text in enumerate(_TEXTS):
        yield _case(f"manifest of text {number}", lambda f, t=text: _resume_without(f, t))
    for name in ("poses.csv", ".cards/p1.json", "p1.json", JOURNAL):
        for number, text in enumerate(_TEXTS):
            attempt = lambda f, n=name, t=text: _resume_with(f, n, t)  # noqa: E731
            yield _case(f"{name} of text {number}", attempt)


def _resume_damaged(folder: Path, change: Callable[[dict], None]) -> None:
    out = shutil.copytree(_made() / "run", folder / "out")
    whole = document(out)
    change(whole["inputs"][3])
    (out / "manifest.json").write_text(json.dumps(whole, indent=1))
    summary, _ = go(_made() / "photos", out, index=True, overlay=True)
    assert summary.ok == 4 and summary.skipped == 3 and len(rows(out)) == 5
    ((_, note),) = summary.notes
    one_sentence(note)


def _resume_without(folder: Path, text: bytes) -> None:
    """A manifest that is none is said and left as it is."""
    out = folder / "out"
    out.mkdir()
    (out / "manifest.json").write_bytes(text)
    try:
        go(_made() / "photos", out)
    except OutputError as error:
        one_sentence(str(error))
        assert (out / "manifest.json").read_bytes() == text
    else:
        raise AssertionError("written over")


def _resume_with(folder: Path, name: str, text: bytes) -> None:
    """Another file that is none: everything is there afterwards."""
    out = shutil.copytree(_made() / "run", folder / "out")
    (out / name).write_bytes(text)
    summary, _ = go(_made() / "photos", out, index=True, overlay=True)
    write_page(out, FakeReconstructor().uv)
    assert summary.ok == 4 and [r["name"] for r in rows(out)] == ["p0", "p1", "p2", "p2", "p3"]
    assert b"precious" not in (out / "index.html").read_bytes()


def links() -> Iterator[Case]:
    if os.name == "nt":
        return
    for name in [*LINKS, ".cards", "overlays"]:
        for target in ("file", "missing", "folder"):
            attempt = lambda f, n=name, t=target: _linked(f, n, t)  # noqa: E731
            yield _case(f"{name} is a link to a {target}", attempt)

    for name in ("a.ply", "b.pts", "b.json", "landmark_vertices.csv", "contact_sheet.png"):
        yield _case(f"export: {name} is a link", lambda f, n=name: _export_linked(f, n))


def _export_linked(folder: Path, name: str) -> None:
    """The link is replaced by the file, or refused; what it leads to stays as it is."""
    out, victim = folder / "out", folder / "victim"
    out.mkdir()
    victim.write_text("precious")
    (out / name).symlink_to(victim)
    result = _exported(_made() / "export", "ply,pts,csv", out, "--contact-sheet", "png")
    assert result.exit_code in (0, 1), result.stderr
    assert victim.read_text() == "precious"
    assert result.exit_code or not (out / name).is_symlink()


def _linked(folder: Path, name: str, target: str) -> None:
    out, victim = folder / "out", folder / "victim"
    (out / name).parent.mkdir(parents=True)
    (victim / "folder").mkdir(parents=True)
    (victim / "file").write_text("precious")
    (out / name).symlink_to(victim / target)
    try:
        go(_made() / "photos", out, overlay=True, index=True)
        write_page(out, FakeReconstructor().uv)
    except OutputError as error:
        one_sentence(str(error))
        assert "link" in str(error) or "in the way" in str(error), str(error)
    assert (victim / "file").read_text() == "precious"
    assert {p.name for p in victim.rglob("*")} == {"file", "folder"}
