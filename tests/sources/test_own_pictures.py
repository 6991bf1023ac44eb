"""What sadr made is never taken for a photo: twice the same command is once the same work."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from made_pictures import QUARTERS, encode
from PIL import Image
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import NothingToDoError
from sadr_cli.marks import CROP, PICTURE, mark_of, marked
from sadr_cli.sources import iter_sources, read_image
from sadr_cli.video.writer import VideoWriter


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr("sadr_cli.reconstructor.Reconstructor", lambda *a, **k: FakeReconstructor())
    monkeypatch.setattr("sadr_cli.detection.create_detector", lambda *a, **k: FakeDetector())
    monkeypatch.setattr("sadr_cli.pipeline.detect.create_detector", lambda *a, **k: FakeDetector())


def sadr(*arguments: object, code: int = 0) -> tuple[dict, str]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == code, result.stderr
    lines = result.stdout.splitlines()
    return json.loads(lines[-1]).get("summary", {}), result.stderr


def names(*inputs: object, **options: object) -> list[str]:
    return [s.name for s in iter_sources([str(i) for i in inputs], **options)]


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    photo_with(folder / "a.png")
    Image.open(photo_with(folder / "b.png")).save(folder / "b.jpg")
    (folder / "b.png").unlink()
    return folder


class TestMarks:
    @pytest.mark.parametrize("kind", [PICTURE, CROP])
    @pytest.mark.parametrize("format", ["PNG", "JPEG"])
    def test_the_picture_is_the_same(self, tmp_path, format: str, kind: str) -> None:
        data = encode(QUARTERS, format)
        path = tmp_path / "x"
        path.write_bytes(marked(data, kind))
        assert mark_of(path) == kind
        np.testing.assert_array_equal(read_image(path), read_image(data))
        opened = cv2.imread(str(path))[..., ::-1]
        assert np.abs(opened.astype(int) - QUARTERS).mean() < 8
        path.write_bytes(data)
        assert mark_of(path) is None

    def test_opencvs_files(self, tmp_path) -> None:
        for end in (".png", ".jpg"):
            path = tmp_path / f"x{end}"
            path.write_bytes(marked(cv2.imencode(end, QUARTERS)[1].tobytes()))
            assert mark_of(path) == PICTURE and read_image(path).shape == QUARTERS.shape

    def test_video(self, tmp_path) -> None:
        writer = VideoWriter(tmp_path / "x.mp4", 10)
        for k in range(3):
            writer.write(np.full((48, 64, 3), 60 * k, np.uint8), k / 10)
        writer.close()
        assert mark_of(tmp_path / "x.mp4") == PICTURE
        capture = cv2.VideoCapture(str(tmp_path / "x.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3

    @pytest.mark.parametrize("data", [b"", b"x", b"\xff\xd8", b"\0\0\0\x18ftyp", marked(b"?")[:9]])
    def test_what_is_no_picture(self, tmp_path, data: bytes) -> None:
        (tmp_path / "x").write_bytes(data)
        assert mark_of(tmp_path / "x") is None

    def test_what_cannot_be_opened(self, tmp_path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert mark_of(tmp_path / "pipe") is None
        assert mark_of(tmp_path / "gone") is None
        assert mark_of(tmp_path) is None
        assert mark_of("a\0b") is None


@pytest.mark.parametrize("out", ["", "out", "a/b"])
def test_reconstruct_into_its_own_input(photos, out: str) -> None:
    """Every product, into the input folder or one inside it."""
    products = "obj,texture,uvmap,attention,visibility,depth,normals,pncc"
    run = ["reconstruct", photos, "-r", "--out", photos / out, "--format", products]
    run += ["--texture-size", "64", "--overlay"]
    first, _ = sadr(*run)
    assert (first["inputs"], first["ok"]) == (2, 2)
    pictures = [p for p in photos.rglob("*") if p.suffix in (".png", ".jpg")]
    assert len(pictures) > 15
    for _ in range(2):
        again, said = sadr(*run)
        assert (again["inputs"], again["skipped"]) == (2, 2)
        assert f"{len(pictures) - 2} pictures made by sadr left out" in said


def test_a_drawn_video_is_no_input(tmp_path) -> None:
    pictures = [np.full((160, 200, 3), 40, np.uint8)] * 5
    writer = VideoWriter(tmp_path / "clip.mp4", 10)
    for k, picture in enumerate(pictures):
        writer.write(picture, k / 10)
    writer.close()
    photo_with(tmp_path / "a.png")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("where", ["{t}/crops", "{t}"])
def test_detect_with_crops_and_drawings_inside(photos, where: str) -> None:
    crops = where.format(t=photos)
    run = ["detect", photos, "-r", "--crops", crops, "--overlay", photos / "drawn"]
    first, _ = sadr(*run)
    again, said = sadr(*run)
    assert first == again and again["files"] == again["faces"] == 2
    assert "4 pictures made by sadr left out" in said


def test_drawings_never_replace_photos(photos) -> None:
    before = {p: p.read_bytes() for p in photos.iterdir()}
    _, said = sadr("detect", photos, "--overlay", photos, code=1)
    assert "b.jpg is there already and was not made by sadr" in said and "--overlay" in said
    assert all(path.read_bytes() == data for path, data in before.items())


def test_named_by_a_list_a_glob_or_the_shell(photos, tmp_path) -> None:
    sadr("detect", photos, "--crops", photos, "--overlay", photos / "drawn")
    files = sorted(map(str, photos.rglob("*.*")))
    assert len(files) == 6
    (tmp_path / "list.txt").write_text("\n".join(files))
    assert names(*files) == ["a", "b"]
    assert names(from_file=tmp_path / "list.txt") == ["a", "b"]
    assert names("-", stdin=io.BytesIO("\n".join(files).encode())) == ["a", "b"]
    assert names(photos / "**" / "*.*") == ["a", "b"]


def test_crops_by_themselves_are_inputs(photos, tmp_path) -> None:
    """They are made to be used: `sadr reconstruct crops --detector none`."""
    sadr("detect", photos, "--crops", tmp_path / "crops")
    assert names(tmp_path / "crops") == ["a_face0", "b_face0"]
    assert names(tmp_path / "crops" / "*.png") == ["a_face0", "b_face0"]
    assert names(tmp_path / "crops" / "b_face0.png") == ["b_face0"]
    shutil.copy(photos / "a.png", tmp_path / "crops" / "z.png")
    assert names(tmp_path / "crops") == ["z"]


def test_nothing_but_own_pictures_is_nothing_to_do(photos, tmp_path) -> None:
    sadr("detect", photos, "--overlay", tmp_path / "drawn")
    for inputs in ([tmp_path / "drawn"], [tmp_path / "drawn" / "a.jpg"]):
        with pytest.raises(NothingToDoError, match="picture.* made by sadr left out"):
            list(iter_sources([str(i) for i in inputs]))
