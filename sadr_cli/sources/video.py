"""Frames of a video file, upright, with their times. Decoding is OpenCV's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sadr_cli.errors import InputError, UsageError
from sadr_cli.faces import Frame
from sadr_cli.sources.images import DEFAULT_MAX_PIXELS
from sadr_cli.sources.listing import Source
from sadr_cli.watchdog import progress


@dataclass(frozen=True)
class VideoInfo:
    """What the container says: size upright, in pixels; frames and rate are estimates."""

    width: int
    height: int
    frames: int | None
    rate: float | None


def probe_video(source: Source) -> VideoInfo:
    """Size, length and rate of a video; raises InputError when it cannot be opened."""
    capture = _open(source)
    try:
        return _info(capture)
    finally:
        capture.release()


def iter_frames(
    source: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    step: int = 1,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Frame]:
    """Every ``step``-th frame from ``start`` to before ``end`` (seconds), rotation applied.

    Frame.index counts all frames of the file from 0, so it does not depend on ``start`` and
    ``step``; Frame.time is the frame's own timestamp (variable frame rates included). A file cut
    short ends where decoding ends. Raises InputError when no frame can be decoded at all,
    UsageError when start, end or step make no sense.
    """
    if start < 0 or (end is not None and end <= start) or step < 1:
        raise UsageError("--start must be 0 or more, --end after --start, --frame-step at least 1")
    capture = _open(source)
    try:
        info = _info(capture)
        if info.width * info.height > max_pixels:
            raise InputError(
                f"{source.label}: too large: {info.width} x {info.height} pixels a frame, "
                f"the limit is {max_pixels / 1e6:.0f} megapixels (--max-pixels)"
            )
        # Frames are counted by decoding from the first: seeking is not exact in every codec.
        index, taken, previous = 0, 0, -math.inf
        while capture.grab():
            progress()  # of frames before --start as well
            time = _time(capture, index, previous, info.rate)
            previous = time
            if end is not None and time >= end:
                break
            if time >= start:
                if taken % step == 0:
                    good, bgr = capture.retrieve()
                    if good and bgr is not None:
                        yield Frame(
                            np.ascontiguousarray(_as_color(bgr)[..., ::-1]),
                            source=source.label,
                            name=source.name,
                            path=source.path,
                            index=index,
                            time=time,
                        )
                taken += 1
            index += 1
        if index == 0:
            raise InputError(f"{source.label}: no frame of this video can be decoded")
        if taken == 0:
            raise InputError(f"{source.label}: the video ends at {previous:.2f} s, before --start")
    finally:
        capture.release()


def _open(source: Source) -> cv2.VideoCapture:
    if source.error is not None:
        raise InputError(f"{source.label}: {source.error}")
    path = Path(source.path or source.label)
    if not path.is_file():
        raise InputError(f"{source.label}: no such video file")
    # Absolute: a relative name with a colon or a % would be read as a protocol or a pattern.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(f"{source.label}: not a video that can be read, or damaged at its start")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _info(capture: cv2.VideoCapture) -> VideoInfo:
    width, height = (
        int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    return VideoInfo(
        width,
        height,
        int(count) if 0 < count < 1e9 else None,
        float(rate) if 0 < rate < 1e4 else None,
    )


def _time(capture: cv2.VideoCapture, index: int, previous: float, rate: float | None) -> float:
    """Seconds of the frame just grabbed; containers without timestamps fall back to the rate."""
    time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if math.isfinite(time) and (time > previous if index else time >= 0):
        return time
    step = 1 / rate if rate else 1 / 25
    return previous + step if index else 0.0


def _as_color(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., :3]
