"""Files that end too early, or are longer than what is in them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from made_pictures import QUARTERS, encode, photo
from memory import peak_growth
from PIL import Image, features

from sadr_cli.errors import InputError
from sadr_cli.sources import iter_sources, load_frame, read_image
from sadr_cli.sources.window import Window


class TestCutShort:
    """Most of a JPEG is better than none of it; with a word about what is missing."""

    PHOTO = photo(160, 120)

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("subsampling", [0, 2])
    def test_rows_that_are_there(self, mode: str, subsampling: int) -> None:
        image = Image.fromarray(self.PHOTO).convert(mode)
        whole = encode(image, "JPEG", quality=90, subsampling=subsampling)
        complete = read_image(whole)
        for tenth in (6, 7, 8, 9):
            with pytest.warns(UserWarning, match=r"cut short: the last \d+ % of its rows") as said:
                read = read_image(whole[: len(whole) * tenth // 10])
            missing = int(re.search(r"(\d+) %", str(said.pop(UserWarning).message)).group(1))
            assert abs(missing - (100 - 10 * tenth)) <= 12
            rows = int(160 * (1 - missing / 100)) - 32
            np.testing.assert_array_equal(read[:rows], complete[:rows])

    def test_too_little_is_an_error(self) -> None:
        whole = encode(self.PHOTO, "JPEG", quality=90)
        for tenth in range(1, 4):
            with pytest.raises(InputError, match=r"^a\.jpg: "):
                read_image(whole[: len(whole) * tenth // 10], label="a.jpg")
        with pytest.raises(InputError, match=r"truncated: only the first \d+ % of its rows"):
            read_image(whole[: len(whole) * 4 // 10])

    def test_only_the_end_marker_is_missing(self) -> None:
        whole = encode(self.PHOTO, "JPEG", quality=90)
        with pytest.warns(UserWarning, match="cut short: its end is missing"):
            read = read_image(whole[:-2])
        np.testing.assert_array_equal(read, read_image(whole))

    def test_progressive_needs_its_details(self) -> None:
        whole = encode(self.PHOTO, "JPEG", quality=90, progressive=True)
        with pytest.warns(UserWarning, match="cut short"):
            read = read_image(whole[: len(whole) * 9 // 10])
        assert np.abs(read.astype(int) - read_image(whole)).mean() < 4
        for tenth in (1, 2):
            with pytest.raises(InputError, match="truncated"):
                read_image(whole[: len(whole) * tenth // 10])

    def test_it_is_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        whole = encode(self.PHOTO, "JPEG", quality=90, exif=exif)
        with pytest.warns(UserWarning, match="cut short"):
            assert read_image(whole[: len(whole) * 9 // 10]).shape == (120, 160, 3)

    def test_the_frame_carries_the_word(self, tmp_path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(encode(self.PHOTO, "JPEG", quality=90)[:-2])
        (source,) = iter_sources([str(path)])
        assert load_frame(source).notes == ("cut short: its end is missing",)


def read_or_refuse(path: Path) -> None:
    try:
        assert np.abs(read_image(path).astype(int) - QUARTERS).mean() < 8
    except InputError as error:
        assert re.search("too large|damaged", str(error))


class TestLongFiles:
    """A file made longer, with nothing on disk, is no larger photo."""

    @pytest.mark.parametrize(
        "format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF"]
    )
    def test_sparse(self, tmp_path, format: str, monkeypatch) -> None:
        if format == "HEIF":
            pytest.importorskip("pillow_heif").register_heif_opener()
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        data, path = encode(QUARTERS, format), tmp_path / "a"
        path.write_bytes(data)
        os.truncate(path, 3 * 1024**3)
        taken = 0
        read = Window.read

        def counted(self: Window, size: int = -1) -> bytes:
            nonlocal taken
            block = read(self, size)
            taken += len(block)
            return block

        monkeypatch.setattr(Window, "read", counted)
        assert np.abs(read_image(path).astype(int) - QUARTERS).mean() < 8
        assert taken < 4_000_000

    @pytest.mark.parametrize("format", ["WEBP", "AVIF", "PNG", "GIF", "TIFF"])
    def test_a_part_that_claims_gigabytes(self, tmp_path, format: str) -> None:
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        data = bytearray(encode(QUARTERS, format))
        huge = (2 * 1024**3).to_bytes(4, "little" if format in ("WEBP", "TIFF") else "big")
        if format == "WEBP":
            data[4:8] = huge
        elif format == "AVIF":
            place = data.index(b"mdat")
            data[place - 4 : place] = huge
        elif format == "PNG":
            data[33:33] = huge + b"zzZz"
        elif format == "TIFF":
            place = int.from_bytes(data[4:8], "little")
            count = int.from_bytes(data[place : place + 2], "little")
            tag = (34675).to_bytes(2, "little") + (7).to_bytes(2, "little") + huge + b"\x08\0\0\0"
            data[place + 2 + 12 * (count - 1) : place + 2 + 12 * count] = tag
        else:
            data = data[:-1]  # no end: what follows is looked through for the next picture
        path = tmp_path / "a"
        path.write_bytes(data)
        os.truncate(path, 3 * 1024**3)
        assert peak_growth(read_or_refuse, path) < 600e6
