"""Every promise of SECURITY.md names its tests, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_has_its_tests() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    listed = text.split("Tests of each promise")[1].split("\n\n")[1]
    items = re.split(r"^- ", listed, flags=re.MULTILINE)[1:]
    assert len(items) == len(promises) >= 10
    for promise, item in zip(promises, items, strict=True):
        names: list[str] = []
        found = 0
        for word in re.findall(r"`([^`]+)`", item):
            if not word.endswith(".py"):
                names.append(word)
                continue
            source = (ROOT / word).read_text(encoding="utf-8")
            for name in names:
                assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), f"{promise}: {name}"
            found += len(names)
            names.clear()
        assert found and not names, f"{promise}: tests without a file"
