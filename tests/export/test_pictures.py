"""``sadr export --frontal --turntable --contact-sheet`` on real and made runs."""

from __future__ import annotations

import json
import shutil
from functools import partial

import av
import numpy as np
import pytest
import trimesh
from fakes import photo_with
from PIL import Image
from run_folders import go
from shell import ROOT
from synthetic import layout
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.export.contact_sheet import CELL, COLUMNS, ROWS, Cell, ContactSheet
from sadr_cli.marks import mark_of

UV = layout(0.25)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photos a and b with three faces, as OBJ."""
    folder = tmp_path_factory.mktemp("drawn")
    photo_with(folder / "photos" / "a.png")
    photo_with(folder / "photos" / "b.png", [(20, 30, 40), (110, 60, 60)])
    go(folder / "photos", folder / "run", formats=("obj",), two_pass=False)
    return folder


@pytest.fixture
def sadr(sadr):
    return partial(sadr, "export")


def test_a_real_face_from_the_front(tmp_path):
    """The turned photo's face stands upright, its texture where the photo shows it."""
    photo = ROOT / "examples" / "photos" / "hopper_turned.jpg"
    run = CliRunner().invoke(
        app, ["reconstruct", str(photo), "--no-index", "--out", str(tmp_path / "run")]
    )
    assert run.exit_code == 0
    options = ["--out", str(tmp_path / "o"), "--frontal", "--picture-size", "240"]
    result = CliRunner().invoke(app, ["export", str(tmp_path / "run"), *options])
    assert result.exit_code == 0, result.stderr
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["hopper_turned.frontal.png"]
    picture = np.asarray(Image.open(tmp_path / "o" / "hopper_turned.frontal.png")).astype(int)
    assert picture.shape == (240, 240, 4)
    alpha = picture[..., 3] > 128
    assert not alpha[0, 0] and alpha[120, 120]
    assert np.abs(alpha[:, ::-1].astype(int) - alpha).mean() < 0.03  # upright: both sides alike
    skin = picture[150:170, 100:140, :3].reshape(-1, 3).mean(0)
    assert skin[0] > skin[1] > skin[2]


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
def test_turntables(sadr, made, tmp_path, kind):
    size = ("--picture-size", 64)
    result = sadr(made / "run" / "a.obj", "--out", tmp_path, "--turntable", kind, *size)
    assert result.exit_code == 0, result.stderr
    (path,) = tmp_path.iterdir()
    assert path.name == f"a.turntable.{kind}"
    assert mark_of(path) == "picture"  # never taken for a photo
    if kind == "mp4":
        with av.open(str(path)) as film:
            frames = [f.to_ndarray(format="rgb24").astype(int) for f in film.decode(video=0)]
            assert film.streams.video[0].average_rate == 20
    else:
        film = Image.open(path)
        frames = []
        for k in range(film.n_frames):
            film.seek(k)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
        assert film.info["duration"] == 50 and film.info["loop"] == 0
    assert len(frames) == 80 and frames[0].shape == (64, 64, 3)
    apart = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert apart[20] > 3 and apart[60] > 3  # to both sides
    assert apart[40] < 0.2 * apart[20] and apart[79] < apart[20]  # and back


def test_pictures_beside_formats_and_of_several_people(sadr, made, tmp_path):
    (tmp_path / "anna.txt").write_text("a.png\nb.png\n")
    out = tmp_path / "o"
    options = ["--format", "ply", "--frontal", "--contact-sheet", "png", "--picture-size", 64]
    result = sadr(made / "run", "--out", out, *options, "--json")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert "b_face1.frontal.png" in lines[2]["outputs"] and "b_face1.ply" in lines[2]["outputs"]
    assert lines[-1]["summary"]["sheets"] == ["contact_sheet.png"]
    for name in ("a.frontal.png", "contact_sheet.png"):
        assert mark_of(out / name) == "picture"
    merged = sadr(
        made / "run", "--out", tmp_path / "m", *options[2:], "--merge", tmp_path / "anna.txt"
    )
    assert merged.exit_code == 0, merged.stderr
    found = {p.name for p in (tmp_path / "m").iterdir()}
    assert found == {"anna.frontal.png", "contact_sheet.png"}


