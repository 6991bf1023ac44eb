"""Files: atomic writing, locks for output folders, names that are safe on every system.

A file is written under a temporary name in its folder, which is held open, and then renamed. The
temporary file is always a new one, and no link is followed below the folder named by the user.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO

from sadr_cli.errors import OutputError
from sadr_cli.folder import Folder

TEMPORARY_PREFIX = ".sadr-tmp-"
_LEFTOVER_AGE = 600.0  # seconds; longer than any single write
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_MINE = f"{TEMPORARY_PREFIX}{_HOST}-"  # followed by process, random part and suffix

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
    errno.ELOOP: "a link is in the way, and links are not followed there: remove it",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """The error for a file that cannot be written."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"cannot write {path}: {reason}; finished files are kept")


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents; OutputError if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def check_writable(folder: Path, below: Sequence[str] = ()) -> None:
    """Create ``folder`` if needed, check that it is writable, and remove leftovers.

    below: see :func:`remove_leftovers`.
    """
    make_folder(folder)
    Draft(folder / "x").discard()
    remove_leftovers(folder, below)


# Writing ---------------------------------------------------------------------------------------


class Draft:
    """A new file under a temporary name, until :meth:`place` renames it to ``path``.

    An existing ``path`` is replaced, never opened.
    root: the folder named by the user, below which no link is followed and missing folders are
    created. None: the folder of ``path``.
    Raises OutputError; :meth:`discard` always cleans up.
    """

    def __init__(self, path: Path, *, root: Path | None = None, buffering: int = -1) -> None:
        self.path = path
        self._placed = self._over = False
        try:
            self._folder = Folder(path.parent, root, make=root is not None)
            try:
                self._name = f"{_MINE}{os.getpid()}-{secrets.token_hex(6)}{path.suffix}"
                # Exclusive: an existing file, such as a planted link, is never opened.
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                descriptor = self._folder.open(self._name, flags)
            except BaseException:
                self._folder.close()
                raise
        except OSError as error:
            raise output_error(path, error) from error
        mode = "wb" if buffering else "w+b"
        self.file: IO[bytes] = os.fdopen(descriptor, mode, buffering)

    @property
    def temporary(self) -> Path:
        """Path of the file until it is placed, for libraries that write to a path."""
        return self.path.with_name(self._name)

    def write(self, data: bytes | memoryview) -> None:
        self.writelines((data,))

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        try:
            self.file.writelines(pieces)
        except OSError as error:
            raise output_error(self.path, error) from error

    def place(self, *, durable: bool = False, keep_open: bool = False) -> None:
        """Rename into place. durable: see :func:`atomic_write`; keep_open: for further writing."""
        try:
            self.file.flush()
            if durable:
                os.fsync(self.file.fileno())
            if not keep_open or os.name == "nt":  # Windows cannot rename open files
                self.file.close()
            self._folder.replace(self._name, self.path.name)
            self._placed = True
            if keep_open and os.name == "nt":
                self.file = self.path.open("r+b", buffering=0)
                self.file.seek(0, os.SEEK_END)
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            if not keep_open or not self._placed:
                self.discard()

    def discard(self) -> None:
        """Close the file, and remove it unless it has been placed."""
        if self._over:
            return
        self._over = True
        with suppress(OSError):  # write errors have been reported
            self.file.close()
        if not self._placed:
            with suppress(OSError):
                self._folder.remove(self._name)
        self._folder.close()


def atomic_write(
    path: Path, data: bytes | memoryview, *, durable: bool = False, root: Path | None = None
) -> None:
    """Write ``data`` to ``path`` atomically.

    durable: also force it to the disk, so that it survives a power failure (takes milliseconds; for
        the few files on which a whole run depends).
    root: see :class:`Draft`.
    Raises OutputError, after which an earlier ``path`` is unchanged.
    """
    with atomic_stream(path, durable=durable, root=root) as draft:
        draft.write(data)


@contextmanager
def atomic_stream(
    path: Path, *, durable: bool = False, root: Path | None = None
) -> Iterator[Draft]:
    """A draft that is placed at the end of the block, or removed after an exception."""
    draft = Draft(path, root=root)
    try:
        yield draft
        draft.place(durable=durable)
    finally:
        draft.discard()


