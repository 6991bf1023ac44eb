"""Thread-safe loading of native runtimes: OpenVINO, ONNX Runtime, PyAV, OpenCV's networks.

The rule: **a runtime is loaded, and used once, in one thread before any other thread may call
it.** Libraries initialise themselves on first use. OpenVINO's binding releases the interpreter lock
during the initialisation of a C++ static. A second thread that arrives then holds the interpreter
lock and waits for the static, while the first one waits for the lock: the process deadlocks and
ignores signals.

So everything that runs in such a library is created by a :class:`Native`, and the libraries are
imported by :func:`library`, which refuses to do so elsewhere. One lock serves the first use of all
libraries.

Threads do not survive a fork either. A fork waits until nothing is being loaded; in the child,
every :class:`Native` is created again on first use, and every :class:`Lock` is free.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_CONVERTER = "openvino.tools.ovc"
LIBRARIES = ("openvino", "onnxruntime", "av")  # only :func:`library` may import these

_first_use = threading.RLock()
_natives: weakref.WeakSet[Native[Any]] = weakref.WeakSet()
_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_holder: int | None = None  # the thread that is loading something


class Native(Generic[T]):
    """A native object shared by all threads of a process, created on the first call.

    load: creates it; use: uses it once, in the way it will be used. Both run in the first calling
        thread, while nothing else is loaded or first used. Their exceptions are passed on, and
        the next call tries again.
    """

    def __init__(self, load: Callable[[], T], use: Callable[[T], object]) -> None:
        self._load, self._use = load, use
        self._made: list[T] = []
        self._lock = Lock()
        _natives.add(self)

    def __call__(self) -> T:
        """The object, for calls that may run in several threads at once."""
        if not self._made:
            with _alone():
                if not self._made:
                    made = self._load()
                    self._use(made)
                    self._made.append(made)
        return self._made[0]

    @property
    def made(self) -> bool:
        """Whether it has been created, so that a call returns immediately."""
        return bool(self._made)

    @contextmanager
    def alone(self) -> Iterator[T]:
        """The object for one thread at a time, if it can hold only one input."""
        made = self()
        with self._lock:
            yield made


class Lock:
    """A lock that is free in a forked child, even if held in the parent."""

    def __init__(self) -> None:
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def library(name: str) -> Any:
    """One of :data:`LIBRARIES`, imported silently. ImportError where it is not installed.

    Raises RuntimeError outside of the ``load`` or ``use`` of a :class:`Native`.
    """
    if name.partition(".")[0] not in LIBRARIES:
        raise ValueError(f"{name} is imported like any other module")
    if _holder != threading.get_ident():
        raise RuntimeError(f"{name} is loaded by a sadr_cli.native.Native, in one thread")
    if (loaded := sys.modules.get(name)) is not None:
        return loaded
    # By default OpenVINO reports its import to Intel; without the telemetry package it uses a stub.
    # Its converter takes a third of the import time and is loaded on demand.
    hidden = ["openvino_telemetry", *([_CONVERTER] if name == "openvino" else [])]
    before = {module: sys.modules.get(module) for module in hidden}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        loaded = import_module(name)
    finally:
        for module, known in before.items():
            del sys.modules[module]
            if known is not None:
                sys.modules[module] = known
    if name == "openvino" and not hasattr(loaded, "convert_model"):
        loaded.convert_model = _convert_model  # type: ignore[attr-defined]
    return loaded


def _convert_model(*arguments: Any, **options: Any) -> Any:
    """``openvino.convert_model``, for other users in this process."""
    return import_module(_CONVERTER).convert_model(*arguments, **options)


@contextmanager
def _alone() -> Iterator[None]:
    """The only thread that loads or first uses anything native."""
    global _holder
    with _first_use:
        before, _holder = _holder, threading.get_ident()
        try:
            yield
        finally:
            _holder = before


def _leak(made: list[Any]) -> None:
    """Never free ``made``: its destructor would wait for threads that do not exist."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))


def _in_child() -> None:
    global _first_use, _holder
    _first_use, _holder = threading.RLock(), None
    for lock in list(_locks):
        lock.renew()
    for native in list(_natives):
        _leak(native._made)
        native._made = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _first_use.acquire(),  # no fork in the midst of a load: it holds locks
        after_in_parent=lambda: _first_use.release(),
        after_in_child=_in_child,
    )
