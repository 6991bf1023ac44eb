"""Frames of a video stream (RTSP, RTMP, HTTP and other protocols of FFmpeg), through PyAV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sadr_cli.errors import InputError
from sadr_cli.faces import Frame
from sadr_cli.files import safe_name
from sadr_cli.sources.images import DEFAULT_MAX_PIXELS
from sadr_cli.sources.video import USUAL_RATE, Canvas, Clock, decoded_frames, is_cover, pyav

PROTOCOLS = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt", "tcp")
_INNER = ("tls", "crypto", "httpproxy")  # used by those; local files are never allowed
_TIMEOUT = 10.0  # seconds without an answer, or a packet


def is_stream(text: str) -> bool:
    """Whether ``text`` is the address of a stream."""
    return text.partition("://")[0].lower() in PROTOCOLS and "://" in text


class Stream:
    """The stream at an address; InputError if it cannot be opened.

    label: the address without user name and password. finite: the stream has an end, like a file
    on a web server, and waits for its reader.
    """

    def __init__(self, address: str) -> None:
        self.label = _without_password(address)
        self.name = _name(self.label)
        av = pyav()
        options = {"protocol_whitelist": ",".join((*PROTOCOLS, *_INNER)), "rtsp_transport": "tcp"}
        try:
            self._container = av.open(address, options=options, timeout=_TIMEOUT)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{self.label}: the stream cannot be opened: {_why(error)}") from error
        streams = [s for s in self._container.streams.video if not is_cover(av, s)]
        if not streams or streams[0].codec_context is None:
            self._container.close()
            raise InputError(f"{self.label}: the stream has no video")
        self._stream: Any = streams[0]
        self._stream.thread_type = "AUTO"
        self.finite = bool(self._container.duration)

    @property
    def rate(self) -> float | None:
        """Frames per second, if the stream reports it."""
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        return rate if 0 < rate < 1000 else None

    def frames(self) -> Iterator[Frame]:
        """Frames until the stream ends or is interrupted."""
        clock = Clock(self._container, self._stream, self.rate or USUAL_RATE)
        canvas = Canvas()
        found = decoded_frames(self._container, self._stream, clock, DEFAULT_MAX_PIXELS)
        try:
            for index, decoded in enumerate(found):
                time = clock.time(decoded)
                image, notes = canvas(decoded)
                yield Frame(image, self.label, self.name, None, index, time, notes)
        finally:
            self._container.close()


def _without_password(address: str) -> str:
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _name(label: str) -> str:
    """A file stem: ``clip`` for ``http://host/a/clip.mp4?x=1``."""
    path = re.split(r"[?#]", label.partition("://")[2])[0].partition("/")[2]
    return safe_name(path.rsplit("/", 1)[-1].partition(".")[0] or "stream")


def _why(error: Exception) -> str:
    if type(error).__name__ == "ExitError":  # PyAV's timeout
        return f"no answer within {_TIMEOUT:.0f} seconds"
    reason = getattr(error, "strerror", None) or str(error)
    return str(reason)[:1].lower() + str(reason)[1:]
