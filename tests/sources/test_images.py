from __future__ import annotations

import os
import random
import stat

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import QUARTERS, STORED, encode
from PIL import Image, features

from sadr_cli.errors import InputError
from sadr_cli.sources import read_image


class TestReadImage:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_exif_orientation_is_applied(self, format: str, orientation: int) -> None:
        if format == "HEIF":
            pytest.importorskip("pillow_heif").register_heif_opener()
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = STORED[orientation](QUARTERS)
        data = encode(stored, format, exif=exif if format == "TIFF" else exif.tobytes(), quality=95)
        read = read_image(data)
        assert read.shape == QUARTERS.shape
        assert np.abs(read.astype(int) - QUARTERS).mean() < 8

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_a_broken_exif_block_does_not_spoil_the_photo(self) -> None:
        data = encode(QUARTERS, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage", quality=95)
        assert read_image(data).shape == QUARTERS.shape

    def test_result_is_rgb_and_may_be_written_to_a_mesh_as_is(self) -> None:
        read = read_image(encode(QUARTERS))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, QUARTERS)

    def test_grey(self) -> None:
        grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
        np.testing.assert_array_equal(read_image(encode(grey)), np.dstack([grey] * 3))

    @pytest.mark.parametrize("format", ["PNG", "TIFF"])
    def test_sixteen_bits_keep_the_full_range(self, format: str) -> None:
        deep = np.array([[0, 257, 32896, 65535]], np.uint16)
        assert read_image(encode(deep, format))[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_sixteen_bit_colour(self) -> None:
        good, data = cv2.imencode(".png", QUARTERS[..., ::-1].astype(np.uint16) * 257)
        assert good
        np.testing.assert_array_equal(read_image(data.tobytes()), QUARTERS)

    def test_floating_point_is_zero_to_one(self) -> None:
        values = np.array([[0.0, 0.5, 1.0, 7.0, np.nan]], np.float32)
        assert read_image(encode(values, "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 255, 0]

    def test_bilevel(self) -> None:
        bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
        assert read_image(encode(bits))[0].tolist() == [[0] * 3, [255] * 3]

    def test_palette(self) -> None:
        palette = Image.fromarray(QUARTERS).convert("P", palette=Image.Palette.ADAPTIVE)
        assert np.abs(read_image(encode(palette)).astype(int) - QUARTERS).max() < 8
        assert np.abs(read_image(encode(palette, "GIF")).astype(int) - QUARTERS).max() < 8

    def test_transparent_pixels_lie_over_white(self) -> None:
        rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
        expected = [[200, 0, 0], [255, 255, 255], [127, 127, 127]]
        assert read_image(encode(rgba))[0].tolist() == expected
        grey = Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA")
        assert read_image(encode(grey))[0].tolist() == [[9] * 3, [255] * 3]

    def test_transparent_palette_entry(self) -> None:
        image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
        image.putpalette([10, 20, 30, 40, 50, 60])
        data = encode(image, transparency=0)
        assert read_image(data)[0].tolist() == [[255, 255, 255], [40, 50, 60]]

    def test_cmyk_is_not_inverted(self) -> None:
        cmyk = Image.fromarray(QUARTERS).convert("CMYK")
        for format in ("JPEG", "TIFF"):
            read = read_image(encode(cmyk, format))
            assert np.abs(read.astype(int) - QUARTERS).mean() < 12

    def test_suffix_does_not_matter(self, tmp_path) -> None:
        path = tmp_path / "really_png.jpg"
        path.write_bytes(encode(QUARTERS))
        np.testing.assert_array_equal(read_image(path), QUARTERS)

    @pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
    def test_truncated_at_every_tenth_is_an_error_or_the_whole_photo(self, format: str) -> None:
        data = encode(np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8), format)
        whole = read_image(data)
        for tenth in range(10):
            part = data[: len(data) * tenth // 10]
            with pytest.raises(InputError, match=r"^cut\.jpg: \S"):
                read_image(part, label="cut.jpg")
        assert whole.shape == (80, 90, 3)

    def test_size_limit_is_checked_before_decoding(self) -> None:
        # A header that promises 60000 x 60000 pixels, and nothing behind it.
        bomb = bytearray(encode(QUARTERS, "BMP"))
        bomb[18:26] = (60000).to_bytes(4, "little") * 2
        with pytest.raises(InputError, match=r"3600 megapixels, the limit is 200 \(--max-pixels"):
            read_image(bytes(bomb), label="bomb.bmp")
        with pytest.raises(InputError, match="too large: 60 x 40"):
            read_image(encode(QUARTERS), max_pixels=2399)
        assert read_image(encode(QUARTERS), max_pixels=2400).shape == (40, 60, 3)

    def test_pillows_own_limit_is_left_as_it_was(self) -> None:
        before = Image.MAX_IMAGE_PIXELS
        read_image(encode(QUARTERS))
        assert before == Image.MAX_IMAGE_PIXELS

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty"),
            (b"\0" * 500, "holds only zero bytes"),
            (b"hello, this is text", "not a photo"),
            (b"%PDF-1.4 ...", "not a photo"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo"),
        ],
    )
    def test_what_is_no_photo_is_named_with_its_reason(self, tmp_path, content, reason) -> None:
        path = tmp_path / "a b.jpg"
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert reason in str(error.value)
        assert "\n" not in str(error.value)

    def test_folder_named_like_a_photo(self, tmp_path) -> None:
        (tmp_path / "x.jpg").mkdir()
        with pytest.raises(InputError, match=r"x\.jpg: is a folder"):
            read_image(tmp_path / "x.jpg")

    def test_vanished_file(self, tmp_path) -> None:
        with pytest.raises(InputError, match="no such file"):
            read_image(tmp_path / "gone.jpg")

    def test_impossible_names(self) -> None:
        for name in ("a\0b.jpg", "\ud800.jpg", "x" * 5000 + ".jpg"):
            with pytest.raises(InputError, match=r"not a possible file name|name is too long"):
                read_image(name)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
    def test_pipe_in_the_file_system_does_not_block(self, tmp_path) -> None:
        os.mkfifo(tmp_path / "p.jpg")
        with pytest.raises(InputError, match="not a regular file"):
            read_image(tmp_path / "p.jpg")

    def test_link_loop(self, tmp_path) -> None:
        (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
        (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
        with pytest.raises(InputError, match="symbolic links form a loop"):
            read_image(tmp_path / "a.jpg")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    def test_unreadable(self, tmp_path) -> None:
        path = tmp_path / "secret.jpg"
        path.write_bytes(encode(QUARTERS))
        path.chmod(stat.S_IWUSR)
        with pytest.raises(InputError, match="permission denied"):
            read_image(path)

    def test_damaged_bytes_never_raise_anything_else(self) -> None:
        """A small fuzz with a fixed seed over every reader: InputError or a good array."""
        rng = random.Random(7)
        image = Image.fromarray(QUARTERS)
        seeds = [encode(image, f) for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")]
        seeds += [encode(image, "AVIF")] if features.check("avif") else []
        for round_ in range(400):
            data = bytearray(seeds[round_ % len(seeds)])
            for _ in range(rng.randint(1, 12)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                read = read_image(bytes(data), max_pixels=1_000_000)
            except InputError as error:
                assert str(error).startswith("image data: ")
            else:
                assert read.ndim == 3
                assert read.shape[2] == 3
                assert read.dtype == np.uint8

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300))
    def test_random_bytes(self, data: bytes) -> None:
        with pytest.raises(InputError):
            read_image(data)


class TestAnimations:
    @pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
    def test_the_first_picture_that_is_not_blank(self, format: str) -> None:
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        black = Image.new("RGB", QUARTERS.shape[1::-1], (3, 3, 3))
        white = Image.new("RGB", black.size, "white")
        shown, other = Image.fromarray(QUARTERS), Image.fromarray(QUARTERS[::-1].copy())
        options = {"save_all": True, "lossless": True, "quality": 95}
        if format != "WEBP":
            del options["lossless"]
        for before in ([], [black], [black, white]):
            first, *rest = [*before, shown, other]
            data = encode(first, format, append_images=rest, duration=100, **options)
            with pytest.warns(
                UserWarning, match=f"holds {len(before) + 2} pictures, of which"
            ) as w:
                read = read_image(data)
            assert np.abs(read.astype(int) - QUARTERS).mean() < 8
            which = f"number {len(before) + 1}," if before else "the first was read"
            assert which in str(w.pop(UserWarning).message)

    def test_all_blank(self) -> None:
        frames = [Image.new("RGB", (60, 40), (v, v, v)) for v in (0, 5, 9)]
        data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
        with pytest.warns(UserWarning, match="only the first was read"):
            assert read_image(data).max() == 0

    def test_how_long_it_is_looked_for_depends_on_the_size(self) -> None:
        frames = [Image.new("RGB", (60, 40), (v, v, v)) for v in (0, 5)]
        shown = Image.fromarray(QUARTERS)
        data = encode(frames[0], "GIF", save_all=True, append_images=[frames[1], shown])
        with pytest.warns(UserWarning):
            assert read_image(data, max_pixels=2 * 60 * 40).max() == 0

    def test_the_pictures_of_a_phone_are_one_photo(self, recwarn) -> None:
        data = encode(QUARTERS, "MPO", save_all=True, append_images=[Image.new("RGB", (6, 4))])
        assert np.abs(read_image(data).astype(int) - QUARTERS).mean() < 8
        assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
