"""Safe access to folders with untrusted contents.

Below the folder named by the user, no link is followed and only regular files are read.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_BY_DESCRIPTOR = os.open in os.supports_dir_fd  # not on Windows
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # open() must not block on a named pipe
_LARGE = 64 * 1024**2  # bytes; smaller files may be sparse


class Folder:
    """A folder held open; links in it are not followed.

    root: the folder named by the user, which may be a link; the path from there to ``path`` must
    have no links. None: ``path`` is the folder named by the user.
    make: create missing folders. Raises OSError, with ELOOP for a link.
    """

    def __init__(self, path: Path, root: Path | None = None, make: bool = False) -> None:
        root = path if root is None else root
        if make:
            root.mkdir(parents=True, exist_ok=True)
        self.path = root
        self._fd: int | None = None  # None if the system has no folder descriptors
        if _BY_DESCRIPTOR:
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            for part in path.relative_to(root).parts:
                self._enter(part, make)
        except BaseException:
            self.close()
            raise

    def _enter(self, part: str, make: bool) -> None:
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._name(part), dir_fd=self._fd)
        if stat.S_ISLNK(self.stat(part).st_mode):
            raise _link()
        if self._fd is not None:
            flags = os.O_RDONLY | os.O_DIRECTORY | _NO_LINK | _FLAGS
            inner = os.open(part, flags, dir_fd=self._fd)
            os.close(self._fd)
            self._fd = inner
        self.path = self.path / part

    def open(self, name: str, flags: int) -> int:
        """Open a file; returns its descriptor."""
        if not _NO_LINK and Path(self._name(name)).is_symlink():
            raise _link()
        try:
            return os.open(self._name(name), flags | _NO_LINK | _FLAGS, 0o666, dir_fd=self._fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _link() from error
            raise

    def stat(self, name: str) -> os.stat_result:
        """Status of the entry itself, even if it is a link."""
        return os.stat(self._name(name), dir_fd=self._fd, follow_symlinks=False)

    def size(self, name: str) -> int:
        """Bytes of a regular file; 0 if there is none of that name."""
        try:
            found = self.stat(name)
        except OSError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def replace(self, name: str, new: str) -> None:
        """Rename ``name`` to ``new``, replacing it."""
        os.replace(self._name(name), self._name(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        os.unlink(self._name(name), dir_fd=self._fd)

    def names(self) -> list[str]:
        with os.scandir(self.path if self._fd is None else self._fd) as found:
            return [entry.name for entry in found]

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _name(self, name: str) -> str:
        return name if self._fd is not None else str(self.path / name)


def _link() -> OSError:
    return OSError(errno.ELOOP, "is a link, and links are not followed here")


def open_file(path: Path, root: Path | None = None) -> BinaryIO:
    """Open a regular file for reading: no pipe, device or large sparse file and, below ``root``, no
    link.

    root: the folder named by the user, unless the user named the file itself. Raises OSError.
    """
    flags = os.O_RDONLY | _AT_ONCE
    if root is None:
        descriptor = os.open(path, flags | _FLAGS)
    else:
        with Folder(path.parent, root) as folder:
            descriptor = folder.open(path.name, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, "is not a regular file")
        if _is_hollow(descriptor):
            raise OSError(errno.EINVAL, "is a sparse file with hardly any data")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _is_hollow(descriptor: int) -> bool:
    """Whether less than a quarter of a large file is stored, so that reading it wastes memory."""
    size = os.fstat(descriptor).st_size
    if size < _LARGE or not hasattr(os, "SEEK_DATA"):
        return False
    there = place = 0
    try:
        while place < size and there < size / 4:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
            place = os.lseek(descriptor, start, os.SEEK_HOLE)
            there += place - start
    except OSError:  # no more data
        pass
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return there < size / 4


def read_file(path: Path, root: Path | None = None) -> bytes:
    """Contents of a file, see :func:`open_file`."""
    with open_file(path, root) as file:
        return file.read()


def file_size(path: Path, root: Path) -> int:
    """Bytes of the regular file ``path`` in ``root``; 0 if there is none."""
    try:
        with Folder(path.parent, root) as folder:
            return folder.size(path.name)
    except OSError:
        return 0


def remove_file(path: Path, root: Path) -> None:
    """Remove ``path`` if it exists; follows no link below ``root``."""
    with suppress(OSError), Folder(path.parent, root) as folder:
        folder.remove(path.name)
