"""Pictures -> an MP4 file: H.264 where PyAV is installed, else what OpenCV can write."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import OutputError
from sadr_cli.native import Native, library

_TICKS = 90_000  # a second: the usual clock of video, fine enough for every frame rate
_QUALITY = "20"  # constant rate factor of x264: hardly told from the original


class VideoWriter:
    """Frames of one size with their times, into ``path``, which a player can open once closed.

    Times are kept as they are (variable frame rates) with PyAV; OpenCV writes at ``rate``.
    Odd sizes lose their last row or column, which H.264 cannot hold.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self._rate = rate if 0 < rate < 1000 else 25.0
        self._sink: _PyAV | _OpenCV | None = None
        self._size = (0, 0)

    @property
    def codec(self) -> str | None:
        """``h264`` or ``mpeg4``; None before the first frame."""
        return None if self._sink is None else self._sink.codec

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        """Append (H, W, 3) uint8 RGB at ``time`` seconds; OutputError when that fails."""
        if self._sink is None:
            height, width = (n - n % 2 for n in image.shape[:2])
            self._size = (width, height)
            self._sink = _open_sink(self.path, self._size, self._rate, time)
        width, height = self._size
        if image.shape[0] - image.shape[0] % 2 != height or image.shape[1] // 2 * 2 != width:
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        self._guard(self._sink.write, np.ascontiguousarray(image[:height, :width]), time)

    def close(self) -> None:
        if self._sink is not None:
            self._guard(self._sink.close)

    def _guard(self, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except OSError as error:  # PyAV's errors are OSErrors with the system's number
            reason = "the disk is full" if error.errno == 28 else error.strerror or str(error)
            raise OutputError(f"cannot write {self.path}: {reason}") from error


def _open_sink(path: Path, size: tuple[int, int], rate: float, start: float) -> _PyAV | _OpenCV:
    try:
        return _PyAV(path, size, rate, start)
    except ImportError:
        return _OpenCV(path, size, rate)


class _PyAV:
    codec = "h264"

    def __init__(self, path: Path, size: tuple[int, int], rate: float, start: float) -> None:
        av = Native(lambda: library("av"), lambda av: av.codecs_available)()
        self._av = av
        if "libx264" not in av.codecs_available:
            raise ImportError("this PyAV has no H.264 encoder")
        self._container = av.open(str(path), "w", format="mp4")
        nominal = Fraction(rate).limit_denominator(1001)
        stream: Any = self._container.add_stream("libx264", rate=nominal)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": _QUALITY, "preset": "veryfast"}
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream, self._start, self._last = stream, start, -1

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = self._last = max(round((time - self._start) * _TICKS), self._last + 1)
        frame.time_base = self._stream.time_base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


class _OpenCV:
    codec = "mpeg4"

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not self._writer.isOpened():
            raise OutputError(
                f"cannot write {path}: this OpenCV has no encoder for MP4; install PyAV "
                "(pip install 'sadr[video]') or leave out --overlay"
            )

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        self._writer.write(np.ascontiguousarray(image[..., ::-1]))

    def close(self) -> None:
        self._writer.release()
