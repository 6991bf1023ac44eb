"""Markdown: links lead somewhere, and the commands shown have the options they are shown with."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from markdown_it import MarkdownIt
from shell import ROOT

from sadr_cli.cli import app

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob(".github/**/*.md")]
    if path.relative_to(ROOT).parts[0] not in (".venv", "venv", "build", "dist", "meshes", "runs")
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    found = set()
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            text = "".join(t.content for t in token.children or ())
            kept = re.sub(r"[^\w\- ]", "", text.lower())
            found.add(kept.replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(page.read_text(encoding="utf-8"))
    inline = [t for token in tokens for t in token.children or ()]
    found = [t.attrGet("href") or t.attrGet("src") for t in inline]
    return [str(link) for link in found if link]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):  # the web is not asked
            assert link.startswith(("https://", "mailto:")), link
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert ROOT in target.resolve().parents, f"{page.name}: {link} leads out of the project"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def commands(page: Path) -> list[list[str]]:
    """Every ``sadr ...`` of the page's shell blocks, also in a container, as words."""
    found = []
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info.strip() in ("sh", "bash", "console"):
            text = token.content.replace("\\\n", " ")
            for line in text.splitlines():
                words: list[str] = []
                for word in [*shlex.split(line, comments=True), "|"]:
                    if word in ("|", "&&", ";", ">", "||"):
                        if words[:2] == ["docker", "run"]:
                            words = words[[w.split(":")[0] for w in words].index("sadr") :]
                            words[0] = "sadr"
                        if words and Path(words[0]).name == "sadr":
                            found.append(words[1:])
                        words = []
                    else:
                        words.append(word)
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_have_the_options_shown(page: Path) -> None:
    for words in commands(page):
        command = typer.main.get_command(app)
        context = typer.Context(command)
        rest = list(words)
        while rest and hasattr(command, "get_command") and not rest[0].startswith("-"):
            inner = command.get_command(context, rest[0])
            assert inner is not None, f"no command: sadr {' '.join(words)}"
            command = inner
            rest.pop(0)
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        known |= {"--help", "-h"}
        for word in rest:
            option = word.split("=")[0]
            if option.startswith("-") and len(option) > 1:
                assert option in known, f"{option}: sadr {' '.join(words)}"


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "sadr_cli"
    modules = [f"{p.name}/" for p in package.iterdir() if (p / "__init__.py").is_file()]
    modules += [p.name for p in package.glob("*.py") if not p.name.startswith("__")]
    assert [module for module in modules if f"`{module}`" not in text] == []
