"""Ends a run that makes no progress; also makes sure that signals end a run.

While a native library holds the interpreter lock, neither Python threads nor signal handlers can
run. For that case the operating system is used: an alarm that Python postpones every second, and
the default action of signals that Python does not handle (:class:`OneShot`).
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sadr_cli.errors import ExitCode

PATIENCE = 30.0  # seconds without progress after a run was asked to stop
_TICK = 1.0
_GRACE = 30.0  # seconds for Python to postpone the alarm after it went off

_last = time.monotonic()


def progress() -> None:
    """Report progress: a photo, a batch, a file, a frame of a video. Cheap."""
    global _last
    _last = time.monotonic()


@contextmanager
def watch(
    seconds: float | None, asked_to_stop: Callable[[], bool], then: str = "run again to resume"
) -> Iterator[None]:
    """End the process if :func:`progress` is not called for ``seconds``; None: never.

    It prints an error and the stacks of all threads, and exits with ``ExitCode.STALLED``. After
    ``asked_to_stop()``, it waits for :data:`PATIENCE` seconds and exits with
    ``ExitCode.INTERRUPTED``. Time during which the process was suspended does not count.
    then: the last part of the message, such as advice.
    """
    if seconds is None:
        yield
        return
    progress()
    over = threading.Event()
    alarm = _Alarm(seconds)
    guard = threading.Thread(
        target=_guard,
        args=(seconds, asked_to_stop, then, alarm, over),
        name="sadr-watchdog",
        daemon=True,
    )
    guard.start()
    try:
        yield
    finally:
        over.set()
        guard.join()
        alarm.cancel()


def _guard(
    seconds: float,
    asked_to_stop: Callable[[], bool],
    then: str,
    alarm: _Alarm,
    over: threading.Event,
) -> None:
    global _last
    before = time.monotonic()
    while not over.wait(_TICK):
        alarm.put_off()
        now = time.monotonic()
        _last += max(now - before - 2 * _TICK, 0)  # the process was suspended
        before, idle = now, now - _last
        if asked_to_stop() and idle > min(PATIENCE, seconds):
            _end(ExitCode.INTERRUPTED, f"no progress for {idle:.0f} s while stopping", then)
        if idle > seconds:
            _end(ExitCode.STALLED, f"no progress for {_duration(seconds)}: stopped", then)


def _end(code: ExitCode, sentence: str, then: str) -> None:
    """End without Python's cleanup, which would wait for the stuck threads."""
    text = f"error: {sentence}; {then}. Where its threads were:\n"
    os.write(2, (b"\n" if os.isatty(2) else b"") + text.encode())
    faulthandler.dump_traceback(2, all_threads=True)
    os._exit(int(code))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


class _Alarm:
    """A SIGALRM that Python has not postponed for ``seconds``: prints the stacks and ends the
    process (as ``ExitCode.STALLED`` in a shell), unless Python postpones it in time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._shot: OneShot | None = None
        if hasattr(signal, "setitimer") and math.isfinite(seconds):
            alone = not OneShot.works()  # then the first alarm must end the process
            faulthandler.register(signal.SIGALRM, file=2, all_threads=True, chain=alone)
            self._shot = OneShot(signal.SIGALRM)
            self.put_off()

    def put_off(self) -> None:
        if self._shot is not None:
            self._shot.arm()
            signal.setitimer(signal.ITIMER_REAL, self._seconds, _GRACE)

    def cancel(self) -> None:
        if self._shot is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._shot.arm()


# (offset of sa_flags in struct sigaction, SA_RESETHAND), from the headers of glibc, musl, macOS
_LAYOUTS = {"linux": (136, 0x80000000), "darwin": (12, 0x4)}
_MACHINES = ("x86_64", "aarch64", "arm64")


class OneShot:
    """Makes the handler of a signal run once: afterwards the signal has its default action, until
    any thread calls :meth:`arm`. So a second signal ends a process in which Python no longer runs.

    Does nothing on platforms whose ``struct sigaction`` is not known here.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._action = ctypes.create_string_buffer(256)
        if self.works():
            offset, flag = _LAYOUTS[sys.platform]
            ctypes.CDLL(None).sigaction(number, None, self._action)
            flags = ctypes.c_uint32.from_buffer(self._action, offset)
            flags.value |= flag
            self.arm()

    def arm(self) -> None:
        if self.works():
            ctypes.CDLL(None).sigaction(self._number, self._action, None)

    @staticmethod
    def works() -> bool:
        return sys.platform in _LAYOUTS and platform.machine() in _MACHINES
