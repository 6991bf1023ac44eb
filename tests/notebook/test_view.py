"""A face in a notebook: whole in itself, in a sandbox, and what a browser makes of it."""

from __future__ import annotations

import base64
import html
import json
import pickle
import re
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest
from pictures import photo
from synthetic import posed_face

from sadr_cli import Detection, Reconstructor
from sadr_cli.notebook import face_html
from sadr_cli.render import coarse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BOX = np.array([184.0, 62.0, 268.0, 174.0])


@pytest.fixture(scope="module")
def face():
    return Reconstructor(two_pass=False).reconstruct(
        photo("astronaut"), [Detection(BOX, detector="centerface")]
    )[0]


def page(text: str) -> str:
    return html.unescape(re.fullmatch(r'<iframe .*? srcdoc="([^"]*)".*</iframe>', text, re.S)[1])


def about(text: str) -> dict:
    return json.loads(re.search(r'id="about">(.*?)</script>', page(text), re.S)[1])


def test_the_view_is_whole_in_itself_and_in_a_sandbox(face):
    text = face._repr_html_()
    assert re.match(r'<iframe sandbox="allow-scripts" srcdoc=', text)
    inner = page(text)
    assert "default-src &#39;none&#39;" in inner and "script-src &#39;sha256-" in inner
    assert not re.search(r"(src|href)=.?(https?:)?//", inner)
    assert len(text) < 300_000
    assert "yaw" in inner and "confidence" in inner


def test_it_holds_the_mesh_and_the_texture(face):
    known = about(face._repr_html_())
    uv = face.viewer._uv
    data = zlib.decompress(base64.b64decode(known["mesh"]))
    assert len(data) == 6 * len(coarse.page_grid(uv).vertices)
    assert base64.b64decode(known["texture"])[:2] == b"\xff\xd8"
    assert known["rotation"] == pytest.approx(face.rotation.ravel().tolist(), abs=1e-5)


def test_the_texture_is_the_photos(face):
    """The middle of the cheeks in the texture is the skin of the photo."""
    cv2 = pytest.importorskip("cv2")
    data = base64.b64decode(about(face._repr_html_())["texture"])
    texture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    uv = face.viewer._uv
    x, y = np.rint(face.landmarks[30, :2]).astype(int)
    row, column = uv.kpt[30]
    nose = photo("astronaut")[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
    shown = texture[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 3).mean(0)
    assert np.abs(nose - shown).max() < 30


def test_faces_without_a_view_show_their_text(uv):
    assert posed_face(uv)._repr_html_() is None


def test_faces_go_to_other_processes_without_their_view(face):
    again = pickle.loads(pickle.dumps(face))
    assert again._repr_html_() is None and again.euler == face.euler
    assert len(pickle.dumps(face)) < 2_500_000  # no copy of the layout in each


def test_without_a_picture_the_mesh_is_shown_as_clay(uv):
    bare = replace(posed_face(uv), warnings=("profile: <b>",))
    text = face_html(bare, uv)
    assert about(text)["texture"] == "-"
    assert "profile: &lt;b&gt;" in page(text)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser(face, tmp_path):
    driver = pytest.importorskip("playwright.sync_api")
    path = tmp_path / "cell.html"
    path.write_text(f"<!doctype html><div>{face._repr_html_()}</div>", encoding="utf-8")
    with driver.sync_playwright() as play:
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        view = browser.new_page()
        requests, errors = [], []
        view.on("request", lambda r: requests.append(r.url))
        view.on("pageerror", lambda e: errors.append(str(e)))
        view.on("console", lambda m: errors.append(m.text))
        view.goto(path.as_uri())
        frame = view.frame_locator("iframe")
        frame.locator("#hint", has_text="drag to turn").wait_for()
        assert not errors
        outside = [u for u in requests if not u.startswith(("data:", "about:"))]
        assert outside == [path.as_uri()]
        browser.close()
