"""Fails unless a tag, the version, CHANGELOG and CITATION agree; prints the release's notes.

python .ci/check_release.py v1.2.3 > notes.md
"""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = "sadr_cli/version.py"


def _found(pattern: str, name: str) -> str | None:
    match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)
    return match and match[1]


def section(version: str) -> tuple[str | None, str]:
    """Date and text of a version in CHANGELOG.md; (None, "") when it has no such heading."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(rf"^## \[{re.escape(version)}\](?: - (\S+))?\n", text, re.M)
    if heading is None:
        return None, ""
    return heading[1], re.split(r"^## ", text[heading.end() :], maxsplit=1, flags=re.M)[0].strip()


def problems(tag: str) -> list[str]:
    """What has to be put right before ``tag`` is a release, a sentence each."""
    version = _found(r'^__version__ = "(.+)"$', VERSION)
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"{VERSION} has version {version}: the tag should be v{version}")
    cited = _found(r"^version: (\S+)$", "CITATION.cff")
    if cited != version:
        wrong.append(f"CITATION.cff has version {cited}, {VERSION} {version}")
    day, notes = section(str(version))
    if not notes:
        wrong.append(f"CHANGELOG.md has no section for {version}, or an empty one")
    elif not _is_date(day):
        wrong.append(f"the heading in CHANGELOG.md should be: ## [{version}] - YYYY-MM-DD")
    if section("Unreleased")[1]:
        wrong.append("CHANGELOG.md still lists changes as unreleased")
    return wrong


def _is_date(text: str | None) -> bool:
    try:
        return text is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if wrong := problems(sys.argv[1]):
        sys.exit("\n".join(wrong))
    print(section(sys.argv[1].removeprefix("v"))[1])
