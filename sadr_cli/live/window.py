"""The window, OpenCV's own; and whether there can be one."""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import MissingDataError

TITLE = "sadr live"
_HELP = "--no-window does without (with --record, --out or --json)"
_ESCAPE = 27
_SECONDS = 30.0
_WITHOUT = 3  # exit code of a trial in which OpenCV says that it has no windows


def check_display() -> None:
    """MissingDataError where no window can be shown.

    Opening one where it cannot be ends the process, in Qt: so another one tries first.
    """
    _quiet_qt()
    if sys.platform.startswith("linux") and not _displays():
        raise MissingDataError(f"there is no display here (DISPLAY is not set): {_HELP}")
    trial = get_context("spawn").Process(target=_try, daemon=True)
    trial.start()
    trial.join(_SECONDS)
    code = trial.exitcode
    if code is None:
        trial.kill()
    if code != 0:
        display = os.environ.get("DISPLAY", "")
        where = f"on display {display}" if display else "here"
        if code == _WITHOUT:
            where = "by this OpenCV, which was built without (opencv-python-headless)"
        raise MissingDataError(f"a window cannot be opened {where}: {_HELP}")


def _try() -> None:
    """Open a window, in a process of its own; what Qt says of its end is not for the user."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)
        cv2.waitKey(1)
    except cv2.error:
        sys.exit(_WITHOUT)


def _displays() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _quiet_qt() -> None:
    """What Qt thinks of fonts and plugins is not for the user."""
    os.environ.setdefault("QT_LOGGING_RULES", "*=false")


class Window:
    """Shows pictures and gives the keys that are pressed; belongs to the main thread."""

    def __init__(self) -> None:
        _quiet_qt()
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(TITLE, flags)
        self._size: tuple[int, int] | None = None
        self.closed = False

    def show(self, image: NDArray[np.uint8]) -> None:
        """(H, W, 3) uint8 RGB; the first one gives the window its size."""
        if self._size is None:
            self._size = (image.shape[1], image.shape[0])
            cv2.resizeWindow(TITLE, *self._size)
        cv2.imshow(TITLE, image[..., ::-1])

    def key(self, seconds: float) -> str:
        """The key pressed within ``seconds``, "escape" for that one, or ""; also lets the window
        be drawn."""
        code = cv2.waitKey(max(round(seconds * 1000), 1))
        if self._size is not None and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            self.closed = True
        if code == _ESCAPE:
            return "escape"
        return chr(code & 0xFF) if code > 0 and 32 <= code & 0xFF < 127 else ""

    def close(self) -> None:
        cv2.destroyAllWindows()
        cv2.waitKey(1)
