"""PNG pictures, and the writer of textures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.marks import marked
from sadr_cli.writers.mesh import Mesh


class TextureWriter:
    """The texture alone: ``NAME.texture.png``, with ``NAME.real.png``, see :func:`write_real`."""

    format = "texture"
    suffix = ".texture.png"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        if mesh.texture is None:
            raise UsageError("a texture needs the photo, or a mesh that has one")
        return write_texture(path.with_name(path.name.removesuffix(self.suffix) + ".obj"), mesh)


def write_texture(path: Path, mesh: Mesh) -> list[Path]:
    """Write the texture of the mesh file ``path`` beside it."""
    assert mesh.texture is not None
    picture = path.with_suffix(TextureWriter.suffix)
    write_png(picture, mesh.texture)
    return [picture, *write_real(path, mesh)]


def write_real(path: Path, mesh: Mesh) -> list[Path]:
    """Write ``NAME.real.png``: 255 where a texel comes from the photo, 0 where it is filled in."""
    if mesh.real is None or not mesh.textured:
        return []
    mask = path.with_suffix(".real.png")
    write_png(mask, np.rint(mesh.real * 255).astype(np.uint8))
    return [mask]


def encode_png(pixels: NDArray[Any]) -> bytes:
    """(H, W) or (H, W, 3) RGB, uint8 or uint16 -> PNG."""
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(".png", np.ascontiguousarray(stored))[1].tobytes()


def write_png(path: Path, pixels: NDArray[Any], text: dict[str, str] | None = None) -> None:
    """Write ``pixels`` as PNG; ``text`` is stored inside, key by key (ASCII, tEXt chunks)."""
    data = encode_png(pixels)
    if text:
        head = 8 + 25  # signature and IHDR
        data = data[:head] + b"".join(_text_chunk(k, v) for k, v in text.items()) + data[head:]
    atomic_write(path, marked(data))


def _text_chunk(key: str, value: str) -> bytes:
    import struct
    from zlib import crc32

    body = b"tEXt" + key.encode("latin-1") + b"\0" + value.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", crc32(body))
