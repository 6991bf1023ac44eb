"""index.html: what is in it, and what a real browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from PIL import Image
from synthetic import posed_face

from sadr_cli.gallery import cards, page, write_page
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.render import coarse
from sadr_cli.sources import iter_sources
from sadr_cli.uv import MM_PER_UNIT


def make_run(folder, photos, **settings):
    fake = FakeReconstructor()
    works = (Work(s) for s in iter_sources([str(photos)]))
    run(works, fake, FakeDetector, RunSettings(folder, index=True, **settings))
    return write_page(folder, fake.uv)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with three faces in two photos, one photo without a face, one that is none."""
    folder = tmp_path_factory.mktemp("page")
    photo_with(folder / "photos" / "a.png")
    photo_with(folder / "photos" / "b & <b>.png", [(20, 30, 40), (110, 60, 60)])
    photo_with(folder / "photos" / "empty.png", [])
    (folder / "photos" / "broken.jpg").write_bytes(b"nothing")
    make_run(folder / "run", folder / "photos")
    return folder


def about(path):
    text = path.read_text()
    return json.loads(re.search(r'id="about">(.*?)</script>', text, re.S)[1])


def decode_mesh(text, uv):
    """(K, 3) millimetres of a card's mesh, as the page's script reads it."""
    grid = coarse.page_grid(uv)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    delta = np.ascontiguousarray(planes.reshape(2, -1).T).view("<i2").reshape(3, -1)
    steps = np.cumsum(delta, axis=1, dtype=np.int16).T
    return grid.mean + steps * np.float32(coarse.QUANTUM_MM)


def test_meshes_come_back(uv):
    face = posed_face(uv)
    rng = np.random.default_rng(0)
    shape = face.shape + rng.normal(0, 0.02, face.shape.shape)
    face = replace(face, shape=shape)
    grid = coarse.page_grid(uv)
    back = decode_mesh(coarse.encode_mesh(face, uv), uv)
    np.testing.assert_allclose(back, shape[grid.vertices] * MM_PER_UNIT, atol=0.03)
    assert 1000 < len(grid.vertices) < 65536 and grid.triangles.max() == len(grid.vertices) - 1


def test_the_page_has_every_input_and_nothing_from_elsewhere(made):
    path = made / "run" / "index.html"
    text = path.read_text()
    items = about(path)["items"]
    assert [(i["name"], i["status"]) for i in items] == [
        ("a", "ok"), (items[1]["name"], "ok"), (items[1]["name"], "ok"),
        ("broken", "failed"), ("empty", "no_face"),
    ]  # fmt: skip
    assert items[1]["source"].endswith("b & <b>.png") and "<b>" not in text
    assert items[0]["files"] == ["a.json", "a.obj"]
    assert items[2]["face"] == 1 and items[0]["confidence"] == 0.9
    assert not re.search(r"(src|href)=.?(https?:)?//|@[A-Z]+@", text)
    assert "script-src &#39;sha256-" in text and "unsafe-inline" not in text
    assert not re.search(r"<[^>]* (style|on\w+)=", text)  # the policy would drop them
    lines = re.search(r'id="p0">\n(.*?)\n</script>', text, re.S)[1].split("\n")
    assert len(lines) == 3
    thumbnail, texture, mesh = (base64.b64decode(p) for p in lines[0].split(" ")[:3])
    picture = Image.open(io.BytesIO(thumbnail))
    assert picture.size == (cards.THUMBNAIL,) * 2
    assert Image.open(io.BytesIO(texture)).size == (cards.TEXTURE,) * 2
    assert len(mesh) < 20_000


def test_a_resumed_run_keeps_the_pictures_of_what_it_skips(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made / "run", folder)
    photos = tmp_path / "photos"
    shutil.copytree(made / "photos", photos)
    text = (folder / "manifest.json").read_text().replace(str(made / "photos"), str(photos))
    (folder / "manifest.json").write_text(text)
    photo_with(photos / "z.png")
    before = (folder / "a.json").stat().st_mtime_ns
    path = make_run(folder, photos)
    assert (folder / "a.json").stat().st_mtime_ns == before
    assert [i.get("p") for i in about(path)["items"]] == [0, 1, 2, None, None, 3]


def test_pages_are_bounded(made, monkeypatch, tmp_path, uv):
    folder = tmp_path / "run"
    shutil.copytree(made / "run", folder)
    monkeypatch.setattr(page, "MAX_MESHES", 100)
    path = write_page(folder, FakeReconstructor().uv)
    lines = re.search(r'id="p0">\n(.*?)\n</script>', path.read_text(), re.S)[1].split("\n")
    assert [line.endswith(" - - -") for line in lines] == [False, True, True]
    monkeypatch.setattr(page, "MAX_PAGE", 100)
    path = write_page(folder, FakeReconstructor().uv)
    assert [i.get("p") for i in about(path)["items"]][:3] == [0, None, None]


def test_damaged_cards_leave_a_face_without_a_picture(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made / "run", folder)
    (folder / cards.FOLDER / "a.json").write_text("[{")
    items = about(write_page(folder, FakeReconstructor().uv))["items"]
    assert "p" not in items[0] and items[1]["p"] == 0


def test_strips_stay_short_and_even(uv):
    face = posed_face(uv)
    image = np.full((200, 220, 3), 90, np.uint8)
    for frames, count in ((1, 1), (100, 12), (1000, 12)):
        strip = cards.Strip()
        for k in range(frames):
            strip.see(image, face, uv, k / 25)
        parts = [part.split(":") for part in strip.text().split(",")]
        assert count // 2 <= len(parts) <= count
        times = [float(t) for t, _ in parts]
        assert len({round(d, 1) for d in np.diff(times)}) <= 2
        assert frames < 100 or times[-1] > 0.6 * frames / 25
        assert base64.b64decode(parts[0][1])[:2] == b"\xff\xd8"


def test_videos_bring_their_angles_over_time(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made / "run", folder)
    text = json.loads((folder / "manifest.json").read_text())
    text["inputs"][1].update(kind="video", outputs=["v_poses.csv"])
    (folder / "manifest.json").write_text(json.dumps(text))
    rows = ["frame,time_s,track,source,confidence,yaw_deg,pitch_deg,roll_deg"]
    rows += [f"{k},{k / 25:.4f},1,v.mp4,0.8,{k / 100},-2,3" for k in range(1500)]
    (folder / "v_poses.csv").write_text("\n".join(rows) + "\n")
    items = about(write_page(folder, FakeReconstructor().uv))["items"]
    assert ["curve" in i for i in items] == [False, False, True, False, False]
    curve = items[2]["curve"]
    assert len(curve) == 500 and curve[1] == [0.12, 0.0, -2.0, 3.0, 0.8]
    rows[0] += ",yaw_yxz_deg,pitch_yxz_deg,roll_yxz_deg"  # since 0.3
    (folder / "v_poses.csv").write_text("\n".join([rows[0], *(f"{r},7,8,9" for r in rows[1:])]))
    curve = about(write_page(folder, FakeReconstructor().uv))["items"][2]["curve"]
    assert curve[1] == [0.12, 7.0, 8.0, 9.0, 0.8]
    (folder / "v_poses.csv").write_text("what,ever\n1,2\n")
    items = about(write_page(folder, FakeReconstructor().uv))["items"]
    assert not any("curve" in i for i in items)
