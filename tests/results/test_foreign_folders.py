"""Run folders from strangers: names, damage and links."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fakes import FakeReconstructor
from run_folders import cells, document, go, make_photos, rows, tree

from sadr_cli import files
from sadr_cli.errors import OutputError
from sadr_cli.gallery import write_page
from sadr_cli.lock import LOCK_NAME
from sadr_cli.results.manifest import JOURNAL

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, limits and signals of POSIX")


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


# Names from strangers --------------------------------------------------------------------------

EVIL = [
    "../../victim/evil",
    "/tmp/sadr-evil",
    "..",
    "",
    "a/../../../victim/evil",
    "..\\..\\victim\\evil",
    "manifest",
    "poses",
    "p1_face1",
    ".cards",
    "x" * 5000,
    "\x1b[2J",
    "a\nb",
    "nul",
]


@pytest.mark.parametrize("name", EVIL, ids=range(len(EVIL)))
def test_a_result_never_leaves_the_folder(tmp_path, photos, name):
    out, victim = tmp_path / "deep" / "out", tmp_path / "victim"
    victim.mkdir()
    out.mkdir(parents=True)
    drawn = {"overlay": True, "index": True} if name == EVIL[0] else {}
    entry = {"source": "x", "key": str(photos / "p1.png"), "name": name, "status": "failed"}
    entry |= {"outputs": [f"../{name}.stl", "../../victim/x", "manifest.json", "overlays/../x"]}
    whole = {"format": "sadr-manifest", "schema": 1, "inputs": [entry]}
    if len(name) % 2:
        (out / JOURNAL).write_text(json.dumps(entry) + "\n")
        whole["inputs"] = []
    (out / "manifest.json").write_text(json.dumps(whole))
    before = tree(tmp_path)
    summary, entries = go(photos, out, **drawn)
    assert summary.ok == 4 and len({e.name.casefold() for e in entries}) == 4
    write_page(out, FakeReconstructor().uv)
    new = set(tree(tmp_path).items() - before.items())
    assert all(path.parts[:2] == ("deep", "out") for path, _ in new)
    assert document(out)["state"] == "finished" and len(rows(out)) == 5
    assert not Path("/tmp/sadr-evil.json").exists()
    assert go(photos, out, **drawn)[0].skipped == 4


def test_two_entries_of_one_name_keep_apart(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out)
    whole = document(out)
    whole["inputs"][1]["name"] = whole["inputs"][0]["name"]
    (out / "manifest.json").write_text(json.dumps(whole))
    summary, entries = go(photos, out)
    assert summary.ok == 4 and len({e.name for e in entries}) == 4 and len(rows(out)) == 5


WRONG = [
    lambda e: e.pop("key"),
    lambda e: e.pop("name"),
    lambda e: e.update(key=5),
    lambda e: e.update(name=["x"]),
    lambda e: e.update(status="great"),
    lambda e: e.update(faces="abc"),
    lambda e: e.update(faces=[1]),
    lambda e: e["faces"][0].update(json=5),
    lambda e: e["faces"][0].update(json=".."),
    lambda e: e["faces"][0].update(confidence="high"),
    lambda e: e["faces"][0].update(yaw=10**400),
    lambda e: e["faces"][0].update(face=-1),
    lambda e: e["faces"].append(e["faces"][0]),
    lambda e: e.update(stamp=[1]),
    lambda e: e.update(stamp={}),
    lambda e: e.update(outputs=[None]),
    lambda e: e.update(key="a\0b"),
]


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_a_damaged_entry_is_named_and_its_input_done_again(tmp_path, photos, change):
    out = tmp_path / "out"
    go(photos, out)
    expected = cells(out)
    whole = document(out)
    change(whole["inputs"][3])
    (out / "manifest.json").write_text(json.dumps(whole, indent=1))
    summary, _ = go(photos, out)
    assert summary.ok == 4 and summary.skipped == 3
    ((path, note),) = summary.notes
    assert path == str(out / "manifest.json") and "input 4 is damaged: " in note
    assert "\n" not in note and "Error" not in note
    assert cells(out) == expected


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b'{"format": "other"}', b"\xff\xfe{", b"[" * 100_000, b'{"format": NaN}',
     b'{"format": "sadr-manifest", "schema": 1, "inputs": 5}', b"\0" * 5000],
)  # fmt: skip
def test_a_damaged_manifest_is_said_and_kept(tmp_path, photos, text):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_bytes(text)
    with pytest.raises(OutputError, match=r"manifest\.json .*another output folder") as error:
        go(photos, out)
    assert "\n" not in str(error.value)
    assert (out / "manifest.json").read_bytes() == text


def test_a_manifest_cut_or_flipped_is_said(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out)
    whole = (out / "manifest.json").read_bytes()
    middle = whole.index(b'"p3"')
    for text in (whole[:-3], whole[:middle], whole[:middle] + b"\0\xff" + whole[middle + 2 :]):
        (out / "manifest.json").write_bytes(text)
        with pytest.raises(OutputError, match="damaged"):
            go(photos, out)


def test_a_manifest_written_by_another_program_is_read(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out)
    whole = document(out)
    for text in (json.dumps(whole), json.dumps(whole, indent=4, sort_keys=True)):
        (out / "manifest.json").write_text(text)
        assert go(photos, out)[0].skipped == 4


def test_a_damaged_journal_costs_its_line_only(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out)
    whole = document(out)
    lines = [json.dumps(e).encode() for e in whole["inputs"]]
    lines[2] = b"\xff" + lines[2][1:]
    (out / JOURNAL).write_bytes(b"\n".join(lines[1:]) + b'\n{"key": "torn')
    whole["inputs"] = whole["inputs"][:1]
    (out / "manifest.json").write_text(json.dumps(whole))
    summary, _ = go(photos, out)
    ((path, note),) = summary.notes
    assert summary.skipped == 3 and path == str(out / JOURNAL) and "line 2 is damaged" in note


# Links -----------------------------------------------------------------------------------------

LINKS = [
    JOURNAL,
    LOCK_NAME,
    "manifest.json",
    "poses.csv",
    "index.html",
    "p1.stl",
    "p1.json",
    ".cards/p1.json",
    "overlays/p1.jpg",
]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("target", ["file", "missing", "fifo"])
def test_nothing_is_opened_through_a_planted_link(tmp_path, photos, name, target):
    out, victim = tmp_path / "out", tmp_path / "victim"
    (out / name).parent.mkdir(parents=True)
    victim.mkdir()
    (victim / "file").write_text("precious")
    os.mkfifo(victim / "fifo")
    (out / name).symlink_to(victim / target)
    drawn = {"overlay": True, "index": True} if "/" in name else {}
    try:
        go(photos, out, **drawn)
        write_page(out, FakeReconstructor().uv)
    except OutputError as error:
        assert name in str(error) and "link" in str(error)
    else:
        assert not (out / name).is_symlink()  # replaced, or removed with the run's books
    assert (victim / "file").read_text() == "precious"
    assert {p.name for p in victim.iterdir()} == {"file", "fifo"}


@pytest.mark.parametrize("name", [".cards", "overlays"])
def test_nothing_is_written_or_removed_behind_a_linked_folder(tmp_path, photos, name):
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.mkdir()
    (victim / f"{files.TEMPORARY_PREFIX}1-0").write_text("old")
    os.utime(victim / f"{files.TEMPORARY_PREFIX}1-0", (1, 1))
    (out / name).symlink_to(victim, target_is_directory=True)
    with pytest.raises(OutputError, match="links are not followed"):
        go(photos, out, overlay=True, index=True)
    assert len(list(victim.iterdir())) == 1


def test_the_output_folder_itself_may_be_a_link(tmp_path, photos):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real", target_is_directory=True)
    assert go(photos, tmp_path / "out", overlay=True, index=True)[0].ok == 4
    assert len(list((tmp_path / "real" / "overlays").iterdir())) == 4
