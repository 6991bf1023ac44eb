"""Files: written whole or not at all, folders locked for one run, names safe on every system.

A file is written under a temporary name in its folder, which is held open, then renamed. The
temporary file is always a new one; below the folder that the user named no link is followed.
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
_LEFTOVER_AGE = 600.0  # seconds; no single write takes that long
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_MINE = f"{TEMPORARY_PREFIX}{_HOST}-"  # then process, chance, and the suffix, for video encoders

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
    """The one sentence for a file that cannot be written."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"cannot write {path}: {reason}; finished files are kept")


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents; OutputError when that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def check_writable(folder: Path, below: Sequence[str] = ()) -> None:
    """Create ``folder`` if needed, prove that a file can be made in it, and tidy it up.

    below: subfolders of our own, tidied up as well, see :func:`remove_leftovers`.
    """
    make_folder(folder)
    Draft(folder / "x").discard()
    remove_leftovers(folder, below)


# Writing ---------------------------------------------------------------------------------------


class Draft:
    """A new file that grows under a temporary name until :meth:`place` makes it ``path``.

    Whatever is at ``path`` is replaced, never opened.
    root: the folder that the user named; below it no link is followed, and missing folders are
    made. None: the folder of ``path``.
    Raises OutputError; :meth:`discard` leaves nothing behind, whatever has happened.
    """

    def __init__(self, path: Path, *, root: Path | None = None, buffering: int = -1) -> None:
        self.path = path
        self._placed = self._over = False
        try:
            self._folder = Folder(path.parent, root, make=root is not None)
            try:
                self._name = f"{_MINE}{os.getpid()}-{secrets.token_hex(6)}{path.suffix}"
                # Exclusive: what is there already, a planted link above all, is never opened.
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
        """Where the file is until it is placed, for libraries that write to a path."""
        return self.path.with_name(self._name)

    def write(self, data: bytes | memoryview) -> None:
        self.writelines((data,))

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        try:
            self.file.writelines(pieces)
        except OSError as error:
            raise output_error(self.path, error) from error

    def place(self, *, durable: bool = False, keep_open: bool = False) -> None:
        """Rename into place. durable: see :func:`atomic_write`; keep_open: to go on writing."""
        try:
            self.file.flush()
            if durable:
                os.fsync(self.file.fileno())
            if not keep_open or os.name == "nt":  # Windows renames no open file
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
        """Let go of the file; it is removed unless it is in its place."""
        if self._over:
            return
        self._over = True
        with suppress(OSError):  # what could not be written has been said
            self.file.close()
        if not self._placed:
            with suppress(OSError):
                self._folder.remove(self._name)
        self._folder.close()


def atomic_write(
    path: Path, data: bytes | memoryview, *, durable: bool = False, root: Path | None = None
) -> None:
    """Write ``data`` to ``path`` so that no reader ever meets a part of it.

    durable: also force it to the disk, so that it survives a power cut (some milliseconds more;
        for the few files that a whole run hangs on).
    root: see :class:`Draft`.
    Raises OutputError; the temporary file is gone then and an earlier ``path`` is untouched.
    """
    with atomic_stream(path, durable=durable, root=root) as draft:
        draft.write(data)


@contextmanager
def atomic_stream(
    path: Path, *, durable: bool = False, root: Path | None = None
) -> Iterator[Draft]:
    """A draft that becomes ``path`` when the block ends well, and is gone otherwise."""
    draft = Draft(path, root=root)
    try:
        yield draft
        draft.place(durable=durable)
    finally:
        draft.discard()


class AppendFile:
    """A file begun anew and then appended to; each piece is handed to the system whole.

    begin: its first pieces. A piece that could not be written whole is cut off again, so that
    what follows it is not read as a part of it. Raises OutputError.
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
        """What was written there."""
        try:
            self._draft.file.seek(start)
            return self._draft.file.read(size)
        except OSError as error:
            raise output_error(self.path, error) from error

    def clear(self) -> None:
        """Begin anew."""
        try:
            self._draft.file.truncate(0)
        except OSError as error:
            raise output_error(self.path, error) from error
        self.size = 0

    def close(self) -> None:
        self._draft.discard()


def remove_leftovers(folder: Path, below: Sequence[str] = ()) -> int:
    """Remove temporary files of runs that were killed; returns how many.

    Those of this machine as soon as their process is gone; others, a cluster's, when they are
    old. below: names of subfolders to be looked into as well.
    """
    removed = 0
    for path in (folder, *(folder / name for name in below)):
        with suppress(OSError), Folder(path, folder) as place:  # if there is one, and it is ours
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
    except OSError:  # another run was faster
        return False


def _alive(process: str) -> bool:
    try:
        with suppress(PermissionError):  # somebody else's
            os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


# Locks -----------------------------------------------------------------------------------------

LOCK_NAME = ".sadr-lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of file systems without


class FolderLock:
    """Held until :meth:`release` or the end of the process, whatever ends it.

    Raises OutputError when another run, of this machine or of another one that mounts the
    folder, holds it, and when the lock's file cannot be made. File systems without locks are
    taken as they are.
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
        except OSError as error:  # filelock follows no link either
            if error.errno not in _NO_LOCKS:
                raise output_error(self._path, error) from error

    def release(self) -> None:
        if self._lock.is_locked:
            if os.name != "nt":  # on Windows the file goes with the lock
                with suppress(OSError):
                    self._path.unlink()  # while it is held, so that nobody waits for it
            self._lock.release()


# Names -----------------------------------------------------------------------------------------

SEPARATOR = "__"  # between a subfolder and the file in a name
_PARENTS = 16  # folders above a file that may tell it apart
MAX_BYTES = 160  # of a name: leaves room for what writers append, under the usual 255

_PLAIN = re.compile(r"\w[\w ()-]*(\.\w+)*", re.ASCII)
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
    name = _harmless(text)
    encoded = name.encode()
    if len(encoded) > MAX_BYTES:
        name = encoded[: MAX_BYTES - 9].decode(errors="ignore") + "_" + _digest(text)
    return name


def is_safe_name(text: str) -> bool:
    """Whether ``text`` is one harmless name of a file, of a length that file systems take."""
    if len(text) < 256 and _PLAIN.fullmatch(text):  # nearly all: no need to look closer
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
