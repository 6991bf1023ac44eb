"""Text of strangers in report.html, in tables and in USDZ archives."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import WIDTH, write_image, write_pts
from fakes import photo_with
from run_folders import go
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import InputError
from sadr_cli.export.read import read_mesh

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)<",
    "\"' onmouseover='alert(1)",
    "&lt;b&gt;{{7*7}}{% include 'x' %}",
    "=HYPERLINK(1)",
    "@x\x1b[31m",
]


class Page(HTMLParser):
    """What a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.policy = ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(k, v or "") for k, v in attributes]
        known = dict(attributes)
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"]


@pytest.mark.skipif(os.name == "nt", reason="names that Windows has not")
def test_report_html_shows_names_and_obeys_none(tmp_path: Path) -> None:
    data = tmp_path / "<b>data"
    data.mkdir()
    points = np.stack([np.linspace(20, WIDTH - 30, 68), np.linspace(15, 90, 68)], 1)
    points[::2, 1] += 12
    for number, name in enumerate(HOSTILE):
        write_image(data / f"{name}.jpg", number)
        write_pts(data / f"{name}.pts", points, header=True)
    predicted = tmp_path / "<script>label<.npz"
    extra = ["</script><script>alert(1)</script>", "</style><iframe src=x>"]
    landmarks = np.concatenate([np.stack([points + 1] * len(HOSTILE)), np.zeros((2, 68, 2))])
    np.savez(predicted, name=np.array([*HOSTILE, *extra]), landmarks=landmarks)
    out = tmp_path / "o"
    command = ["evaluate", "300w", "--data", str(data), "--predictions", str(predicted)]
    result = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stderr + result.stdout
    text = (out / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "form", "base"}
    assert not [a for a in page.attributes if a[0].startswith("on")]
    assert all(v.startswith("data:image/jpeg") for k, v in page.attributes if k == "src")
    assert "default-src 'none'" in page.policy and "unsafe" not in page.policy
    assert "{{7*7}}" in text and "&lt;script&gt;alert(1)&lt;" in text  # shown as they are
    with (out / "per_image.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [c for c in cells if c.startswith(("=", "+", "@")) or "\x1b" in c]
    assert any(c.startswith("'=HYPERLINK") for c in cells)
    json.loads((out / "report.json").read_text())


def test_names_in_a_usdz_are_its_own(tmp_path: Path) -> None:
    """Whatever the photo is called; and text of a foreign mesh does not get into the layer."""
    name = 'def "evil" { prepend references = @x@ }'
    photo_with(tmp_path / "in" / f"{name}.png")
    go(tmp_path / "in", tmp_path / "out", formats=("usdz",))
    (path,) = (tmp_path / "out").glob("*.usdz")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() in (["face.usda"], ["face.usda", "texture.png"])
        assert archive.testzip() is None and b"evil" not in archive.read("face.usda")
    for frame in ('metric"\n) def "evil" {', "../x", 5, ["metric"]):
        about = json.dumps({"mesh": {"frame": frame}})
        stream = io.BytesIO()
        np.savez(stream, vertices=np.eye(3), triangles=np.array([[0, 1, 2]]), about=about)
        (tmp_path / "m.npz").write_bytes(stream.getvalue())
        with pytest.raises(InputError, match=r"m\.npz: damaged"):
            read_mesh(tmp_path / "m.npz")
