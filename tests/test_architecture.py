"""The order of the package's modules, as CONTRIBUTING.md draws it, and how long files may be.

The complexity of functions is ruff's to check (C901, ``pyproject.toml``).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from shell import ROOT

PACKAGE = ROOT / "sadr_cli"
# Heavy packages, each imported in one place.
HOMES = {
    "open3d": "open3d_import.py",
    "face_alignment": "detection/face_alignment.py",
    "filelock": "lock.py",
    "jinja2": "pages/__init__.py",
}

LONGEST = 400  # lines of a file


def imports(path: Path) -> set[str]:
    """Absolute names of all that a file imports, also late and also only for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.update(a.value for a in node.args if isinstance(a, ast.Constant))
    return found


@cache
def sources() -> dict[str, set[str]]:
    """File, relative to the package -> its imports."""
    return {p.relative_to(PACKAGE).as_posix(): imports(p) for p in PACKAGE.rglob("*.py")}


def module(name: str) -> str:
    """The folder or module directly in the package that holds a file or an import."""
    return name.split("/")[0].split(".")[0]


def modules() -> dict[str, set[str]]:
    """Module -> modules it imports. The public interface, ``__init__.py``, stands for none."""
    out: dict[str, set[str]] = defaultdict(set)
    for file, names in sources().items():
        inside = {module(n.removeprefix("sadr_cli.")) for n in names if n.startswith("sadr_cli.")}
        out[module(file)] |= {r for r in inside if r != module(file) and not r.startswith("_")}
    return out


def circle(uses: dict[str, set[str]]) -> list[str]:
    """Names that import each other, one after another; none when there is an order."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_packages_have_no_import_cycles():
    assert circle(modules()) == []


def test_modules_have_no_import_cycles():
    files = {
        "sadr_cli." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): names
        for file, names in sources().items()
    }
    uses = {
        name: {n if n in files else n.rpartition(".")[0] for n in names} - {name, "sadr_cli"}
        for name, names in files.items()
    }
    assert circle(uses) == []


def test_the_package_never_imports_its_own_public_interface():
    names = {
        "sadr_cli." + Path(file).with_suffix("").as_posix().replace("/", ".") for file in sources()
    }
    names |= {name.removesuffix(".__init__") for name in names}
    for file, used in sources().items():
        for name in used:
            if name.startswith("sadr_cli") and name.count(".") < 2 and file != "__init__.py":
                assert name in names, f"{file} imports {name} from the public interface"


def test_heavy_packages_are_imported_in_one_place():
    for package, home in HOMES.items():
        users = {
            file
            for file, names in sources().items()
            if any(n.split(".")[0] == package for n in names)
        }
        assert users <= {home}, f"{package} is imported by {sorted(users - {home})}"


def layers() -> dict[str, int]:
    """Every name of the diagram in CONTRIBUTING.md -> its layer, 0 at the bottom."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    diagram = re.search(r"```text\n(.*?)```", text, re.S)
    assert diagram is not None, "CONTRIBUTING.md has no diagram"
    rows = [line.split("|")[1].split() for line in diagram[1].splitlines()]
    return {name: layer for layer, row in enumerate(reversed(rows)) for name in row}


def test_the_diagram_shows_every_module():
    there = {module(file) for file in sources()} - {"__main__", "__init__"}
    assert layers().keys() == there | {"sadr_cli"}


def test_imports_only_go_down():
    layer = {**layers(), "__main__": 99}
    layer["__init__"] = layer.pop("sadr_cli")
    upward = [
        f"{name} imports {other}, which is no lower"
        for name, used in modules().items()
        for other in sorted(used)
        if layer[other] >= layer[name]
    ]
    assert upward == []


def test_no_file_is_too_long():
    folders = ("sadr_cli", "tests", "benchmarks", "examples", "docs", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_bytes().splitlines()) for p in files}
    assert {n: k for n, k in lengths.items() if k > LONGEST} == {}, "split them by what they do"


def test_no_file_is_excused_from_the_limit_of_complexity():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    texts = [settings, *(p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py"))]
    assert not any("C901" in text for text in texts)
