"""Fails unless wheel and source distribution hold what they should, and nothing else.

python .ci/check_dist.py dist
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL = 40e6  # bytes


def source_files() -> set[str]:
    """Files of the package and the weights, by their names inside a wheel."""
    files = {f"sadr_cli/{p.relative_to(ROOT / 'sadr_cli').as_posix()}"
             for p in (ROOT / "sadr_cli").rglob("*")
             if p.is_file() and p.suffix != ".pyc"}  # fmt: skip
    return files | {f"sadr_cli/weights/{p.name}" for p in (ROOT / "weights").iterdir()}


def check_wheel(path: Path) -> list[str]:
    wrong = []
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        inside = {n for n in names if ".dist-info/" not in n}
        wrong += [f"missing: {n}" for n in sorted(source_files() - inside)]
        wrong += [f"does not belong there: {n}" for n in sorted(inside - source_files())]
        for line in (ROOT / "weights" / "SHA256SUMS").read_text().splitlines():
            digest, name = line.split()
            inner = f"sadr_cli/weights/{name}"
            if inner in names and hashlib.sha256(wheel.read(inner)).hexdigest() != digest:
                wrong.append(f"{inner} is not the file of SHA256SUMS")
        info = next(n for n in names if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(info).decode())
        extras = set(metadata.get_all("Provides-Extra") or ())
        wrong += [f"no extra {e}" for e in sorted({"export", "cluster", "heif"} - extras)]
        for extra in sorted(extras - {"dev"}):
            wrong += [
                f"{r} is needed without the extra {extra} as well"
                for r in metadata.get_all("Requires-Dist") or ()
                if f"extra == '{extra}'" in r.replace('"', "'") and is_base(r, metadata)
            ]
        entry = next(n for n in names if n.endswith("entry_points.txt"))
        if "sadr = sadr_cli.__main__:main" not in wheel.read(entry).decode():
            wrong.append("no command sadr")
    if path.stat().st_size > LARGEST_WHEEL:
        wrong.append(f"{path.stat().st_size / 1e6:.0f} MB is too large")
    return wrong


def is_base(requirement: str, metadata: object) -> bool:
    """Whether the package of an extra is also an unconditional dependency."""
    name = requirement.split(";")[0].split(">")[0].split("[")[0].strip()
    every = metadata.get_all("Requires-Dist") or ()  # type: ignore[attr-defined]
    return any(r.split(">")[0].strip() == name and "extra" not in r for r in every)


def check_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {"/".join(m.name.split("/")[1:]) for m in archive.getmembers() if m.isfile()}
    needed = {
        *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"),
        *("SECURITY.md", "weights/SHA256SUMS", "sadr_cli/py.typed", "tests/conftest.py"),
        *("examples/quickstart.py", "docs/architecture.md", "CITATION.cff", ".ci/run"),
    }
    wrong = [f"missing: {n}" for n in sorted(needed - names)]
    strange = (".pyc", ".egg-info", ".venv/", ".git/")
    return wrong + [f"does not belong there: {n}" for n in names if any(s in n for s in strange)]


def main(folder: Path) -> None:
    wheels, archives = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(archives) != 1:
        sys.exit(f"{folder} should hold one wheel and one source distribution")
    wrong = [f"{wheels[0].name}: {w}" for w in check_wheel(wheels[0])]
    wrong += [f"{archives[0].name}: {w}" for w in check_sdist(archives[0])]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{wheels[0].name}: {wheels[0].stat().st_size / 1e6:.1f} MB, as it should be")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
