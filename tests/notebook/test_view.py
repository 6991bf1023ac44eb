"""A face in a notebook: whole in itself, in a sandbox, and what a browser makes of it."""

from __future__ import annotations

import base64
import html
import json
import pickle
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from browser import browser, needs_browser
from pictures import photo
from synthetic import posed_face

from sadr_cli import Detection, Reconstructor
from sadr_cli.notebook import face_html
from sadr_cli.render import coarse

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


@pytest.fixture(scope="module")
def cell(face, tmp_path_factory):
    """A page with the view, and the browser that shows it."""
    path = tmp_path_factory.mktemp("notebook") / "cell.html"
    path.write_text(f"<!doctype html><div>{face._repr_html_()}</div>", encoding="utf-8")
    with browser() as page:
        page.open(path)
        frame = page.frame()
        page.wait("document.getElementById('hint').textContent.includes('drag to turn')", frame)
        yield page, frame, path


@needs_browser
def test_a_browser_shows_the_view_and_loads_nothing(cell):
    page, _, path = cell
    outside = [u for u in page.requests if not u.startswith(("data:", "about:"))]
    assert outside == [path.as_uri()] and page.console == []
    box = page.box("iframe")
    assert box[3] == 420
    shown = page.picture("iframe")
    skin = (shown[..., 0] > shown[..., 2] + 30) & (shown[..., 0] > 120)
    assert skin.mean() > 0.05  # the photo's colours, not clay
    reached = "(() => { try { return !!frames[0].document; } catch { return false; } })()"
    assert page.value(reached) is False


@needs_browser
def test_the_view_turns_by_mouse_and_its_buttons_work(cell):
    page, frame, _ = cell
    x, y, width, height = page.box("iframe")
    middle = (x + width / 2, y + height / 3)
    start = page.picture("iframe")
    page.drag(middle, (middle[0] + 120, middle[1]))
    turned = page.picture("iframe")
    assert np.abs(turned - start).mean() > 2

    def press(name: str) -> np.ndarray:
        page.value(f"document.getElementById({name!r}).click()", frame)
        page.value(
            "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))", frame
        )
        return page.picture("iframe")

    assert np.abs(press("photo") - start).mean() < 1  # back to where the photo has it
    bare = press("paint")
    assert np.abs(bare - start).mean() > 2
    assert page.value("document.getElementById('paint').getAttribute('aria-pressed')", frame) == (
        "false"
    )
    assert np.abs(press("paint") - start).mean() < 1  # as the other tests find it
    assert page.console == []
