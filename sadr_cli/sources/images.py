"""Any photo -> upright 8-bit RGB, decoded with Pillow."""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sadr_cli.errors import InputError
from sadr_cli.native import Native
from sadr_cli.sources import tiff
from sadr_cli.sources.color import full_scale, to_bytes, to_rgb
from sadr_cli.sources.jpeg import truncated_jpeg
from sadr_cli.sources.window import WHOLE, Unreadable, Window, end_of, open_image

DEFAULT_MAX_PIXELS = 200_000_000  # 600 MB as RGB: the largest phone cameras

# Photo formats (HEIF with pillow-heif). Pillow's others run external programs (EPS) or are not
# photos.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF"),
    "HEIF",
)
_PLUGINS = ("Jpeg", "Mpo", "Png", "WebP", "Bmp", "Tiff", "Gif", "Ppm", "Jpeg2K", "Avif")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")  # in JPEG and HEIC, extra pictures are auxiliary
_MOST_PICTURES = 300  # searched for one that is not blank
_BLANK = 16  # smallest contrast, in grey values, of a picture that is not blank
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


class Picture(NamedTuple):
    """(H, W, 3) uint8 RGB, upright, and notes for the user."""

    image: NDArray[np.uint8]
    notes: tuple[str, ...]


def read_image(
    content: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    label: str | None = None,
) -> NDArray[np.uint8]:
    """Decode a photo, given as a path or as the file's bytes, to (H, W, 3) uint8 RGB.

    EXIF orientation and colour profile are applied (the result is sRGB). Grey, palette, CMYK, Lab
    and YCbCr are converted; transparent pixels are composited over white. More than 8 bits per
    channel are reduced to 8 by the range of the values, see :func:`.color.full_scale`. Of several
    pictures in a file, the first that is not blank is read; a truncated JPEG is read if most of it
    is present. A ``UserWarning`` reports such cases. The file's suffix does not matter.

    Raises InputError, one sentence starting with ``label`` (default: the path), if the file cannot
    be read, is truncated, is not a photo, or has more than ``max_pixels`` (checked in the header,
    before anything is decoded).
    """
    label = label or ("image data" if isinstance(content, bytes) else os.fspath(content))
    picture = read_picture(content, max_pixels, label)
    for note in picture.notes:
        warnings.warn(f"{label}: {note}", UserWarning, stacklevel=2)
    return picture.image


