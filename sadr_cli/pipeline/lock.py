"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType

from sadr_cli.errors import OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".sadr-lock"


class FolderLock:
    """Held until :meth:`release` or the end of the process, whatever ends it.

    Raises OutputError when another run, of this machine or of another one that mounts the
    folder, holds it. File systems without locks are taken as they are.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = None
        self._path = folder / NAME
        if fcntl is None:
            return
        try:
            while True:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self._file).st_nlink:
                    break
                os.close(self._file)  # its last holder has just removed it
        except OSError as error:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise OutputError(
                    f"another run is writing to {folder}: wait for it, or choose another folder "
                    "(each --shard needs its own)"
                ) from error

    def release(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
