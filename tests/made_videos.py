"""Videos as other programs do not write them any more, or never did."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np


def write_avi(path: Path, frames: Sequence[np.ndarray], rate: int = 10) -> Path:
    """Motion JPEG, whose frames may be of different sizes; the header has that of the first."""
    height, width = frames[0].shape[:2]
    pictures = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames]
    header = struct.pack("<6I", 1_000_000 // rate, 0, 0, 16, len(frames), 0)
    header += struct.pack("<8I", 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<10I", 0, 0, 0, 1, rate, 0, len(frames), 0, 2**32 - 1, 0)
    stream += struct.pack("<4h", 0, 0, width, height)
    kind = struct.pack("<IiiHH", 40, width, height, 1, 24) + b"MJPG" + struct.pack("<5I", *[0] * 5)
    lists = _chunk(b"LIST", b"strl" + _chunk(b"strh", stream) + _chunk(b"strf", kind))
    movie, index = b"movi", b""
    for picture in pictures:
        index += b"00dc" + struct.pack("<3I", 16, len(movie), len(picture))
        movie += _chunk(b"00dc", picture)
    body = _chunk(b"LIST", b"hdrl" + _chunk(b"avih", header) + lists)
    body += _chunk(b"LIST", movie) + _chunk(b"idx1", index)
    path.write_bytes(_chunk(b"RIFF", b"AVI " + body))
    return path


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def write_video(path: Path, codec: str, frames: int = 20, rate: int = 10, **options: str) -> Path:
    """Frame n is of brightness 10 n, 64 x 48; ``options`` are the encoder's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        for number in range(frames):
            picture = np.full((48, 64, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
