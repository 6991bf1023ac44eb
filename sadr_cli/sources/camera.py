"""Pictures of a camera of this machine, by OpenCV, which knows those of every system."""

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
_PATIENCE = 30  # pictures in a row that a camera may fail to give


def camera_number(text: str) -> int | None:
    """``0`` or ``/dev/video0`` -> 0; None for anything else."""
    found = _NODE.fullmatch(text)
    return None if found is None else int(found[1])


class Camera:
    """Camera ``number``, asked for pictures of ``size`` (width, height), which it may not have.

    Raises InputError when it cannot be opened.
    """

    def __init__(self, number: int, size: tuple[int, int]) -> None:
        self.name, self.label = f"camera{number}", f"camera {number}"
        with suppress(AttributeError):  # what OpenCV thinks of it is said in one sentence instead
            cv2.utils.logging.setLogLevel(0)
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(
                f"{self.label} cannot be opened: is one connected, may you use it, and does no "
                "other program? The name of a video file takes its place"
            )
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        for key, value in zip(sides, size, strict=True):
            self._capture.set(key, value)

    @property
    def rate(self) -> float | None:
        """Pictures a second, as far as the camera says."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 1000 else None

    def frames(self) -> Iterator[Frame]:
        """One after the other, their times by the clock from the first one on; InputError when
        the camera has gone."""
        start, index, failed = time.perf_counter(), 0, 0
        try:
            while True:
                good, picture = self._capture.read()
                if not good:
                    failed += 1
                    if failed >= _PATIENCE:
                        raise InputError(f"{self.label} gives no pictures any more")
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