@contextmanager
def undecoded(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[Image.Image]:
    """An opened but undecoded photo, for access to its stored pixels; raises any error."""
    with _open(path) as stream:
        file = Window(stream, end_of(stream))
        with open_image(file, _formats()) as image:
            _check_size(*image.size, max_pixels)
            file.allow(image.width * image.height)
            yield image


def read_picture(content: str | os.PathLike[str] | bytes, max_pixels: int, label: str) -> Picture:
    """As :func:`read_image`, with the notes instead of warnings."""
    try:
        with _open(content) as stream:
            return _decode(stream, max_pixels)
    except Unreadable as error:
        raise InputError(f"{label}: {error}") from error
    except OSError as error:
        if error.errno is None:  # Pillow's own, about the content
            raise InputError(f"{label}: {_damage(error)}") from error
        raise InputError(f"{label}: {describe_os_error(error)}") from error
    except Exception as error:  # decoders can raise anything on malicious data
        raise InputError(f"{label}: {_damage(error)}") from error


def describe_os_error(error: OSError) -> str:
    """Why a file cannot be read."""
    words = {
        errno.ENOENT: "no such file or folder",
        errno.ENOTDIR: "no such file or folder",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.EISDIR: "is a folder",
        errno.ELOOP: "its symbolic links form a loop",
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
            raise Unreadable("no data")
        yield io.BytesIO(content)
        return
    path = Path(content)
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a null byte, or characters that the file system cannot encode
        raise Unreadable("is not a possible file name") from error
    if stat.S_ISDIR(mode):
        raise Unreadable("is a folder, not a photo")
    if not stat.S_ISREG(mode):  # opening a pipe without a writer would block
        raise Unreadable("is not a regular file")
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            raise Unreadable("is empty")
        yield stream


def prepare_decoders() -> None:
    """Import what decodes photos, as the first photo otherwise does."""
    _import_plugins()  # most of it, and nothing native
    _formats()


def _import_plugins() -> None:
    """Instead of ``Image.init``, which takes three times as long."""
    for plugin in _PLUGINS:
        with suppress(ImportError):  # what this version of Pillow lacks
            import_module(f"PIL.{plugin}ImagePlugin")


def _register() -> list[str]:
    _import_plugins()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]


_formats = Native(_register, lambda formats: None)  # decoders need no first use


def _decode(stream: BinaryIO, max_pixels: int) -> Picture:
    end = end_of(stream)
    if end is not None and min(end, stream.seek(0, io.SEEK_END)) > WHOLE:
        raise Unreadable(f"too large: more than {WHOLE // 1024**2} MB in one photo")
    file = Window(stream, end)
    stream.seek(0)
    if stream.read(4) in tiff.SIGNATURES:
        return _decode_tiff(file, max_pixels)
    try:
        image = open_image(file, _formats())
    except UnidentifiedImageError:
        raise Unreadable(_not_a_photo(stream)) from None
    with image:
        _check_size(*image.size, max_pixels)
        file.allow(image.width * image.height)
        _scale_clear_value(image)
        try:
            image.load()
        except OSError as error:
            if image.format not in ("JPEG", "MPO") or "truncated" not in str(error):
                raise
            return _finished(*truncated_jpeg(stream))
        return _first_visible(image, file, max_pixels)


def _decode_tiff(file: Window, max_pixels: int) -> Picture:
    pages = tiff.read_pages(file)
    images = (_tiff_page(file, page, max_pixels) for page in pages)
    return _choose(images, len(pages))


def _tiff_page(file: Window, page: tiff.Page, max_pixels: int) -> Picture:
    _check_size(page.width, page.height, max_pixels)
    if tiff.readable(page):
        image, note = tiff.read_page(file, page)
        return _finished(image, page.orientation, (note,) if note else (), page.profile)
    file.allow(page.width * page.height)
    file.seek(0)
    try:
        with open_image(file, ["TIFF"]) as image:
            image.seek(page.index)
            if max(page.bits) > 8 and page.samples > 1:
                raise UnidentifiedImageError  # Pillow would read each byte as a sample
            image.load()
            return _finished(image, _orientation(image))
    except UnidentifiedImageError:
        raise Unreadable(f"unsupported kind: {page}") from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise Unreadable("has no pixels")
    if width * height > max_pixels:
        raise Unreadable(
            f"too large: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
            f"the limit is {max_pixels / 1e6:.0f} (--max-pixels)"
        )


def _first_visible(image: Image.Image, file: Window, max_pixels: int) -> Picture:
    """The picture; of an animation, the first one that is not blank."""
    orientation = _orientation(image)
    first = _finished(image, orientation)
    if image.format not in _ANIMATED:
        return first
    pixels = image.width * image.height
    count: int | None = None
    with suppress(Exception):  # too many to count, or damaged after the first
        count = getattr(image, "n_frames", 1)

    def pictures() -> Iterator[Picture]:
        yield first
        for number in range(1, max_pixels // pixels):
            file.allow(pixels)
            image.seek(number)
            yield _finished(image, orientation)

    return _choose(pictures(), count)


def _choose(pictures: Iterator[Picture], count: int | None) -> Picture:
    """The first of ``count`` that is not blank; damage after the first ends the search."""
    first = chosen = next(pictures)
    if count == 1:
        return first
    number = 1
    while _is_blank(chosen.image):
        try:
            chosen, number = next(pictures), number + 1
        except Exception:  # including StopIteration
            chosen, number = first, 1
            break
        if number == _MOST_PICTURES:
            break
    which = "the first" if number == 1 else f"number {number}, the first that is not blank,"
    note = f"holds {count or 'several'} pictures, of which only {which} was read"
    return Picture(chosen.image, (*chosen.notes, note))


def _is_blank(image: NDArray[np.uint8]) -> bool:
    small = np.asarray(Image.fromarray(image).convert("L").resize((64, 64), Image.Resampling.BOX))
    return bool(np.ptp(small) < _BLANK)


def _finished(
    image: Image.Image, orientation: int, notes: tuple[str, ...] = (), profile: bytes | None = None
) -> Picture:
    """Upright 8-bit sRGB of a decoded picture."""
    profile = profile or image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        low, high, note = full_scale(values)
        clear = image.info.get("transparency")
        image = Image.fromarray(to_bytes(values, low, high))
        if isinstance(clear, int):  # the value of transparent pixels in a PNG
            image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        notes += (note,) if note else ()
    rgb = to_rgb(image, profile)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return Picture(np.asarray(rgb), notes)


def _scale_clear_value(image: Image.Image) -> None:
    """Scale a PNG's value of transparent pixels to 8 bits: Pillow leaves it at the file's depth."""
    tiles = getattr(image, "tile", None) if image.format == "PNG" else None
    clear, raw = image.info.get("transparency"), tiles[0][3] if tiles else None
    if isinstance(clear, int) and raw in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if raw == "L;2" else 17)
    elif isinstance(clear, tuple) and raw == "RGB;16B":
        image.info["transparency"] = tuple(v >> 8 for v in clear)


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
