"""TIFF in its arrangements, written by another library."""

from __future__ import annotations

import io
import itertools
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import photo

from sadr_cli.errors import InputError
from sadr_cli.sources.images import read_picture

tifffile = pytest.importorskip("tifffile")
PHOTO = photo(61, 47)  # no multiple of a tile, nor of a strip
GREY = PHOTO[..., :1]


def written(samples: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def read(data: bytes, max_pixels: int = 10**6) -> tuple[np.ndarray, tuple[str, ...]]:
    return read_picture(data, max_pixels, "a.tif")


def stretched(values: np.ndarray, dtype: str) -> np.ndarray:
    """8 bits over the whole range of ``dtype``; floating point over [0, 1]."""
    kind = np.dtype(dtype)
    share = values / 255
    if kind.kind == "f":
        return share.astype(kind)
    low, high = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
    return np.rint(low + share * (high - low)).astype(kind)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_arrangement(dtype: str, channels: int) -> None:
    """Chunky and planar, strips and tiles, packed or not, both byte orders."""
    colors = GREY if channels == 1 else PHOTO
    samples = stretched(colors, dtype)
    if channels == 4:
        opaque = np.full((*samples.shape[:2], 1), stretched(np.array(255), dtype))
        samples = np.concatenate([samples, opaque], 2)
    packings = [(None, None), ("zlib", None), ("lzma", None)]
    packings += [("zlib", True)] if dtype[0] != "f" else []  # test_packed_by_libtiff has those
    for planar, (tile, order), (packing, predictor) in itertools.product(
        ["contig", "separate"][: 1 + (channels > 1)],
        [(None, "<"), (None, ">"), ((16, 32), ">")],
        packings,
    ):
        stored = samples if planar == "contig" else np.moveaxis(samples, 2, 0)
        data = written(
            stored[..., 0] if channels == 1 else stored,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig=planar if channels > 1 else None,
            extrasamples=["unassalpha"] if channels == 4 else None,
            tile=tile,
            rowsperstrip=None if tile else 10,
            compression=packing,
            predictor=predictor,
            byteorder=order,
        )
        image, notes = read(data)
        wrong = np.abs(image.astype(int) - colors).max()
        assert wrong <= 1, (planar, tile, packing, predictor, order)
        assert dtype[0] == "i" or not notes


@pytest.mark.parametrize("packing", [5, 8, 32773])  # LZW, Deflate, PackBits
@pytest.mark.parametrize(
    ("kind", "predictor"),
    [("u1", 1), ("u1", 2), ("u2", 1), ("u2", 2), ("f4", 1), ("f4", 2), ("f4", 3), ("f8", 3)],
)
def test_packed_by_libtiff(packing: int, kind: str, predictor: int) -> None:
    options = [cv2.IMWRITE_TIFF_COMPRESSION, packing, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    samples = np.ascontiguousarray(stretched(PHOTO, kind)[..., ::-1])
    good, data = cv2.imencode(".tif", samples, options)
    assert good
    assert np.abs(read(data.tobytes())[0].astype(int) - PHOTO).max() <= 1


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("packing", [None, "zlib"])
def test_white_is_zero(dtype: str, packing: str | None) -> None:
    data = written(
        stretched(255 - GREY, dtype)[..., 0], photometric="miniswhite", compression=packing
    )
    assert np.abs(read(data)[0].astype(int) - GREY).max() <= 1


def test_cmyk_and_lab_beyond_eight_bits() -> None:
    ink = np.concatenate([255 - PHOTO, np.zeros_like(GREY)], 2)
    for dtype in ("u1", "u2"):
        data = written(stretched(ink, dtype), photometric="separated")
        assert np.abs(read(data)[0].astype(int) - PHOTO).max() <= 1
    data = written(np.zeros((8, 8, 3), np.uint16), photometric="cielab")
    with pytest.raises(InputError, match="unsupported kind: TIFF with photometric 8"):
        read(data)


def test_premultiplied_and_straight_alpha_lie_over_white() -> None:
    half = np.full((*GREY.shape[:2], 1), 32768, np.uint16)
    straight = np.concatenate([stretched(PHOTO, "u2"), half], 2)
    multiplied = np.concatenate([stretched(PHOTO // 2, "u2"), half], 2)
    multiplied[0, 0, 3] = straight[0, 0, 3] = 65535  # tells the range of the channel
    for samples, name in ((straight, "unassalpha"), (multiplied, "assocalpha")):
        image, _ = read(written(samples, photometric="rgb", extrasamples=[name]))
        expected = (PHOTO.astype(int) + 255) // 2
        assert np.abs(image[1:].astype(int) - expected[1:]).max() <= 3


@pytest.mark.parametrize(
    ("samples", "note"),
    [
        (GREY[..., 0].astype(np.float32), "taken as 8 bits"),
        (GREY[..., 0].astype(np.int32), "taken as 8 bits"),
        (GREY[..., 0].astype(np.uint16) * 16, "taken as 12 bits"),
        (GREY[..., 0].astype(np.float64) * 16, "taken as 12 bits"),
        (GREY[..., 0].astype(np.float32) / 127.5 - 1, "taken as black and white"),
        (GREY[..., 0].astype(np.float32) * 1e-4, "taken as black and white"),
        (GREY[..., 0].astype(np.float32) * 1e4, "taken as black and white"),
        (GREY[..., 0].astype(np.int16) * 8 - 1024, "taken as black and white"),
        (GREY[..., 0].astype(np.uint32) * 1000, "taken as black and white"),
    ],
)
def test_the_range_is_that_of_the_values_and_is_said(samples: np.ndarray, note: str) -> None:
    image, notes = read(written(samples))
    assert np.abs(image.astype(int) - GREY).max() <= 1 + (255 - GREY.max())
    (said,) = notes
    assert said.startswith("values from ") and said.endswith(note)


def test_the_range_is_that_of_the_tags_where_the_values_keep_it() -> None:
    samples = GREY[..., 0].astype(np.uint16) * 4
    for tags, scale in (((0, 1023), 4), ((0, 2046), 8), ((0, 99), 4)):  # the last is not kept
        extra = [(280, 3, 1, tags[0], True), (281, 3, 1, tags[1], True)]
        image, notes = read(written(samples, extratags=extra))
        assert np.abs(image.astype(int) - GREY * (4 / scale)).max() <= 2
        assert bool(notes) == (tags[1] == 99)


def test_infinite_values_and_such_are_black_or_white() -> None:
    values = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    values[0, :4] = np.nan, np.inf, -np.inf, 1e30
    image, notes = read(written(values))
    assert image[0, :4, 0].tolist() == [0, 255, 0, 255]
    assert image[1, -1, 0] == 255 and not notes
    assert read(written(np.full((4, 4), np.nan, np.float32)))[0].max() == 0


def test_smaller_copies_and_masks_are_not_the_photo() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(PHOTO[::4, ::4], subfiletype=1, photometric="rgb")
        writer.write(PHOTO, photometric="rgb")
    image, notes = read(stream.getvalue())
    assert image.shape == PHOTO.shape and not notes


def test_of_several_pages_the_first_that_is_not_blank_is_read() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in (np.zeros_like(PHOTO), PHOTO, PHOTO[:, ::-1]):
            writer.write(page, photometric="rgb")
    image, notes = read(stream.getvalue())
    np.testing.assert_array_equal(image, PHOTO)
    assert notes == (
        "holds 3 pictures, of which only number 2, the first that is not blank, was read",
    )


def test_size_is_checked_before_anything_is_decoded() -> None:
    data = bytearray(written(PHOTO, photometric="rgb", compression="zlib"))
    with pytest.raises(InputError, match=r"too large: 47 x 61 .* \(--max-pixels"):
        read(bytes(data), max_pixels=2000)
    with pytest.raises(InputError, match="40 channels"):
        channels = np.zeros((8, 8, 40), np.uint8)
        read(written(channels, photometric="minisblack", planarconfig="contig"))


def _tag(data: bytes, tag: int) -> int:
    """Where the value of a tag of the first directory stands (little endian)."""
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for k in range(count):
        entry = place + 2 + 12 * k
        if struct.unpack_from("<H", data, entry)[0] == tag:
            return entry + 8
    raise AssertionError(tag)


def test_tiles_far_larger_than_the_picture_are_refused() -> None:
    data = bytearray(written(PHOTO, photometric="rgb", tile=(64, 64), compression="zlib"))
    for tag in (322, 323):
        entry = _tag(data, tag) - 8
        struct.pack_into("<HHII", data, entry, tag, 4, 1, 2**20)
    with pytest.raises(InputError, match="tiles are far larger"):
        read(bytes(data))


def test_strips_that_are_not_there() -> None:
    data = written(PHOTO, photometric="rgb", rowsperstrip=10)
    for part in (len(data) // 2, len(data) - 5):
        with pytest.raises(InputError, match="damaged or truncated"):
            read(data[:part])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_tags_are_an_error_or_a_picture(draws: st.DataObject) -> None:
    kind = draws.draw(st.sampled_from(["u1", "u2", "f4"]))
    packing = draws.draw(st.sampled_from([None, "zlib"]))
    data = bytearray(written(stretched(PHOTO, kind), photometric="rgb", compression=packing))
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for _ in range(draws.draw(st.integers(1, 3))):
        entry = place + 2 + 12 * draws.draw(st.integers(0, count - 1))
        field = draws.draw(st.sampled_from(["tag", "type", "count", "value"]))
        number = draws.draw(st.sampled_from([0, 1, 2, 3, 16, 255, 65535, 2**31, 2**32 - 1]))
        offset, form = {
            "tag": (0, "<H"),
            "type": (2, "<H"),
            "count": (4, "<I"),
            "value": (8, "<I"),
        }[field]
        struct.pack_into(form, data, entry + offset, number & (0xFFFF if form == "<H" else -1))
    try:
        image, _ = read(bytes(data), max_pixels=100_000)
    except InputError as error:
        assert str(error).startswith("a.tif: ") and "\n" not in str(error)
    else:
        assert image.dtype == np.uint8 and image.shape[2] == 3
