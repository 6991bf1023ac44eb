"""Pages: everything is escaped, and only the page's own script and style may work."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import pytest
from jinja2 import UndefinedError

from sadr_cli.pages import render_page

HOSTILE = '"><script>alert(1)</script>&<b>\u2028'


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        '{% extends "base.html" %}{% block body %}<p title="{{ text }}">{{ text }}</p>'
        '<script type="application/json" id="data">{{ data|tojson }}</script>{% endblock %}'
    )
    return path


def test_what_comes_from_outside_is_text(template):
    page = "".join(render_page(template, title=HOSTILE, style="", text=HOSTILE, data=[HOSTILE]))
    assert "<script>alert" not in page and "<b>" not in page
    assert html.unescape(re.search(r"<p[^>]*>(.*?)</p>", page)[1]) == HOSTILE
    assert html.unescape(re.search(r"<title>(.*?)</title>", page)[1]) == HOSTILE
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1]) == [HOSTILE]


def test_the_policy_allows_this_style_and_script_alone(template):
    style, script = "p > a { color: red }", "if (1 < 2 && true) { run('</b>') }"
    parts = render_page(template, title="t", style=style, script=script, text="", data=0)
    page = "".join(parts)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and "unsafe" not in policy
    for tag, text in (("style", style), ("script", script)):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)[1]
        assert inside == text  # as it is, or the hash would be of something else
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_a_page_without_a_script_allows_none(template):
    page = "".join(render_page(template, title="t", style="", text="", data=0))
    assert "script-src" not in page and "default-src &#39;none&#39;" in page


def test_a_missing_value_is_an_error_not_a_gap(template):
    with pytest.raises(UndefinedError, match="text"):
        "".join(render_page(template, title="t", style="", data=0))
