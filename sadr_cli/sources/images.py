"""One photo -> upright 8-bit RGB, whatever it is stored as. Decoding is Pillow's."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sadr_cli.errors import InputError

DEFAULT_MAX_PIXELS = 200_000_000  # 600 MB as RGB: the largest phone cameras
BACKGROUND = (255, 255, 255)  # under transparent pixels: cut-outs are made for white pages

# Formats that are photographs. Others of Pillow's run external programs (EPS) or are no pictures.
_FORMATS = [
    "JPEG",
    "MPO",
    "PNG",
    "WEBP",
    "BMP",
    "DIB",
    "TIFF",
    "GIF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "HEIF",
]  # HEIF: pillow-heif
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF 2.32, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_pillow_limit = threading.Lock()


def read_image(
    content: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    label: str | None = None,
) -> NDArray[np.uint8]:
    """Decode a photo, a path or the file's bytes, to (H, W, 3) uint8 RGB.

    EXIF orientation is applied. Grey, palette, CMYK and YCbCr are converted, 16 bits a channel
    keep the upper 8, floating point is taken as [0, 1]; transparent pixels are laid over white.
    Of a file with several pictures the first is read. The suffix of the name does not matter.

    Raises InputError, one sentence starting with ``label`` (default: the path), when the file
    cannot be read, is truncated, no photo, or has more than ``max_pixels`` (known from the
    header, before anything is decoded).
    """
    label = label or ("image data" if isinstance(content, bytes) else os.fspath(content))
    try:
        with _open(content) as stream:
            return _decode(stream, max_pixels)
    except _Unreadable as error:
        raise InputError(f"{label}: {error}") from error
    except OSError as error:
        if error.errno is None:  # Pillow's own, about the content
            raise InputError(f"{label}: {_damage(error)}") from error
        raise InputError(f"{label}: {describe_os_error(error)}") from error
    except Exception as error:  # decoders raise anything on hostile bytes
        raise InputError(f"{label}: {_damage(error)}") from error


class _Unreadable(Exception):
    """The reason, without the file's name."""


def describe_os_error(error: OSError) -> str:
    """Why a file cannot be read, in words."""
    words = {
        errno.ENOENT: "no such file or folder",
        errno.ENOTDIR: "no such file or folder",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.EISDIR: "is a folder",
        errno.ELOOP: "its links go in a circle",
        errno.ENAMETOOLONG: "the name is too long",
    }
    return words.get(error.errno or 0) or (error.strerror or str(error)).lower()


def _damage(error: Exception) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    detail = text[0].rstrip(".") if text else type(error).__name__
    return f"damaged or truncated ({detail})"


@contextmanager
def _open(content: str | os.PathLike[str] | bytes) -> Iterator[BinaryIO]:
    if isinstance(content, bytes):
        if not content:
            raise _Unreadable("no data")
        yield io.BytesIO(content)
        return
    path = Path(content)
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a zero byte, or characters the file system has no code for
        raise _Unreadable("is not a possible file name") from error
    if stat.S_ISDIR(mode):
        raise _Unreadable("is a folder, not a photo")
    if not stat.S_ISREG(mode):  # opening a pipe without a writer would wait for ever
        raise _Unreadable("is not a regular file")
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            raise _Unreadable("is empty")
        yield stream


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]


def _decode(stream: BinaryIO, max_pixels: int) -> NDArray[np.uint8]:
    formats = _formats()
    try:
        # Pillow's own limit is a global one; ours is checked in its place, header only.
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image: Image.Image = Image.open(stream, formats=formats)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError:
        raise _Unreadable(_not_a_photo(stream)) from None
    with image:
        width, height = image.size
        if width < 1 or height < 1:
            raise _Unreadable("has no pixels")
        if width * height > max_pixels:
            raise _Unreadable(
                f"too large: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"the limit is {max_pixels / 1e6:.0f} (--max-pixels)"
            )
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image)
        if upright is not None:
            rgb = rgb.transpose(upright)
        return np.asarray(rgb)


def _not_a_photo(stream: BinaryIO) -> str:
    stream.seek(0)
    start = stream.read(32)
    if not start.strip(b"\0"):
        return "holds only zero bytes"
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "HEIC photos need the package pillow-heif (pip install pillow-heif)"
    if brand in (b"avif", b"avis"):
        return "damaged, or this Pillow was built without AVIF"
    return "not a photo in a format that can be read, or damaged at its start"


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray(_integers(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image), posinf=1.0, neginf=0.0).clip(0, 1)
        return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")
    if ("A" in image.mode.upper() and image.mode != "LAB") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    return image.convert("RGB")


def _integers(values: NDArray[Any]) -> NDArray[np.uint8]:
    """16 or 32 bits a pixel -> 8. Grey files of more than 8 bits use the range of 16."""
    return np.asarray((values.astype(np.int64).clip(0, 65535) + 128) // 257, np.uint8)


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """Through the file's own colour profile where there is one: ink is not the inverse of light."""
    profile = image.info.get("icc_profile")
    if profile:
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            rgb = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if rgb is not None:
                return rgb
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: plain conversion
    return image.convert("RGB")
