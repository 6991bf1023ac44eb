"""Native runtimes, and how threads may meet them: OpenVINO, ONNX Runtime, PyAV, OpenCV's networks.

The rule: **a runtime is loaded, and used once, in one thread before any other thread may call
it.** Libraries set up what they keep at their first use. OpenVINO's binding gives up the
interpreter's lock while it does so inside the initialisation of a C++ static; a second thread that
comes along then holds the interpreter's lock and waits for the static, the first one waits for the
lock, and the process stands still for ever, deaf to signals.

So whatever runs in such a library is made by a :class:`Native`, and the libraries themselves are
imported by :func:`library`, which refuses to do it anywhere else. There is one lock for all first
uses, of whatever library.

Threads do not survive a fork either. A fork waits until nothing is being loaded; in the child,
every :class:`Native` is made anew when it is first asked for, and every :class:`Lock` is free.
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
LIBRARIES = ("openvino", "onnxruntime", "av")  # those that only :func:`library` may import

_first_use = threading.RLock()
_natives: weakref.WeakSet[Native[Any]] = weakref.WeakSet()
_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_holder: int | None = None  # the thread that is loading something


class Native(Generic[T]):
    """Something native for all threads of a process, made when the first of them asks for it.

    load: makes it; use: uses it once, in the way it will be used. Both run in the thread that asks
        first, and nothing else is loaded or first used meanwhile. What they raise is raised by
        the call, and the next one tries again.
    """

    def __init__(self, load: Callable[[], T], use: Callable[[T], object]) -> None:
        self._load, self._use = load, use
        self._made: list[T] = []
        self._lock = Lock()
        _natives.add(self)

    def __call__(self) -> T:
        """The thing itself, for calls that may run in several threads at once."""
        if not self._made:
            with _alone():
                if not self._made:
                    made = self._load()
                    self._use(made)
                    self._made.append(made)
        return self._made[0]

    @property
    def made(self) -> bool:
        """Whether it is there: a call returns at once."""
        return bool(self._made)

    @contextmanager
    def alone(self) -> Iterator[T]:
        """For what holds one input at a time: only one thread has it."""
        made = self()
        with self._lock:
            yield made


class Lock:
    """A lock that is free in a forked child, whoever held it in the parent."""

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
    # Its converter takes a third of its time to load, and comes when somebody asks for it.
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
    """``openvino.convert_model``, for others who use it in this process."""
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
    """Keep ``made`` for ever: taking it down would wait for threads which are not there."""
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
