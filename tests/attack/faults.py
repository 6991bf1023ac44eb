"""A disk that is full, gone or read-only, wherever something is written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fakes import FakeDetector, FakeReconstructor, photo_with
from hostile import video
from run_folders import document, go, leftovers, make_photos, rows
from test_damaged import UV
from typer.testing import CliRunner

from sadr_cli import files
from sadr_cli.cli import app
from sadr_cli.errors import OutputError
from sadr_cli.gallery import write_page
from sadr_cli.lock import LOCK_NAME

from .cases import Case, lasting_folder, one_sentence

LEAST = 16
CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)
MOMENTS = {"made": "__init__", "written": "writelines", "placed": "place"}
# Where a run writes: the end of the file's path. A journal and a table grow by AppendFile.
RUN = (
    "manifest.json",
    ".manifest-journal.jsonl",
    "/poses.csv",
    "p2.stl",
    "p2.obj",
    "p2.json",
    ".cards/p2.json",
    "overlays/p2.jpg",
    "index.html",
    "v_poses.csv",
    "v_landmarks.jsonl",
    "overlays/v.mp4",
)
GROWN = ("/poses.csv", ".manifest-journal.jsonl")
EXPORTED = ("a.ply", "b.pts", "landmark_vertices.csv")
DETECTED = ("a_face0.png", "a.jpg")


@contextmanager
def failing(place: str, moment: str, code: int) -> Iterator[list[str]]:
    """The file system fails for files that end so; the list says where it did."""
    real, met = getattr(files.Draft, MOMENTS[moment]), []

    def fail(self: files.Draft, *arguments: Any, **named: Any) -> Any:
        path = arguments[0] if moment == "made" else self.path
        if not str(path).endswith(place):
            return real(self, *arguments, **named)
        met.append(str(path))
        if moment != "made":
            self.discard()
        raise files.output_error(path, OSError(code, os.strerror(code)))

    with patch.object(files.Draft, MOMENTS[moment], fail):
        yield met


@contextmanager
def growing(place: str, after: int, code: int) -> Iterator[list[str]]:
    """A file that ends so cannot grow any more after so many pieces."""
    real, met = files.AppendFile.append, []

    def fail(self: files.AppendFile, data: bytes) -> None:
        if str(self.path).endswith(place):
            met.append(place)
            if len(met) > after:
                raise files.output_error(self.path, OSError(code, os.strerror(code)))
        real(self, data)

    with patch.object(files.AppendFile, "append", fail):
        yield met


@cache
def _photos() -> Path:
    folder = make_photos(lasting_folder() / "photos")
    (folder / "v.avi").write_bytes(video(folder / "w.avi", "MJPG", 4))
    return folder


def cases() -> Iterator[Case]:
    number = 0
    for place in RUN:
        for moment in MOMENTS:
            if moment == "written" and place in (*GROWN, "overlays/v.mp4"):
                continue  # piece by piece, and by the encoder
            code = CODES[number % len(CODES)]
            number += 1
            fault = lambda p=place, m=moment, c=code: failing(p, m, c)  # noqa: E731
            yield Case(f"{place} cannot be {moment}", lambda f=fault: _run(f))
    for place in GROWN:
        for after in range(1, 6):
            fault = lambda p=place, a=after: growing(p, a, errno.ENOSPC)  # noqa: E731
            yield Case(f"{place} cannot grow after {after}", lambda f=fault: _run(f))
    for place in EXPORTED:
        yield Case(f"export: {place}", lambda p=place: _command(p, _export))
    for place in DETECTED:
        yield Case(f"detect: {place}", lambda p=place: _command(p, _detect))


def _run(fault: Callable[[], Any]) -> None:
    """The run says what it could not write; the next one has everything."""
    photos = _photos()
    with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
        out = Path(folder) / "out"
        settings: dict[str, Any] = {"overlay": True, "index": True, "formats": ("stl", "obj")}
        with fault() as met:
            try:
                go(photos, out, **settings)
                write_page(out, FakeReconstructor().uv)
            except OutputError as error:
                one_sentence(str(error))
        assert met
        assert not leftovers(out) and not (out / LOCK_NAME).exists()
        names = ["p0", "p1", "p2", "p2", "p3", "v"]
        summary, _ = go(photos, out, **settings)
        write_page(out, FakeReconstructor().uv)
        assert summary.ok == 5 and document(out)["state"] == "finished"
        assert [r["name"] for r in rows(out)] == names
        there = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
        wanted = {name for entry in document(out)["inputs"] for name in entry["outputs"]}
        assert wanted <= there and "overlays/v.mp4" in wanted


def _command(place: str, run: Callable[[Path], Any]) -> None:
    for moment in ("made", "placed"):
        with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
            with failing(place, moment, errno.ENOSPC) as met:
                result = run(Path(folder))
            assert met and result.exit_code == 1, result.stderr
            (line,) = [x for x in result.stderr.splitlines() if x.startswith("error: ")]
            one_sentence(line)
            assert place in line and "disk is full" in line
            assert not leftovers(Path(folder))
            shutil.rmtree(Path(folder) / "out", ignore_errors=True)
            assert run(Path(folder)).exit_code == 0


def _export(folder: Path) -> Any:
    if not (folder / "run").exists():
        for name in "ab":
            photo_with(folder / "photos" / f"{name}.png")
        go(folder / "photos", folder / "run", formats=("obj",), two_pass=False)
    with (
        patch("sadr_cli.model.checkpoint.find_weights", lambda weights: "none"),
        patch("sadr_cli.model.checkpoint.load_layout", lambda path: UV),
    ):
        command = ["export", str(folder / "run"), "--format", "ply,pts,csv"]
        return CliRunner().invoke(app, [*command, "--out", str(folder / "out")])


def _detect(folder: Path) -> Any:
    photo_with(folder / "photos" / "a.png")
    command = ["detect", str(folder / "photos"), "--crops", str(folder / "out")]
    with patch("sadr_cli.pipeline.detect.create_detector", lambda *a: FakeDetector()):
        return CliRunner().invoke(app, [*command, "--overlay", str(folder / "out")])