class AppendFile:
    """A new file that is appended to; each piece is written immediately.

    begin: its first pieces. An incompletely written piece is removed again, so that it cannot
    corrupt the next. Raises OutputError.
    """

    def __init__(self, path: Path, begin: Iterable[bytes] = ()) -> None:
        self.path = path
        self.size = 0
        self._draft = Draft(path, buffering=0)
        try:
            for piece in begin:
                self.append(piece)
            self._draft.place(keep_open=True)
        except BaseException:
            self._draft.discard()
            raise

    def append(self, data: bytes) -> None:
        file, rest = self._draft.file, memoryview(data)
        try:
            file.seek(self.size)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            with suppress(OSError):
                file.truncate(self.size)
            raise output_error(self.path, error) from error
        self.size += len(data)

    def read(self, start: int, size: int) -> bytes:
        """Read ``size`` bytes at ``start``."""
        try:
            self._draft.file.seek(start)
            return self._draft.file.read(size)
        except OSError as error:
            raise output_error(self.path, error) from error

    def clear(self) -> None:
        """Make the file empty."""
        try:
            self._draft.file.truncate(0)
        except OSError as error:
            raise output_error(self.path, error) from error
        self.size = 0

    def close(self) -> None:
        self._draft.discard()


def remove_leftovers(folder: Path, below: Sequence[str] = ()) -> int:
    """Remove temporary files of killed runs; returns their number.

    Files of this machine are removed once their process is gone; files of other machines of a
    cluster once they are old. below: names of subfolders to clean as well.
    """
    removed = 0
    for path in (folder, *(folder / name for name in below)):
        with suppress(OSError), Folder(path, folder) as place:  # missing or inaccessible
            names = [n for n in place.names() if n.startswith(TEMPORARY_PREFIX)]
            removed += sum(_remove_leftover(place, name) for name in names)
    return removed


def _remove_leftover(place: Folder, name: str) -> bool:
    try:
        old = time.time() - place.stat(name).st_mtime > _LEFTOVER_AGE
        host, _, rest = name.removeprefix(TEMPORARY_PREFIX).partition("-")
        if host == _HOST and os.name != "nt":
            old = not _alive(rest.partition("-")[0])
        if old:
            place.remove(name)
        return old
    except OSError:  # another run has removed it
        return False


def _alive(process: str) -> bool:
    try:
        with suppress(PermissionError):  # of another user
            os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


# Names -----------------------------------------------------------------------------------------

SEPARATOR = "__"  # between a subfolder and the file in a name
_PARENTS = 16  # parent folders that may distinguish a file
MAX_BYTES = 160  # of a name: leaves room for suffixes below the usual limit of 255

_PLAIN = re.compile(r"\w[\w ()-]*(\.\w+)*", re.ASCII)
_FORBIDDEN = str.maketrans(dict.fromkeys('/\\<>:"|?*', "_"))
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))]
)


def safe_name(text: str) -> str:
    """``text`` as a safe file name without suffix; Unicode and spaces are kept.

    Path separators, control characters, undecodable bytes and characters forbidden on Windows
    become ``_``. A name never starts with ``-`` or ``.``, never ends with a dot or space, is never
    empty, and has at most :data:`MAX_BYTES` (longer ones end with a hash).
    """
    name = _harmless(text)
    encoded = name.encode()
    if len(encoded) > MAX_BYTES:
        name = encoded[: MAX_BYTES - 9].decode(errors="ignore") + "_" + _digest(text)
    return name


def is_safe_name(text: str) -> bool:
    """Whether ``text`` is a single safe file name of a valid length."""
    if len(text) < 256 and _PLAIN.fullmatch(text):  # fast path for most names
        return text.split(".")[0].casefold() not in _RESERVED
    return text == _harmless(text) and len(text.encode()) <= 255


def _harmless(text: str) -> str:
    name = text.translate(_FORBIDDEN)
    if not name.isprintable():
        name = "".join(c if c.isprintable() else "_" for c in name)
    name = unicodedata.normalize("NFC", name).strip(" ")
    if name[:1] in ("-", "."):
        name = "_" + name[1:]
    name = name.rstrip(" .") or "_"
    if name.split(".")[0].casefold() in _RESERVED:
        name = "_" + name
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


class Namer:
    """Gives each source of a run a unique name.

    The first source with a stem gets the stem; later ones are distinguished by suffix, then by
    parent folders, then by a hash of the path. Names that differ only in case count as equal. The
    same inputs in the same order get the same names.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._repeats: dict[int, int] = {}  # next number to try for a repeated path

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
        # A repeated path; continues counting where the last one stopped, to avoid quadratic time.
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
    """A 64-bit hash of a name, so that a million names take only 0.1 GB."""
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
