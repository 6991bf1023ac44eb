"""Frames of a local camera, through OpenCV, which supports those of every system."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress

import cv2
import numpy as np

from sadr_cli.errors import InputError
from sadr_cli.faces import Frame

_NODE = re.compile(r"(?:/dev/video)?(\d{1,3})")
_PATIENCE = 30  # consecutive failed reads before the camera counts as lost


def camera_number(text: str) -> int | None:
    """``0`` or ``/dev/video0`` -> 0; None for anything else."""
    found = _NODE.fullmatch(text)
    return None if found is None else int(found[1])


class Camera:
    """Camera ``number``; ``size`` (width, height) is requested, but not every camera supports it.

    Raises InputError if it cannot be opened.
    """

    def __init__(self, number: int, size: tuple[int, int]) -> None:
        self.name, self.label = f"camera{number}", f"camera {number}"
        with suppress(AttributeError):  # our own error message replaces OpenCV's
            cv2.utils.logging.setLogLevel(0)
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(
                f"{self.label} cannot be opened: check that it is connected, that you may use it, "
                "and that no other program does; or give a video file instead"
            )
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        for key, value in zip(sides, size, strict=True):
            self._capture.set(key, value)

    @property
    def rate(self) -> float | None:
        """Frames per second, if the camera reports it."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 1000 else None

    def frames(self) -> Iterator[Frame]:
        """Frames with their time since the first one; InputError if the camera is lost."""
        start, index, failed = time.perf_counter(), 0, 0
        try:
            while True:
                good, picture = self._capture.read()
                if not good:
                    failed += 1
                    if failed >= _PATIENCE:
                        raise InputError(f"{self.label} no longer delivers frames")
                    time.sleep(0.01)
                    continue
                failed = 0
                now = time.perf_counter()
                start = now if index == 0 else start
                image = np.ascontiguousarray(picture[..., ::-1], np.uint8)
                yield Frame(image, self.label, self.name, None, index, now - start)
                index += 1
        finally:
            self._capture.release()
