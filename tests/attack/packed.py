"""JPEG, GIF, WebP, JPEG 2000, AVIF and HEIC."""

from __future__ import annotations

import io
import itertools
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from hostile import FORMATS
from made_pictures import QUARTERS, encode, photo
from PIL import Image, features

from sadr_cli.sources import read_image

from .cases import Case
from .checks import (
    GREY,
    GREY_RGB,
    LOSSY,
    PHOTO,
    either,
    refused,
    same,
)

HEIF = "HEIF" in FORMATS


def jpegs() -> Iterator[Case]:
    image, grey = Image.fromarray(PHOTO), Image.fromarray(GREY)
    for progressive, sampling in itertools.product((False, True), (0, 1, 2)):
        name = f"jpeg {'progressive ' * progressive}sampling {sampling}"
        data = encode(image, "JPEG", quality=98, progressive=progressive, subsampling=sampling)
        yield same(name, data, PHOTO, LOSSY if sampling else 3)
        yield same(
            f"{name}, restarts",
            encode(
                image,
                "JPEG",
                quality=98,
                progressive=progressive,
                subsampling=sampling,
                restart_marker_rows=1,
            ),
            PHOTO,
            LOSSY if sampling else 3,
        )
    yield same("jpeg grey", encode(grey, "JPEG", quality=98), GREY_RGB, 3)
    yield same("jpeg rgb as it is", encode(image, "JPEG", quality=98, keep_rgb=True), PHOTO, 3)
    ink = Image.fromarray(255 - np.dstack([PHOTO, np.full_like(GREY, 255)]), "CMYK")
    inked = encode(ink, "JPEG", quality=98)
    yield same("jpeg cmyk of Adobe", inked, PHOTO, 3)
    yield either("jpeg before which is something", b"\n\n" + encode(image, "JPEG"))
    yield same(
        "jpeg after which is something",
        encode(image, "JPEG", quality=98, subsampling=0) + b"\0" * 999,
        PHOTO,
        3,
    )
    filled = encode(image, "JPEG", quality=98, subsampling=0)
    yield same("jpeg with filling bytes", filled[:2] + b"\xff" * 7 + filled[2:], PHOTO, 3)
    comment = b"\xff\xfe" + struct.pack(">H", 65535) + b"x" * 65533
    yield same("jpeg with a megabyte of comments", filled[:2] + comment * 16 + filled[2:], PHOTO, 3)
    yield either(
        "jpeg whose comment is shorter than it says", filled[:2] + b"\xff\xfe\0\1" + filled[2:]
    )
    for place in (b"\xff\xc0", b"\xff\xda", b"\xff\xc4", b"\xff\xdb"):
        at = filled.index(place)
        for change in (b"\0", b"\xff", b"\x7f"):
            yield either(
                f"jpeg {place.hex()} {change.hex()}",
                filled[: at + 5] + change * 3 + filled[at + 8 :],
            )
    yield refused("jpeg without an end of its header", filled[:100])
    for small in ((1, 1), (1, 9), (9, 1), (8, 8), (7, 17)):
        pixels = PHOTO[: small[0], : small[1]]
        yield same(f"jpeg {small}", encode(pixels, "JPEG", quality=98, subsampling=0), pixels, 6)
    mpo = encode(
        image, "MPO", save_all=True, append_images=[grey.convert("RGB")], quality=98, subsampling=0
    )
    yield same("mpo", mpo, PHOTO, 3)
    yield either("mpo cut in its second picture", mpo[: -len(mpo) // 4])


def cut_jpegs() -> Iterator[Case]:
    """What is there of a picture is read when it is most of it; else it is refused."""
    large = photo(240, 200)
    for mode, progressive, sampling in itertools.product(
        ("RGB", "L", "CMYK"), (False, True), (0, 2)
    ):
        picture = Image.fromarray(large).convert(mode)
        data = encode(picture, "JPEG", quality=90, progressive=progressive, subsampling=sampling)
        for share in (5, 30, 60, 90, 99):
            name = f"jpeg {mode} {'progressive ' * progressive}sampling {sampling} cut at {share} %"
            short = data[: len(data) * share // 100]
            if share <= 30 and not progressive:
                yield refused(name, short, "truncated")
            elif share >= 90 and not progressive:
                yield _upper_rows(name, short, np.asarray(picture.convert("RGB")), share - 8)
            else:
                yield either(name, short)


def _upper_rows(name: str, data: bytes, truth: np.ndarray, share: int) -> Case:
    def attempt() -> None:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read = read_image(data, label="it")
        assert any("cut short" in str(w.message) for w in said), "not said"
        rows = len(truth) * share // 100
        wrong = np.abs(read[:rows].astype(int) - truth[:rows])
        assert read.shape == truth.shape and wrong.mean() < LOSSY, f"mean error {wrong.mean():.1f}"

    return Case(name, attempt)


def gifs() -> Iterator[Case]:
    few = Image.fromarray(QUARTERS).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    truth = np.asarray(few.convert("RGB"))
    yield same("gif", encode(few, "GIF"), truth, most=0)
    yield same("gif interlaced", encode(few, "GIF", interlace=1), truth, most=0)
    clear = encode(few, "GIF", transparency=int(np.asarray(few)[0, 0]))
    yield same("gif with a clear colour", clear, _over_white(few), most=0)
    yield same("gif grey", encode(Image.fromarray(GREY), "GIF"), GREY_RGB, most=0)
    whole = encode(few, "GIF")
    yield same("gif 87a", b"GIF87a" + whole[6:], truth, most=0)
    for place in range(6, 40, 3):
        yield either(f"gif byte {place}", whole[:place] + b"\xff" + whole[place + 1 :])


def _over_white(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return np.where((pixels == pixels[0, 0])[..., None], 255, np.asarray(image.convert("RGB")))


def modern() -> Iterator[Case]:
    image, grey = Image.fromarray(PHOTO), Image.fromarray(GREY)
    alpha = np.dstack([PHOTO, np.where(np.arange(61)[:, None] < 20, 0, 255) + 0 * GREY]).astype(
        np.uint8
    )
    over = np.where(alpha[..., 3:] == 0, 255, PHOTO)
    yield same("webp lossless", encode(image, "WEBP", lossless=True), PHOTO, most=0)
    yield same("webp", encode(image, "WEBP", quality=98), PHOTO, LOSSY)
    yield same("webp grey", encode(grey, "WEBP", lossless=True), GREY_RGB, most=0)
    yield same("webp alpha", encode(alpha, "WEBP", lossless=True, exact=True), over, most=1)
    for mode, truth in (("RGB", PHOTO), ("L", GREY_RGB), ("RGBA", over)):
        picture = {"RGB": image, "L": grey, "RGBA": Image.fromarray(alpha)}[mode]
        for plain in (False, True):
            data = encode(picture, "JPEG2000", irreversible=False, no_jp2=plain)
            yield same(f"jpeg 2000 {mode}{' without its box' * plain}", data, truth, most=1)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    yield same("jpeg 2000 16 bits", encode(deep, "JPEG2000"), GREY_RGB, most=1)
    if features.check("avif"):
        for sampling in ("4:4:4", "4:2:0", "4:0:0"):
            truth = PHOTO if sampling != "4:0:0" else GREY_RGB
            picture = image if sampling != "4:0:0" else grey.convert("RGB")
            yield same(
                f"avif {sampling}",
                encode(picture, "AVIF", quality=97, subsampling=sampling),
                truth,
                LOSSY,
            )
        yield same("avif alpha", encode(alpha, "AVIF", quality=98, subsampling="4:4:4"), over, 8)
        data = encode(image, "AVIF", quality=98)
        yield either("avif with a box of no end", data[:-20] + struct.pack(">I", 2**31) + b"free")
    if HEIF:
        import pillow_heif

        pillow_heif.register_heif_opener()
        yield same("heic", encode(image, "HEIF", quality=98), PHOTO, LOSSY)
        yield same("heic alpha", encode(alpha, "HEIF", quality=98), over, LOSSY)
        yield same("heic grey", encode(grey, "HEIF", quality=98), GREY_RGB, 5)
        stream = io.BytesIO()
        shifted = (PHOTO.astype(np.uint16) * 257).astype("<u2")
        pillow_heif.encode("RGB;16", (47, 61), shifted.tobytes(), stream, quality=98)
        yield same("heic 10 bits", stream.getvalue(), PHOTO, LOSSY)
