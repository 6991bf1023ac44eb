"""Upright frames of a video file with their times, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import io
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError, MissingDataError, UsageError
from sadr_cli.faces import Frame
from sadr_cli.native import Native, library
from sadr_cli.sources.images import DEFAULT_MAX_PIXELS, describe_os_error
from sadr_cli.sources.listing import Source
from sadr_cli.sources.window import boxes
from sadr_cli.watchdog import progress

# Video containers. FFmpeg has others that read further files or from the network.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,avi,matroska,webm,mpeg,mpegts,mpegvideo,asf,flv,ogg,m4v,h264,hevc,ivf,mxf,dv"
)
_ALIGNED = 65536  # pixels by which codecs enlarge a frame, at most
USUAL_RATE = 25.0  # frames per second if unknown


def _load() -> Any:
    try:
        return library("av")
    except ImportError as error:
        raise MissingDataError("videos need the package av: pip install av") from error


pyav: Native[Any] = Native(_load, lambda av: av.codecs_available)


@dataclass(frozen=True)
class VideoInfo:
    """Values of the container: stored size in pixels; frames and rate are estimates."""

    width: int
    height: int
    frames: int | None
    rate: float | None


def probe_video(source: Source) -> VideoInfo:
    """Size, length and rate of a video; raises InputError if it cannot be opened."""
    with _open(source, DEFAULT_MAX_PIXELS) as (container, stream):
        return _info(container, stream)


def iter_frames(
    source: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    step: int = 1,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Frame]:
    """Every ``step``-th frame from ``start`` to before ``end`` (seconds), rotation applied.

    Frame.index counts all frames of the file from 0, independently of ``start`` and ``step``;
    Frame.time is the frame's own timestamp (also for variable frame rates) from the beginning of
    the video. Frames of other sizes are fitted into the size of the first, with a note. A truncated
    file ends where decoding ends; damaged or too large frames are left out, and the notes of the
    last frame give their number. Raises InputError if no frame can be decoded, UsageError for an
    invalid start, end or step.
    """
    if start < 0 or (end is not None and end <= start) or step < 1:
        raise UsageError("--start must be 0 or more, --end after --start, --frame-step at least 1")
    with _open(source, max_pixels) as (container, stream):
        info = _info(container, stream)
        if info.width * info.height > max_pixels:
            raise InputError(
                f"{source.label}: too large: {info.width} x {info.height} pixels per frame, "
                f"the limit is {max_pixels / 1e6:.0f} megapixels (--max-pixels)"
            )
        clock = Clock(container, stream, info.rate or USUAL_RATE)
        canvas = Canvas()
        # All frames are decoded, to count them: seeking is not exact in every codec.
        taken, time = 0, 0.0
        last: Frame | None = None  # held back for the notes on lost frames
        for index, decoded in enumerate(decoded_frames(container, stream, clock, max_pixels)):
            time = clock.time(decoded)
            if end is not None and time >= end:
                break
            if time >= start:
                if taken % step == 0:
                    if last is not None:
                        yield last
                    image, notes = canvas(decoded)
                    last = Frame(image, source.label, source.name, source.path, index, time, notes)
                taken += 1
        limit = f"{max_pixels / 1e6:.0f} megapixels (--max-pixels)"
        if last is not None:
            yield _with_losses(last, clock.left_out, limit)
        elif clock.frames == 0:
            reason = f"no frame of this video can be decoded: damaged, or larger than {limit}"
            raise InputError(f"{source.label}: {_damage(_path(source), reason)}")
        else:
            raise InputError(f"{source.label}: the video ends at {time:.2f} s, before --start")


@contextmanager
def _open(source: Source, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, both of PyAV."""
    if source.error is not None:
        raise InputError(f"{source.label}: {source.error}")
    path = _path(source)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{source.label}: no such video file") from None
    except OSError as error:
        raise InputError(f"{source.label}: {describe_os_error(error)}") from error
    except ValueError as error:
        raise InputError(f"{source.label}: is not a possible file name") from error
    if not stat.S_ISREG(mode):  # opening a pipe could block
        raise InputError(f"{source.label}: is not a regular file")
    av = pyav()
    options = {
        "format_whitelist": _CONTAINERS,
        "protocol_whitelist": "file",
        "max_pixels": str(max_pixels + max_pixels // 4 + _ALIGNED),
    }
    try:
        # With "file:", because a name with a colon would be taken for a protocol.
        container = av.open(f"file:{path.absolute()}", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{source.label}: {_why_not(path, error)}") from error
    try:
        streams = [s for s in container.streams.video if not is_cover(av, s)]
        if not streams:
            raise InputError(f"{source.label}: {_damage(path, 'holds no video stream')}")
        stream = streams[0]
        if stream.codec_context is None:
            raise InputError(f"{source.label}: its codec is not supported by this FFmpeg")
        stream.codec_context.options = {"max_pixels": options["max_pixels"]}
        stream.thread_type = "AUTO"
        yield container, stream
    finally:
        container.close()


def _path(source: Source) -> Path:
    return Path(source.path or source.label)


def is_cover(av: Any, stream: Any) -> bool:
    """Whether the stream is the cover picture of an audio file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _why_not(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and 0 < error.errno < 200:
        with suppress(OSError):
            path.open("rb").close()
            return _damage(path)
        return describe_os_error(error)
    return _damage(path)


def _damage(
    path: Path, otherwise: str = "not a video that can be read, or damaged at its start"
) -> str:
    with path.open("rb") as file:
        parts = {kind: end for kind, _, end in boxes(file)}
        size = file.seek(0, io.SEEK_END)
    if b"ftyp" in parts and not 0 < parts.get(b"moov", 0) <= size:
        return "cut short: its index, which comes last, is missing (interrupted recording)"
    return otherwise


def _info(container: Any, stream: Any) -> VideoInfo:
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    frames = int(stream.frames)
    if not frames and container.duration and rate:
        frames = round(container.duration / 1e6 * rate)  # microseconds
    return VideoInfo(
        int(stream.width),
        int(stream.height),
        frames if 0 < frames < 1e9 else None,
        rate if 0 < rate < 1e4 else None,
    )


def decoded_frames(container: Any, stream: Any, clock: Clock, max_pixels: int) -> Iterator[Any]:
    """PyAV's frames in display order, without those that are damaged or too large."""
    error = pyav().FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except error:  # treated as the end of the file
            packet = None
        if packet is None:
            return
        progress()  # also for frames before --start
        clock.expect(packet)
        try:
            frames = packet.decode()
        except error:
            clock.forget(packet)
            clock.left_out += bool(packet.size)
            continue
        for frame in frames:
            if frame.width * frame.height > max_pixels:
                clock.left_out += 1
                continue
            clock.frames += 1
            yield frame


def _with_losses(frame: Frame, left_out: int, limit: str) -> Frame:
    if not left_out:
        return frame
    count = f"{left_out} frame{'s' if left_out > 1 else ''}"
    note = f"{count} left out: damaged, or larger than {limit}"
    return replace(frame, notes=(*frame.notes, note))


class Clock:
    """Time of each frame in seconds from the beginning of the video; ``frames`` counts them,
    ``left_out`` those that are damaged or too large.

    AVI stores only decoding times, and decoding may reorder frames: the displayed frames get the
    decoding times in ascending order.
    """

    def __init__(self, container: Any, stream: Any, rate: float) -> None:
        self.frames = self.left_out = 0
        self._unit = float(stream.time_base or 0)
        self._start = stream.start_time
        self._step = 1 / rate
        self._last: float | None = None
        self._turns: deque[int] | None = deque() if container.format.name == "avi" else None

    def expect(self, packet: Any) -> None:
        """Called with each packet before it is decoded."""
        if self._turns is not None and packet.dts is not None and packet.size:
            self._turns.append(packet.dts)

    def forget(self, packet: Any) -> None:
        """Called if the packet gave no frame."""
        if self._turns is not None and packet.dts in self._turns:
            self._turns.remove(packet.dts)

    def time(self, frame: Any) -> float:
        """Time of the next frame; without a timestamp, one step after the last."""
        stamp = frame.pts
        if self._turns is not None:
            stamp = self._turns.popleft() if self._turns else None
        if self._last is None and stamp is not None:
            self._start = stamp if self._start is None else min(self._start, stamp)
        time = None if stamp is None else (stamp - (self._start or 0)) * self._unit
        if time is None or (self._last is not None and time <= self._last):
            time = 0.0 if self._last is None else self._last + self._step
        self._last = time
        return time


class Canvas:
    """Converts frames to upright RGB in the size of the first frame."""

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._said = False

    def __call__(self, frame: Any) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """(H, W, 3) and notes."""
        image = frame.to_ndarray(format="rgb24")
        turns = round(frame.rotation / 90) % 4
        image = np.ascontiguousarray(np.rot90(image, turns) if turns else image)
        if self._size is None:
            self._size = image.shape[:2]
        if image.shape[:2] == self._size:
            return image, ()
        height, width = image.shape[:2]
        note = f"frames of {width} x {height} among those of {self._size[1]} x {self._size[0]}"
        notes = () if self._said else (f"{note}: fitted into these",)
        self._said = True
        return _fitted(image, self._size), notes


def _fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scaled to fit into ``size`` (height, width), centred on black."""
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    out = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[1]) // 2, (size[1] - inner[0]) // 2
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, inner, interpolation=shrink)
    out[top : top + inner[1], left : left + inner[0]] = scaled
    return out
