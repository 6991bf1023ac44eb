"""Files: written whole or not at all, folders locked for one run, names safe on every system.

A file is written under a temporary name in its folder, then renamed.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from sadr_cli.errors import OutputError

TEMPORARY_PREFIX = ".sadr-tmp-"
_LEFTOVER_AGE = 600.0  # seconds; no single write takes that long
_counter = itertools.count()

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file would be larger than allowed here: raise the limit",
    errno.EACCES: "permission denied: choose a folder you may write to",
    errno.EPERM: "permission denied: choose a folder you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    errno.EEXIST: "a file of that name is in the way: choose another folder",
    errno.EISDIR: "a folder of that name is in the way: move it away",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter path",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """The one sentence for a file that cannot be written."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"cannot write {path}: {reason}; finished files are kept")


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents; OutputError when that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def check_writable(folder: Path) -> None:
    """Create ``folder`` if needed and prove that a file can be made in it."""
    make_folder(folder)
    probe = _temporary(folder)
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise output_error(folder, error) from error


def atomic_write(path: Path, data: bytes | memoryview, *, durable: bool = False) -> None:
    """Write ``data`` to ``path`` so that no reader ever meets a part of it.

    durable: also force it to the disk, so that it survives a power cut (some milliseconds more;
        for the few files that a whole run hangs on).
    Raises OutputError; the temporary file is gone then and an earlier ``path`` is untouched.
    """
    with atomic_stream(path, durable=durable) as file:
        file.write(data)


@contextmanager
def atomic_stream(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A file to write to that becomes ``path`` when the block ends well, and is gone otherwise."""
    temporary = _temporary(path.parent)
    try:
        try:
            with temporary.open("wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise output_error(path, error) from error


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files of killed runs (not those of a run at work); returns how many."""
    removed = 0
    for path in folder.glob(TEMPORARY_PREFIX + "*"):
        try:
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE:
                path.unlink()
                removed += 1
        except OSError:  # another run was faster, or it is not ours to remove
            continue
    return removed


def _temporary(folder: Path) -> Path:
    return folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_counter)}"


# Locks -----------------------------------------------------------------------------------------

LOCK_NAME = ".sadr-lock"


class FolderLock:
    """Held until :meth:`release` or the end of the process, whatever ends it.

    Raises OutputError when another run, of this machine or of another one that mounts the
    folder, holds it. File systems without locks are taken as they are.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout  # takes 0.1 s, which only runs need

        self._path = folder / LOCK_NAME
        self._lock = FileLock(self._path, blocking=False, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"another run is writing to {folder}: wait for it, or choose another folder "
                "(each --shard needs its own)"
            ) from error
        except PermissionError as error:
            raise output_error(self._path, error) from error
        except OSError:
            pass

    def release(self) -> None:
        if self._lock.is_locked:
            if os.name != "nt":  # on Windows the file goes with the lock
                self._path.unlink(missing_ok=True)  # while it is held, so that nobody waits for it
            self._lock.release()


# Names -----------------------------------------------------------------------------------------

SEPARATOR = "__"  # between a subfolder and the file in a name
_PARENTS = 16  # folders above a file that may tell it apart
MAX_BYTES = 160  # of a name: leaves room for what writers append, under the usual 255

_FORBIDDEN = str.maketrans(dict.fromkeys('/\\<>:"|?*', "_"))
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))]
)


def safe_name(text: str) -> str:
    """``text`` as a file name without suffix: Unicode and spaces stay, the rest is made harmless.

    Path separators, control and line-break characters, undecodable bytes and what Windows
    forbids become ``_``; a name never starts with ``-`` or ``.`` nor ends with a dot or space,
    is never empty, and is at most :data:`MAX_BYTES` long (then it ends with a hash).
    """
    name = text.translate(_FORBIDDEN)
    if not name.isprintable():
        name = "".join(c if c.isprintable() else "_" for c in name)
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
        self._taken: set[int] = set()
        self._repeats: dict[int, int] = {}  # of a path's last resort: the number to try next

    def name(self, path: str | PurePath, root: str | PurePath | None = None) -> str:
        """Name for ``path``; below ``root`` its subfolders are part of the name."""
        path = Path(path)
        folders: tuple[str, ...] = ()
        if root is not None and path.is_relative_to(root):
            folders = path.relative_to(root).parent.parts
        for candidate in _candidates(path, folders):
            name = safe_name(candidate)
            if self._claim(name):
                return name
        # The same path again; counting from where the last one stopped, or it were quadratic.
        number = self._repeats.get(_key(name), 2)
        while not self._claim(repeat := safe_name(f"{candidate}_{number}")):
            number += 1
        self._repeats[_key(name)] = number + 1
        return repeat

    def _claim(self, name: str) -> bool:
        """Whether ``name`` was still free."""
        key = _key(name)
        if key in self._taken:
            return False
        self._taken.add(key)
        return True


def _key(name: str) -> int:
    """64 bits for a name: a million of them take a tenth of a gigabyte, however long they are."""
    digest = hashlib.blake2b(name.casefold().encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _candidates(path: Path, folders: tuple[str, ...]) -> Iterator[str]:
    stem, suffix = path.stem, path.suffix.lstrip(".").lower()
    yield SEPARATOR.join([*folders, stem])
    if suffix:
        yield SEPARATOR.join([*folders, f"{stem}_{suffix}"])
    parents = [p for p in path.parent.parts[-_PARENTS:] if p not in (path.anchor, "..", ".")]
    for count in range(len(folders) + 1, len(parents) + 1):
        yield SEPARATOR.join([*parents[-count:], stem])
    yield f"{SEPARATOR.join([*folders, stem])}_{_digest(str(path))}"
