"""Run folders after kills and full disks, and in the order of the inputs."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from run_folders import ROWS, document, go, leftovers, make_photos, rows

from sadr_cli import files
from sadr_cli.errors import OutputError
from sadr_cli.gallery import write_page
from sadr_cli.lock import LOCK_NAME
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.pipeline.ledger import Ledger
from sadr_cli.results.manifest import JOURNAL, Manifest
from sadr_cli.results.poses_csv import PosesCSV
from sadr_cli.sources import Source

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, limits and signals of POSIX")


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


# Rows ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run as a kill does: nothing is closed."""


@pytest.mark.parametrize("when", [0, 2, 3])
@pytest.mark.parametrize("what", ["poses.csv", JOURNAL])
@pytest.mark.parametrize("how", ["full", "full for a moment", "killed", "torn"])
def test_no_row_is_lost(tmp_path, photos, monkeypatch, what, when, how):
    out = tmp_path / "out"
    real, count = files.AppendFile.append, [0]

    def append(self, data):
        if self.path.name == what:
            count[0] += 1
            if count[0] == when + 1 or (how == "full" and count[0] > when):
                if how == "killed":
                    raise Killed
                if how == "torn":
                    real(self, data[: len(data) // 2])
                    raise Killed
                raise files.output_error(self.path, OSError(errno.ENOSPC, "full"))
        real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(files.AppendFile, "append", append)
        if how in ("killed", "torn"):
            patch.setattr(Ledger, "close", lambda self, state: self._lock.release())
        try:
            go(photos, out)
        except (OutputError, Killed) as error:
            assert "full" in str(error) or isinstance(error, Killed)
    summary, _ = go(photos, out)
    assert summary.ok == 4
    assert [(r["name"], r["face"]) for r in rows(out)] == ROWS
    assert not leftovers(out) and not (out / JOURNAL).exists()


def test_rows_that_somebody_changed_are_made_again(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out)
    expected = (out / "poses.csv").read_bytes()
    lines = expected.splitlines(keepends=True)
    variants = [
        b"",
        b"other,columns\n1,2\n",
        b"".join(lines[:3]),
        b"".join(lines[:4] + lines[5:]),  # one of two faces
        b"".join(lines[:3] + lines[2:]),  # a row twice
        b"".join([lines[0], *reversed(lines[1:])]),
        b"".join(lines).replace(b",0.9000,", b",0.1000,", 1),
        b"".join(lines[:2]) + b'"' + b"".join(lines[2:]),
        b"".join(lines[:-1]) + lines[-1][:40],
        b"".join(lines) + b"\xff\0\xff\n",
        b"".join(lines).replace(b"\n", b"\r\n"),
    ]
    for text in variants:
        (out / "poses.csv").write_bytes(text)
        summary, _ = go(photos, out)
        assert summary.skipped == 4 and (out / "poses.csv").read_bytes() == expected, text
    (out / "poses.csv").unlink()
    (out / "p2_face1.json").write_text("{}")  # its record is gone too: done again
    assert go(photos, out)[0].skipped == 3
    assert (out / "poses.csv").read_bytes() == expected


def test_a_real_limit_stops_the_run_and_it_goes_on_without(tmp_path):
    resource = pytest.importorskip("resource")
    photos, out = tmp_path / "photos", tmp_path / "out"
    for k in range(50):
        photo_with(photos / f"{k:02}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, hard))  # the table grows beyond it
    try:
        with pytest.raises(OutputError, match="the file would be larger"):
            go(photos, out, formats=("pts",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 5 < len(rows(out)) < 50 and not leftovers(out)
    summary, _ = go(photos, out, formats=("pts",))
    assert summary.ok == 50 and summary.skipped > 5
    assert [r["name"] for r in rows(out)] == [f"{k:02}" for k in range(50)]


PLACES = ["manifest.json", JOURNAL, "poses.csv", "p2.stl", "p2.json", ".cards/p2.json",
          "overlays/p2.jpg", "index.html", "/x"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("moment", ["open", "write", "rename"])
def test_a_full_disk_anywhere(tmp_path, photos, monkeypatch, place, moment):
    out = tmp_path / "out"
    drawn = {"overlay": True, "index": True} if "/p2" in place else {}

    def guard(name):
        real = getattr(files.Draft, name)

        def guarded(self, *arguments, **named):
            path = arguments[0] if name == "__init__" else self.path
            if str(path).endswith(place):
                if name != "__init__":
                    self.discard()
                raise files.output_error(path, OSError(errno.ENOSPC, "full"))
            return real(self, *arguments, **named)

        return guarded

    name = {"open": "__init__", "write": "writelines", "rename": "place"}[moment]
    failed = False
    with monkeypatch.context() as patch:
        patch.setattr(files.Draft, name, guard(name))
        try:
            go(photos, out, **drawn)
            write_page(out, FakeReconstructor().uv)
        except OutputError as error:
            failed = True
            assert place in str(error) and "the disk is full" in str(error)
    assert (
        failed
        or (moment == "write" and place in (JOURNAL, "poses.csv", "/x"))
        or (moment == "rename" and place == "/x")
    )
    assert not leftovers(out) and not (out / LOCK_NAME).exists()
    summary, _ = go(photos, out, **drawn)
    write_page(out, FakeReconstructor().uv)
    assert summary.ok == 4 and document(out)["state"] == "finished"
    assert [(r["name"], r["face"]) for r in rows(out)] == ROWS


# Order -----------------------------------------------------------------------------------------


def order(out):
    write_page(out, FakeReconstructor().uv)
    about = re.search(r'id="about">(.*?)</script>', (out / "index.html").read_text(), re.S)
    items = [i["name"] for i in json.loads(about[1])["items"]]
    inputs = [e["name"] for e in document(out)["inputs"]]
    assert list(dict.fromkeys(items)) == inputs
    assert list(dict.fromkeys(r["name"] for r in rows(out))) == inputs
    return inputs


def test_order_is_that_of_the_inputs_after_any_resume(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out)
    assert order(out) == ["p0", "p1", "p2", "p3"]
    photo_with(photos / "p1.png", [(30, 40, 50)])  # changed
    assert go(photos, out)[0].skipped == 3
    assert order(out) == ["p0", "p1", "p2", "p3"]
    photo_with(photos / "p1b.png")  # new, in between
    (out / "p2.stl").unlink()
    assert go(photos, out)[0].skipped == 3
    assert order(out) == ["p0", "p1", "p1b", "p2", "p3"]
    (photos / "p0.png").unlink()  # not met any more: after the others
    go(photos, out)
    assert order(out) == ["p1", "p1b", "p2", "p3", "p0"]


def test_order_after_a_kill(tmp_path, photos, monkeypatch):
    out = tmp_path / "out"
    go(photos, out)
    for k in (1, 3):
        photo_with(photos / f"p{k}.png", [(30, 40, 50)])
    real = Manifest.add

    def add(self, entry):
        real(self, entry)
        if entry.name == "p3":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "add", add)
        patch.setattr(Ledger, "close", lambda self, state: self._lock.release())
        with pytest.raises(Killed):
            go(photos, out)
    assert go(photos, out)[0].skipped == 4
    assert [e["name"] for e in document(out)["inputs"]] == ["p0", "p1", "p2", "p3"]
    assert [(r["name"], r["face"]) for r in rows(out)] == ROWS


# Leftovers -------------------------------------------------------------------------------------


def test_leftovers_of_killed_runs_go_everywhere_at_once(tmp_path, photos):
    out = tmp_path / "out"
    go(photos, out, overlay=True, index=True)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    name = f"{files.TEMPORARY_PREFIX}{files._HOST}-{child.pid}-0123456789ab.jpg"
    mine = f"{files.TEMPORARY_PREFIX}{files._HOST}-{os.getpid()}-0123456789ab.jpg"
    for folder in (out, out / "overlays", out / ".cards"):
        (folder / name).write_text("half")
        (folder / mine).write_text("at work")
    go(photos, out, overlay=True, index=True)
    assert {p.name for p in leftovers(out)} == {mine} and len(leftovers(out)) == 3


# Tables ----------------------------------------------------------------------------------------


def test_text_in_tables_is_no_formula_and_no_escape(tmp_path, monkeypatch):
    names = ["=1+2.png", "+a.png", "@b.png", "-c.png", "d\x1b[31m.png", "e\nf.png", "ü 日本.png"]
    for name in names:
        photo_with(tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path / "in")
    works = (Work(Source(name, Path(name).stem, Path(name))) for name in names)
    run(works, FakeReconstructor(), FakeDetector, RunSettings(tmp_path / "out", ("stl",)))
    text = (tmp_path / "out" / "poses.csv").read_text()
    assert "\x1b" not in text and len(text.splitlines()) == 8
    for row in rows(tmp_path / "out"):
        assert not row["name"].startswith(("=", "+", "-", "@"))
    assert "'=1+2" in text and r"d\x1b[31m" in text and r"e\x0af" in text and "ü 日本" in text
    with PosesCSV(tmp_path / "out" / "poses.csv", keep=["=1+2"]) as poses:
        poses.close()
    assert [r["name"] for r in rows(tmp_path / "out")] == ["'=1+2"]