def test_a_contact_sheet_shows_every_face(sadr, made, tmp_path):
    for kind in ("png", "pdf"):
        result = sadr(made / "run", "--out", tmp_path, "--contact-sheet", kind)
        assert result.exit_code == 0, result.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"contact_sheet.png", "contact_sheet.pdf"}
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    step = sheet.shape[1] // 3
    for k in range(3):
        cell = sheet[:CELL, k * step : (k + 1) * step]
        assert (cell < 200).mean() > 0.5  # a picture
        lines = sheet[CELL + 16 :, k * step : (k + 1) * step]
        assert 0.005 < (lines < 128).mean() < 0.2  # its name
    assert (tmp_path / "contact_sheet.pdf").read_bytes()[:5] == b"%PDF-"


def test_sheets_have_as_many_pages_as_they_need(tmp_path):
    picture = np.full((CELL, CELL, 3), 90, np.uint8)
    for kind in ("png", "pdf"):
        sheets = ContactSheet(tmp_path, kind)
        for k in range(COLUMNS * ROWS + 1):
            sheets.add(Cell(picture, f"a name that is far too long for its cell {k}", "x"))
        names = sheets.write()
        assert (
            names
            == {
                "png": ["contact_sheet.png", "contact_sheet_2.png"],
                "pdf": ["contact_sheet.pdf"],
            }[kind]
        )
    first = Image.open(tmp_path / "contact_sheet.png")
    assert first.width < first.height
    assert (tmp_path / "contact_sheet.pdf").read_bytes().count(b"/Type /Page\n") == 2
    assert ContactSheet(tmp_path, "png").write() == []


def test_a_photo_that_is_gone_leaves_the_meshes_colours(sadr, made, tmp_path):
    shutil.copytree(made, tmp_path / "moved")
    (tmp_path / "moved" / "photos" / "a.png").unlink()
    run, out = tmp_path / "moved" / "run", tmp_path / "o"
    for path in run.glob("*.json"):
        path.write_text(path.read_text().replace(str(made), str(tmp_path / "moved")))
    result = sadr(run, "--out", out, "--frontal", "--contact-sheet", "png", "--picture-size", 64)
    assert result.exit_code == 0
    assert "the colours of its mesh are kept" in result.stderr
    picture = np.asarray(Image.open(out / "a.frontal.png"))
    assert picture[32, 32, 3] == 255 and picture[32, 32, :3].min() > 200  # the white square


def test_meshes_of_others_turn_all_around(sadr, tmp_path):
    box = trimesh.creation.box((1, 1, 0.2))
    box.visual.face_colors = np.where(
        box.face_normals[:, 2:] < -0.5, (255, 0, 0, 255), (0, 0, 255, 255)
    )
    box.export(tmp_path / "box.ply")
    options = ["--turntable", "gif", "--frontal", "--picture-size", 64]
    result = sadr(tmp_path / "box.ply", "--out", tmp_path / "o", *options)
    assert result.exit_code == 0, result.stderr
    film = Image.open(tmp_path / "o" / "box.turntable.gif")
    film.seek(20)  # from its narrow side
    side = np.asarray(film.convert("RGB")).astype(int)
    film.seek(40)
    back = np.asarray(film.convert("RGB")).astype(int)
    ground = side[0, 0]
    assert (side != ground).any(-1).any(0).sum() < 0.4 * (back != ground).any(-1).any(0).sum()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "give --format"),
        (("--turntable", "avi"), "--turntable takes mp4, gif or webp"),
        (("--contact-sheet", "a.png"), "--contact-sheet takes png or pdf"),
        (("--frontal", "--picture-size", 9), "--picture-size takes"),
        (("--frontal", "--format", ""), "--format needs"),
    ],
)
def test_what_makes_no_sense_is_refused(sadr, made, tmp_path, options, reason):
    result = sadr(made / "run", "--out", tmp_path / "o", *options)
    assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "o").exists()
