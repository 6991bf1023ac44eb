"""One run at a time in a folder.

Only runs import this module, as filelock takes 0.05 s.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sadr_cli.errors import OutputError
from sadr_cli.files import output_error

LOCK_NAME = ".sadr-lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # the file system has no locks


class FolderLock:
    """A lock on a folder, held until :meth:`release` or the end of the process.

    Raises OutputError if another run, on this machine or another one that mounts the folder, holds
    it, or if the lock file cannot be created. File systems without locks are accepted.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._lock = FileLock(self._path, blocking=False, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"another run is writing to {folder}: wait for it, or choose another folder "
                "(each --shard needs its own)"
            ) from error
        except OSError as error:  # filelock follows no links either
            if error.errno not in _NO_LOCKS:
                raise output_error(self._path, error) from error

    def release(self) -> None:
        if self._lock.is_locked:
            if os.name != "nt":  # on Windows the file disappears with the lock
                with suppress(OSError):
                    self._path.unlink()  # while locked, so that nobody waits for it
            self._lock.release()
