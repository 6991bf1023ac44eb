"""The same work on many machines, through joblib's backends: Dask, or processes of this machine.

The machine that was asked keeps the books and hands out chunks of photos; a worker loads the
weights once and takes each chunk through the same loop as a run on one machine, writing to the
shared folder. A worker that dies loses nothing: Dask gives its chunks to another one, and files
are renamed into place whole.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sadr_cli.errors import MissingDataError, OutputError, UsageError
from sadr_cli.pipeline.flow import Flow
from sadr_cli.pipeline.ledger import Ledger
from sadr_cli.pipeline.photo import Photo, Work, Written
from sadr_cli.pipeline.settings import RunSettings, StopFlag
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.results import manifest
from sadr_cli.results.entry import Entry

CHUNK = 16  # photos handed out at once: few enough to share evenly, many enough for full batches
PATIENCE = 60  # seconds to wait for the first worker

Tools = tuple[FaceReconstructor, Callable[[], FaceDetector]]


@dataclass(frozen=True)
class Cluster:
    """address: ``dask://host:port`` or ``loky://N``.

    load: makes a worker's reconstructor and detectors; called once a process, sent by pickle.
    """

    address: str
    load: Callable[[], Tools]


def parse_address(text: str) -> tuple[str, str]:
    """``dask://host:port`` -> ("dask", "host:port"), ``loky://4`` -> ("loky", "4")."""
    kind, separator, place = text.partition("://")
    if separator and kind == "dask" and place.rpartition(":")[2].isdecimal() and ":" in place:
        return kind, place
    if separator and kind == "loky" and place.isdecimal() and int(place) > 0:
        return kind, place
    raise UsageError(
        f"--cluster takes dask://host:port (a scheduler of Dask) or loky://N (N processes of this "
        f"machine), not {text!r}"
    )


def run_on_cluster(
    cluster: Cluster,
    works: Iterable[Work],
    ledger: Ledger,
    settings: RunSettings,
    stop: StopFlag,
) -> None:
    """All ``works`` on the cluster, settled in their order.

    Raises UsageError when there is no such scheduler or no worker, OutputError when a worker
    cannot write to the output folder, and what listing the works raised.
    """
    import joblib

    pending: deque[list[Photo | Entry]] = deque()
    lock = threading.Lock()  # joblib takes new chunks from threads of its own
    shared = replace(settings, out=settings.out.absolute())
    failure: list[Exception] = []

    def tasks() -> Iterator[Any]:
        chunk: list[Photo | Entry] = []
        try:
            for work in works:
                if stop:
                    break
                with lock:
                    item = ledger.admit(_anywhere(work))
                video = isinstance(item, Photo) and item.work.source.kind == "video"
                if video and chunk:
                    yield hand_out(chunk)
                    chunk = []
                chunk.append(item)
                if video or len(chunk) == CHUNK:
                    yield hand_out(chunk)
                    chunk = []
        except Exception as error:  # a broken listing: finish what is in flight, then say so
            failure.append(error)
        if chunk and not stop:
            yield hand_out(chunk)

    def hand_out(chunk: list[Photo | Entry]) -> Any:
        pending.append(chunk)
        photos = [item for item in chunk if isinstance(item, Photo)]
        return joblib.delayed(do_chunk)(cluster.load, photos, shared)

    with _backend(*parse_address(cluster.address)):
        parallel = joblib.Parallel(return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
        for results in parallel(tasks()):
            done = iter(results)
            with lock:
                for item in pending.popleft():
                    ledger.settle(next(done) if isinstance(item, Photo) else item)
    if failure and not stop:
        raise failure[0]


def _anywhere(work: Work) -> Work:
    """The same input by a name that holds on every machine that mounts the folder."""
    source = work.source
    if source.path is None:
        return work
    return replace(work, source=replace(source, path=Path(source.path).absolute()))


@contextmanager
def _backend(kind: str, place: str) -> Iterator[None]:
    """joblib's backend for what is done in the block."""
    import joblib

    if kind == "loky":
        threads = max((os.cpu_count() or 1) // int(place), 1)
        with joblib.parallel_config(
            backend="loky", n_jobs=int(place), inner_max_num_threads=threads
        ):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDataError(
            "--cluster dask:// needs the package distributed (pip install 'sadr[cluster]')"
        ) from error
    try:
        client = Client(place, set_as_default=False, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {place}: start one, or look up its address"
        ) from error
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        client.close()
        raise UsageError(
            f"the Dask scheduler at {place} has no workers: start some with `dask worker {place}`"
        ) from error
    with client, joblib.parallel_config(backend="dask", client=client, n_jobs=-1):
        yield


# --- on a worker ----------------------------------------------------------------------------

_loaded: dict[bytes, Tools] = {}
_loading = threading.Lock()


def do_chunk(
    load: Callable[[], Tools], photos: list[Photo], settings: RunSettings
) -> list[Written]:
    """What a worker does: ``photos`` through the loop, their files to the shared folder."""
    if not photos:
        return []
    if not (settings.out / manifest.NAME).exists():
        raise OutputError(
            f"a worker does not see {settings.out}: the folder must be mounted under the same "
            "path on every machine (without a shared file system, use --shard)"
        )
    reconstructor, make_detector = _tools(load)
    done: list[Written] = []

    def keep(result: Written | Entry) -> None:
        assert isinstance(result, Written)
        done.append(result)

    Flow(photos, lambda p: p, keep, reconstructor, make_detector, settings, StopFlag()).run()
    return done


def _tools(load: Callable[[], Tools]) -> Tools:
    key = pickle.dumps(load)
    with _loading:
        if key not in _loaded:
            _loaded[key] = load()
        return _loaded[key]


def load_tools(
    weights: str | None,
    sha256: str,
    device: str,
    batch_size: int | None,
    detector: str,
    faces: str | int = "all",
    min_score: float = 0.0,
    min_size: float = 0.0,
) -> Tools:
    """The network and detectors of a worker; MissingDataError when its weights are others."""
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
