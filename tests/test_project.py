"""What the project says of itself agrees: versions, Python, citation, releases."""

from __future__ import annotations

import importlib.util
import re
import sys
import zipfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from shell import ROOT

from sadr_cli import doctor
from sadr_cli.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]


def script(name: str) -> ModuleType:
    """A Python file outside of the package, as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def yaml_file(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def pythons() -> list[str]:
    """The minor versions that ``requires-python`` admits, oldest first."""
    first, last = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    return [f"3.{minor}" for minor in range(int(first), int(last))]


def test_every_admitted_python_is_tested_and_named() -> None:
    matrix = yaml_file(".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == pythons()
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert named == pythons()
    assert [f"{major}.{minor}" for major, minor in doctor._PYTHONS] == [named[0], named[-1]]
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert f"Python {pythons()[0]} to {pythons()[-1]}" in text, page


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    cited = yaml_file("CITATION.cff")
    assert cited["version"] == __version__
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    paper = cited["preferred-citation"]
    assert paper["title"] in readme
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert authors in readme


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``.ci/check_release.py`` over a project of version 1.2.0 that is ready."""
    module = script(".ci/check_release.py")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "sadr_cli").mkdir()
    (tmp_path / module.VERSION).write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    text = "# Changes\n\n## [1.2.0] - 2026-01-31\n\n- More.\n\n## [1.1.0] - 2025-01-31\n\n- Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(text)
    return module


def test_a_release_that_is_ready(release: ModuleType) -> None:
    assert release.problems("v1.2.0") == []
    assert release.section("1.2.0")[1] == "- More."


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("sadr_cli/version.py", "1.2.0", "1.3.0", "the tag should be v1.3.0"),
        ("CITATION.cff", "\nversion: 1.2.0", "\nversion: 1.1.0", "CITATION.cff has version 1.1.0"),
        ("CHANGELOG.md", "[1.2.0]", "[1.2.1]", "no section for 1.2.0"),
        ("CHANGELOG.md", " - 2026-01-31", "", "YYYY-MM-DD"),
        ("CHANGELOG.md", "2026-01-31", "2026-01-32", "YYYY-MM-DD"),
        ("CHANGELOG.md", "# Changes\n", "## [Unreleased]\n\n- New.\n", "unreleased"),
    ],
)
def test_what_a_release_lacks_is_said(
    release: ModuleType, name: str, old: str, new: str, said: str
) -> None:
    path = release.ROOT / name
    path.write_text(path.read_text().replace(old, new))
    assert said in "\n".join(release.problems("v1.2.0"))


def test_the_small_container_installs_what_the_wheel_requires(tmp_path: Path) -> None:
    """All of it, but for what ``INSTEAD`` names, and that is still required."""
    module = script("containers/requirements.py")
    extras = {e: texts for e, texts in PROJECT["optional-dependencies"].items() if e != "dev"}
    lines = [f"Requires-Dist: {text}" for text in PROJECT["dependencies"]]
    for extra, texts in extras.items():
        lines += [f"Provides-Extra: {extra}"]
        lines += [f"Requires-Dist: {text}; extra == '{extra}'" for text in texts]
    wheel = tmp_path / "sadr.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sadr-0.dist-info/METADATA", "\n".join([*lines, ""]))

    def names(texts: Iterable[str]) -> set[str]:
        wanted = map(Requirement, texts)
        return {w.name for w in wanted if w.marker is None or w.marker.evaluate()}

    installed = names(module.requirements(str(wheel)))
    required = names([*PROJECT["dependencies"], *chain.from_iterable(extras.values())])
    left_out = names(extras["export"]) | module.INSTEAD.keys()
    assert module.INSTEAD.keys() < required
    assert installed == required - left_out | {"opencv-python-headless"}


def test_the_builder_of_containers_gets_what_the_wheel_is_made_of() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    wheel = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], PROJECT["readme"], "pyproject.toml"}
    assert needed | {PROJECT["license"]["file"], "containers"} == sent
    assert all((ROOT / name).exists() for name in sent)
