"""Names of output files: readable, safe on every file system, never the same twice in a run."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath

SEPARATOR = "__"  # between a subfolder and the file in a name
MAX_BYTES = 160  # of a name: leaves room for what writers append, under the usual 255

_FORBIDDEN = frozenset('/\\<>:"|?*')
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))]
)


def safe_name(text: str) -> str:
    """``text`` as a file name without suffix: Unicode and spaces stay, the rest is made harmless.

    Path separators, control and line-break characters, undecodable bytes and what Windows
    forbids become ``_``; a name never starts with ``-`` or ``.`` nor ends with a dot or space,
    is never empty, and is at most :data:`MAX_BYTES` long (then it ends with a hash).
    """
    name = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in text)
    name = unicodedata.normalize("NFC", name).strip(" ")
    if name[:1] in ("-", "."):
        name = "_" + name[1:]
    name = name.rstrip(" .") or "_"
    if name.split(".")[0].casefold() in _RESERVED:
        name = "_" + name
    encoded = name.encode()
    if len(encoded) > MAX_BYTES:
        name = encoded[: MAX_BYTES - 9].decode(errors="ignore") + "_" + _digest(text)
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


class Namer:
    """Gives each source of a run its own name.

    The first source of a stem gets the stem; a later one is told apart by its suffix, then its
    parent folders, then a hash of its path. Names that differ only in case count as equal. The
    same inputs in the same order get the same names.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, path: str | PurePath, root: str | PurePath | None = None) -> str:
        """Name for ``path``; below ``root`` its subfolders are part of the name."""
        path = Path(path)
        folders: tuple[str, ...] = ()
        if root is not None and path.is_relative_to(root):
            folders = path.relative_to(root).parent.parts
        return self.claim(_candidates(path, folders))

    def claim(self, candidates: Iterator[str]) -> str:
        """The first of ``candidates`` that is still free."""
        for candidate in candidates:
            name = safe_name(candidate)
            key = name.casefold()
            if key not in self._taken:
                self._taken.add(key)
                return name
        raise AssertionError("candidates are endless")


def _candidates(path: Path, folders: tuple[str, ...]) -> Iterator[str]:
    stem, suffix = path.stem, path.suffix.lstrip(".").lower()
    yield SEPARATOR.join([*folders, stem])
    if suffix:
        yield SEPARATOR.join([*folders, f"{stem}_{suffix}"])
    parents = [p for p in path.parent.parts if p not in (path.anchor, "..", ".")]
    for count in range(len(folders) + 1, len(parents) + 1):
        yield SEPARATOR.join([*parents[-count:], stem])
    stem = f"{SEPARATOR.join([*folders, stem])}_{_digest(str(path))}"
    yield stem
    for number in itertools.count(2):
        yield f"{stem}_{number}"
