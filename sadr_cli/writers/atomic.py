"""Whole files or none: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
