"""What runs on a worker of a cluster: a chunk of photos through the loop of :mod:`flow`."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from sadr_cli.errors import MissingDataError, OutputError, UsageError
from sadr_cli.files import TEMPORARY_PREFIX, output_error
from sadr_cli.folder import Folder
from sadr_cli.native import Lock
from sadr_cli.pipeline.flow import Flow
from sadr_cli.pipeline.photo import Photo, Written
from sadr_cli.pipeline.settings import RunSettings, StopFlag
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.results import manifest
from sadr_cli.results.entry import Entry
from sadr_cli.version import __version__
from sadr_cli.watchdog import watch

_LOOK = 1.0  # seconds after which a worker looks again whether its chunk is still wanted

Tools = tuple[FaceReconstructor, Callable[[], FaceDetector]]

_loaded: dict[bytes, Tools] = {}
_loading = Lock()


class WorkerDiedError(Exception):
    """A worker ended before its chunk was done."""


class Lease(StopFlag):
    """A worker's hold on a chunk: a file in the output folder while it works on it.

    Who finds the file there before having begun knows that another worker began and never ended.
    Removed by the process that handed the chunk out, it sets the flag: the chunk is called off.
    The name is that of a temporary file, so that what a killed run leaves is tidied up.
    """

    def __init__(self, out: Path, token: str) -> None:
        super().__init__()
        self._out, self._name = out, f"{TEMPORARY_PREFIX}chunk-{token}"
        self._look = float("inf")

    def take(self) -> bool:
        """Make the file; False when it is there. OutputError when that is impossible."""
        try:
            with Folder(self._out) as folder:
                os.close(folder.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        except OSError as error:
            raise output_error(self._out / self._name, error) from error
        return True

    def taken(self) -> bool:
        """Whether somebody has begun and not ended."""
        return (self._out / self._name).exists()

    def drop(self) -> bool:
        """Remove the file; whether it was there."""
        with suppress(OSError):
            (self._out / self._name).unlink()
            return True
        return False

    def call_off(self) -> None:
        """Whoever works on the chunk stops; nobody begins it."""
        if not self.take():
            self.drop()

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the work itself. WorkerDiedError when somebody has begun it already."""
        if not self.take():
            raise WorkerDiedError("another worker began it")
        self._look = 0.0
        try:
            yield
        finally:
            self._look = float("inf")
            self.drop()

    def __bool__(self) -> bool:
        if (now := time.monotonic()) >= self._look and not super().__bool__():
            self._look = now + _LOOK
            try:
                os.utime(self._out / self._name)  # never so old that it looks left behind
            except FileNotFoundError:
                self.set()
            except OSError:  # a file system that fails now will fail whoever writes as well
                pass
        return super().__bool__()


def do_chunk(
    load: Callable[[], Tools], photos: list[Photo], settings: RunSettings, token: str
) -> list[Written]:
    """``photos`` through the loop, their files to the shared folder; what became of them.

    token: of the chunk's :class:`Lease`. With ``settings.stall`` a worker that stands still ends.
    """
    if not (settings.out / manifest.NAME).exists():
        raise OutputError(
            f"a worker does not see {settings.out}: the folder must be mounted under the same "
            "path on every machine (without a shared file system, use --shard)"
        )
    done: list[Written] = []

    def keep(result: Written | Entry) -> None:
        assert isinstance(result, Written)
        done.append(result)

    lease = Lease(settings.out, token)
    with watch(settings.stall, lease.__bool__, "the photos of this worker are tried once more"):
        reconstructor, make_detector = _tools(load)
        with lease.held():
            Flow(photos, lambda p: p, keep, reconstructor, make_detector, settings, lease).run()
    return done


def _tools(load: Callable[[], Tools]) -> Tools:
    key = pickle.dumps(load)
    with _loading:
        if key not in _loaded:
            _loaded[key] = load()
        return _loaded[key]


def load_tools(
    version: str,
    weights: str | None,
    sha256: str,
    device: str,
    batch_size: int | None,
    detector: str,
    faces: str | int = "all",
    min_score: float = 0.0,
    min_size: float = 0.0,
) -> Tools:
    """The network and detectors of a worker.

    Raises UsageError when its version of sadr is another one, MissingDataError when its weights
    are others.
    """
    if version != __version__:
        raise UsageError(
            f"a worker has sadr {__version__}, this machine {version}: install the same version "
            "everywhere"
        )
    from sadr_cli.detection import create_detector
    from sadr_cli.reconstructor import Reconstructor

    reconstructor = Reconstructor(weights, device=device, batch_size=batch_size)
    if reconstructor.info.sha256 != sha256:
        raise MissingDataError(
            f"a worker has other weights than this machine ({reconstructor.info.path}): install "
            "the same version everywhere, or name the file with --weights"
        )
    where = str(reconstructor.device)
    return reconstructor, partial(create_detector, detector, where, faces, min_score, min_size)
