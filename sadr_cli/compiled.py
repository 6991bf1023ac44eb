"""OpenVINO models, compiled once a machine and kept in the cache folder.

An inference takes one thread, and as many run at once as there are processors, up to four. So what
comes out is the same bytes however many threads ask, and in whatever order. Where one input comes
after the other, as in a video, two threads can share an inference: the same bytes, in 0.54 of the
time and 1.1 of the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import OutputError
from sadr_cli.files import atomic_write, make_folder
from sadr_cli.native import Native, library
from sadr_cli.places import own_cache

FOLDER = "compiled"  # in sadr's cache
_STREAMS = 4  # each takes memory and a tenth of a second to set up
_KEPT = 30 * 86_400  # seconds after their last use for which files are kept
_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}

Arrays = list[NDArray[Any]]
# Models are never freed: OpenVINO passes the threads of a freed model on to the next, which would
# wait for them forever in a forked child, where these threads do not exist.
_kept: list[Any] = []


class Compiled:
    """A model on the CPU, in 32-bit floating point, for all threads of a process.

    name: prefix of the cached file. identity: distinguishes the model from all others; "": the
        compiled model is not cached.
    build: creates the model, given the module ``openvino``; called if it is not in the cache.
    example: inputs for a first inference.
    threads: number of threads per inference, if there are as many processors. With more than one,
        only one inference runs at a time.
    Nothing is loaded before the first call or :meth:`load`. Raises ImportError if OpenVINO is not
    installed; other exceptions of OpenVINO have no common class.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        build: Callable[[Any], Any],
        example: Sequence[NDArray[Any]],
        threads: int = 1,
    ) -> None:
        self._name, self._identity, self._build = name, identity, build
        self._threads = threads
        self._requests: Native[queue.LifoQueue[Any]] = Native(
            self._load, lambda requests: list(_infer(requests, [example]))
        )

    def load(self) -> None:
        self._requests()

    def start(self) -> None:
        """As :meth:`load`; what has been compiled before goes on loading in a thread, so that it is
        ready when the first inputs are."""
        path = None if self._requests.made else self._path(_core())
        if path is not None and path.exists():
            _in_thread(self.load)  # should it fail, the first call tries again and raises it
        else:
            self.load()

    def __call__(self, *inputs: NDArray[Any]) -> Arrays:
        """The outputs, in the model's order."""
        return next(self.many([inputs]))

    def many(self, inputs: Iterable[Sequence[NDArray[Any]]]) -> Iterator[Arrays]:
        """The outputs for each of ``inputs``, in their order; several are computed at once."""
        return _infer(self._requests(), inputs)

    def _load(self) -> queue.LifoQueue[Any]:
        core = _core()
        processors = _processors()
        streams = min(processors, _STREAMS) if self._threads == 1 else 1
        threads = max(streams, min(processors, self._threads))
        options = {**_OPTIONS, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
        model = self._cached(core, options)
        _kept.append(model)
        requests: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(2 * streams):
            requests.put(model.create_infer_request())
        return requests

    def _cached(self, core: Any, options: dict[str, Any]) -> Any:
        """The compiled model, from the cache where it is there."""
        path = self._path(core)
        if (data := _read(path)) is not None:
            with contextlib.suppress(Exception):  # of another build: compiled anew
                return core.import_model(io.BytesIO(data), "CPU", options)
        fresh = core.compile_model(self._build(library("openvino")), "CPU", options)
        if path is not None:
            with contextlib.suppress(Exception):  # a build that cannot do it compiles every time
                _write(path, bytes(_exported(fresh)))
        return fresh

    def _path(self, core: Any) -> Path | None:
        """Where the compiled model is kept; None: nowhere."""
        own = own_cache()
        if own is None or not self._identity:
            return None
        processor = str(core.get_property("CPU", _PROCESSOR))
        version = sys.modules["openvino"].__version__
        known = json.dumps([self._identity, version, processor, _OPTIONS])
        digest = hashlib.sha256(known.encode()).hexdigest()[:32]
        return own / FOLDER / f"{self._name}-{digest}.blob"


_PROCESSOR = "FULL_DEVICE_NAME"
_core: Native[Any] = Native(
    lambda: library("openvino").Core(), lambda core: core.get_property("CPU", _PROCESSOR)
)


def start() -> None:
    """Load OpenVINO itself, where it is installed, in a thread: for the start of a command."""
    _in_thread(_core)


def _in_thread(load: Callable[[], Any]) -> None:
    def quietly() -> None:
        with contextlib.suppress(Exception):
            load()

    threading.Thread(target=quietly, name="sadr-load").start()


def _infer(
    requests: queue.LifoQueue[Any], inputs: Iterable[Sequence[NDArray[Any]]]
) -> Iterator[Arrays]:
    flight: deque[tuple[Any, Sequence[NDArray[Any]]]] = deque()  # inputs live as long as their use

    def finish() -> tuple[Any, Arrays]:
        request, _ = flight[0]
        request.wait()
        outputs = [np.array(tensor.data) for tensor in request.output_tensors]
        flight.popleft()  # whatever fails: the request comes back, or others wait for it for ever
        return request, outputs

    try:
        for arrays in inputs:
            done: Arrays | None = None
            try:
                request = requests.get(block=not flight)
            except queue.Empty:  # one's own, never another one's: that may wait for this thread
                request, done = finish()
            flight.append((request, arrays))
            request.start_async(list(arrays), share_inputs=True)
            if done is not None:
                yield done
        while flight:
            request, done = finish()
            requests.put(request)
            yield done
    finally:
        for request, _ in flight:
            with contextlib.suppress(Exception):  # said, or nobody's concern any more
                request.wait()
            requests.put(request)


def _exported(model: Any) -> Any:
    data = model.export_model()
    return data.getvalue() if hasattr(data, "getvalue") else data


def _processors() -> int:
    """Those that this process may use, and OMP_NUM_THREADS if that is fewer."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(min(count, int(wanted)) if wanted.isdecimal() else count, 1)


def _read(path: Path | None) -> bytes | None:
    """The data of :func:`_write`; None if it is missing or damaged."""
    try:
        if path is None:
            return None
        with path.open("rb") as file:
            digest, body = file.read(32), file.read()
        os.utime(path)
    except OSError:
        return None
    return body if hashlib.sha256(body).digest() == digest else None


def _write(path: Path, data: bytes) -> None:
    """Cache ``data`` for the next process if possible, and remove old files."""
    with contextlib.suppress(OutputError, OSError):
        make_folder(path.parent)
        atomic_write(path, hashlib.sha256(data).digest() + data)
        for other in path.parent.glob("*.blob"):
            if time.time() - other.stat().st_mtime > _KEPT:
                other.unlink()
