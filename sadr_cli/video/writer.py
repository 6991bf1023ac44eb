"""Pictures -> an MP4 file, H.264 by FFmpeg through PyAV."""

from __future__ import annotations

import errno
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import OutputError
from sadr_cli.marks import mark_video
from sadr_cli.sources.video import pyav

_TICKS = 60_000  # a second: every usual frame rate has whole ones; MPEG-4 Part 2 takes no more
_CODECS = (  # the first that FFmpeg was built with; browsers play no MPEG-4 Part 2
    ("h264", "libx264", {"crf": "20", "preset": "veryfast"}),  # hardly told from the original
    ("mpeg4", "mpeg4", {"qscale": "3"}),
)
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.ENOENT,
)


class VideoWriter:
    """Frames of one size with their times, into ``path``, which a player can open once closed.

    Times are kept as they are (variable frame rates). Odd sizes lose their last row or column,
    which H.264 cannot hold. What the encoder cannot do is no error of the disk: it ends the video
    and becomes its ``problem``, a phrase.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self.problem: str | None = None
        self._rate = rate if 0 < rate < 1000 else 25.0
        self._sink: _Sink | None = None
        self._size = self._drawn = (0, 0)

    @property
    def codec(self) -> str | None:
        """``h264`` or ``mpeg4``; None before the first frame, and with a problem."""
        return None if self._sink is None or self.problem is not None else self._sink.codec

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        """Append (H, W, 3) uint8 RGB at ``time`` seconds; OutputError when the disk fails."""
        self._guard(self._write, image, time)

    def close(self) -> None:
        if self._sink is not None:
            self._guard(self._sink.close)

    def _write(self, image: NDArray[np.uint8], time: float) -> None:
        if self._sink is None:
            self._drawn = image.shape[1::-1]
            height, width = (n - n % 2 for n in image.shape[:2])
            self._size = (width, height)
            if not width or not height:
                raise ValueError("less than two pixels")
            self._sink = _Sink(self.path, self._size, self._rate, time)
        width, height = self._size
        if image.shape[0] - image.shape[0] % 2 != height or image.shape[1] // 2 * 2 != width:
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        self._sink.write(np.ascontiguousarray(image[:height, :width]), time)

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        if self.problem is not None:
            return
        try:
            action(*arguments)
        except (pyav().FFmpegError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                full = error.errno == errno.ENOSPC
                reason = "the disk is full" if full else error.strerror or str(error)
                raise OutputError(f"cannot write {self.path}: {reason}") from error
            width, height = self._drawn
            self.problem = f"not drawn: pictures of {width} x {height} cannot be encoded as MP4"
            self._sink = None


class _Sink:
    """One open file and its encoder."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float, start: float) -> None:
        self._av, self._path = pyav(), path
        av = self._av
        self.codec, encoder, options = next(c for c in _CODECS if c[1] in av.codecs_available)
        self._container = av.open(str(path), "w", format="mp4")
        nominal = Fraction(rate).limit_denominator(1001)
        stream: Any = self._container.add_stream(encoder, rate=nominal)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = options
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
        mark_video(self._path)
