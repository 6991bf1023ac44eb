"""index.html in a real browser: mouse, keys and fingers, wide and narrow, light and dark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from browser import CONTRAST, browser, needs_browser
from fakes import FakeReconstructor, photo_with
from PIL import Image

from sadr_cli.faces import Detection
from sadr_cli.gallery import cards, write_page
from sadr_cli.gallery import page as gallery_page
from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.results.manifest import ManifestReader
from sadr_cli.sources import iter_sources

pytestmark = needs_browser
RED, BLUE = (200, 40, 40), (40, 60, 200)


class Doubtful(FakeReconstructor):
    """Less sure from face to face."""

    def _face(self, crop, detection):
        sure = {20: 0.95, 110: 0.8, 60: 0.5}[round(float(detection.box[0]))]
        notes = ("low confidence: who knows",) if sure < 0.6 else ()
        return replace(super()._face(crop, detection), confidence=sure, warnings=notes)


class Known:
    """Finds the faces where they were put."""

    name = "known"

    def detect(self, image):
        faces = {(200, 160): [(60, 50, 60)], (240, 160): [(20, 30, 60), (110, 60, 60)]}
        boxes = faces.get(image.shape[1::-1], [])
        return [Detection(np.array([x, y, x + s, y + s], float)) for x, y, s in boxes]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of three faces, red on their right side and blue on their left, an empty photo and a
    broken one."""
    folder = tmp_path_factory.mktemp("page")
    photos = folder / "photos"
    for name, faces, size in (
        ("a", [(60, 50, 60)], (160, 200)),
        ("b & <b>", [(20, 30, 60), (110, 60, 60)], (160, 240)),
        ("empty", [], (50, 50)),
    ):
        path = photo_with(photos / f"{name}.png", faces, size)
        picture = np.array(Image.open(path))
        for x, y, side in faces:
            picture[y : y + side, x : x + side // 2] = RED
            picture[y : y + side, x + side // 2 : x + side] = BLUE
        Image.fromarray(picture).save(path)
    (photos / "broken.jpg").write_bytes(b"nothing")
    fake = Doubtful()
    works = (Work(s) for s in iter_sources([str(photos)]))
    run(works, fake, Known, RunSettings(folder / "run", index=True, two_pass=False))
    write_page(folder / "run", fake.uv)
    return folder / "run" / "index.html"


@pytest.fixture(scope="module")
def page():
    with browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_said_nor_asked_for(page, made):
    """No error on the console, no request but for the page itself."""
    yield
    assert page.console == []
    assert [u for u in page.requests if not u.startswith("data:")] == [made.as_uri()]


def count(page, selector=".card"):
    return page.value(f"document.querySelectorAll('{selector}').length")


def open_face(page, number):
    page.click(f".card:nth-of-type({number})")
    page.wait("state !== null")


def test_filters_and_search(page, made):
    page.open(made)
    assert count(page) == 5 and count(page, ".card img") == 3
    width = page.value("document.querySelector('.card img').naturalWidth")
    assert width == cards.THUMBNAIL
    page.click("button[data-name=Failed]")
    assert count(page) == 1 and "broken" in page.value("document.querySelector('.card').innerText")
    page.click("button[data-name='Low confidence']")
    assert count(page) == 1 and "who knows" in page.value("document.body.innerText")
    page.click("button[data-name=All]")
    page.click("#search")
    for letter in "b &":
        page.press(letter, ord(letter.upper()), letter)
    assert count(page) == 2


@pytest.mark.slow
def test_a_hundred_thousand_faces(page, made, tmp_path, monkeypatch):
    (entry, *_) = (e for e in ManifestReader(made.parent) if e.faces)
    known = cards.read_cards(made.parent, entry.name)
    numbered = [replace(entry, name=f"photo {k:06}") for k in range(100_000)]
    monkeypatch.setattr(gallery_page, "ManifestReader", lambda folder: iter(numbered))
    monkeypatch.setattr(gallery_page, "read_cards", lambda folder, name: known)
    path = write_page(tmp_path, FakeReconstructor().uv)
    assert path.stat().st_size > gallery_page.MAX_PAGE
    page.open(path)
    assert count(page) == 60 and "page 1 of 1667" in page.value("document.body.innerText")
    assert count(page, ".card img") == 60
    assert "pictures of the first" in page.value("document.getElementById('limit').innerText")
    page.click("#next")
    assert page.value("document.querySelector('.card').innerText").startswith("photo 000060")
    page.click("#search")
    for letter in "099999":
        page.press(letter, ord(letter), letter)
    assert count(page) == 1 and count(page, ".card img") == 0
    assert count(page, "*") < 10_000  # what is not shown is not in the document
    page.requests[:] = [made.as_uri()]


def test_a_mesh_is_turned_by_the_mouse(page, made):
    page.open(made)
    open_face(page, 1)
    before = page.picture("#canvas")
    red = np.nonzero(before[..., 0] > 1.5 * before[..., 2])  # the photo's colours, side by side
    blue = np.nonzero(before[..., 2] > 1.5 * before[..., 0])
    assert min(len(red[0]), len(blue[0])) > 0.01 * before[..., 0].size
    assert red[1].mean() < blue[1].mean() - 20
    x, y, width, height = page.box("#canvas")
    start = x + width / 2, y + height / 2
    page.drag(start, *((start[0] + 30 * k, start[1]) for k in range(1, 6)))
    assert page.value("state.turn")[2] > 0.3  # the nose went to the right
    turned = page.picture("#canvas")
    assert np.abs(turned - before).mean() > 1
    page.wheel(start, -300)
    page.wait("state.zoom > 1.2")
    assert np.abs(page.picture("#canvas") - turned).mean() > 1


def test_everything_works_with_keys_alone(page, made):
    page.open(made)
    for _ in range(20):
        page.press("Tab", 9)
        if page.value("document.activeElement.classList.contains('card')"):
            break
    ring = page.value("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    page.press("Enter", 13, "\r")
    page.wait("state !== null")
    title = page.value("document.getElementById('title').textContent")
    page.press("ArrowUp", 38)
    page.press("+", 187, "+")
    assert page.value("state.turn")[5] != 0 and page.value("state.zoom") > 1
    page.press("ArrowRight", 39)
    page.wait(f"document.getElementById('title').textContent !== {title!r} && state !== null")
    page.press("Escape", 27)
    assert not page.value("document.getElementById('dialog').open")
    assert page.value("document.activeElement.className") == "card"


def test_close_stays_where_it_is_from_face_to_face(page, made):
    """Whether a face has warnings, files and pictures or not."""
    page.open(made)
    places = []
    for face in range(1, 4):
        open_face(page, face)
        places.append(page.box("#close"))
        if face == 1:
            page.value("$('notes').append(node('div', 'note', 'more '.repeat(300)))")
            places.append(page.box("#close"))
        page.click("#close")
    assert len(set(places)) == 1


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(page, made, dark):
    page.open(made, 390, 780, dark)
    assert page.value("document.documentElement.scrollWidth") <= 390
    first, second = page.box(".card:nth-of-type(1)"), page.box(".card:nth-of-type(2)")
    assert first[1] == second[1] and second[0] + second[2] <= 390  # two side by side
    open_face(page, 2)
    x, y, width, height = page.box("#close")
    assert 0 <= x and x + width <= 390 and 0 <= y and y + height <= 780 and height >= 24
    assert page.value("document.getElementById('dialog').scrollWidth") <= 390
    fingers = [{"x": 150, "y": 250, "id": 0}, {"x": 200, "y": 250, "id": 1}]
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=fingers)
    for k in range(1, 4):
        fingers[1]["x"] = 200 + 20 * k
        page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=fingers)
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.wait("state.zoom > 1.2")
    page.click("#close")
    assert not page.value("document.getElementById('dialog').open")


@pytest.mark.parametrize("dark", [False, True])
def test_colours(page, made, dark):
    """Bars have the colour of their confidence; all text stands out (WCAG 2.1, AA)."""
    page.open(made, dark=dark)
    for number, name in ((1, "bad"), (2, "warn"), (3, "good")):
        bar = page.picture(f".card:nth-of-type({number}) .bar i")
        wanted = page.value(f"getComputedStyle(document.body).getPropertyValue('--{name}')")
        rgb = [int(wanted.strip()[k : k + 2], 16) for k in (1, 3, 5)]
        np.testing.assert_allclose(bar[2, bar.shape[1] // 2], rgb, atol=2)
    assert not page.value(CONTRAST)
    open_face(page, 1)
    assert not page.value(CONTRAST)
