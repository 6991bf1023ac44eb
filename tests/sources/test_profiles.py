"""Colour profiles of photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
from made_pictures import QUARTERS, encode
from PIL import Image, ImageCms, features

from sadr_cli.sources import read_image


class TestColorProfiles:
    """LittleCMS has no wide profiles to make; these come of the sRGB one, its primaries exchanged.

    Red, green and blue of such a file are green, blue and red.
    """

    @staticmethod
    def turned() -> bytes:
        profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        tags = {}
        for k in range(int.from_bytes(profile[128:132], "big")):
            entry = profile[132 + 12 * k : 144 + 12 * k]
            tags[bytes(entry[:4])] = 132 + 12 * k
        places = [bytes(profile[tags[t] + 4 : tags[t] + 12]) for t in (b"gXYZ", b"bXYZ", b"rXYZ")]
        for tag, place in zip((b"rXYZ", b"gXYZ", b"bXYZ"), places, strict=True):
            profile[tags[tag] + 4 : tags[tag] + 12] = place
        return bytes(profile)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_rgb(self, format: str) -> None:
        if format == "HEIF":
            pytest.importorskip("pillow_heif").register_heif_opener()
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        data = encode(QUARTERS, format, icc_profile=self.turned(), quality=95)
        read = read_image(data).astype(int)
        assert np.abs(read - QUARTERS[..., [2, 0, 1]]).mean() < 6

    def test_with_transparency_and_palette(self) -> None:
        rgba = np.dstack([QUARTERS, np.full(QUARTERS.shape[:2], 255, np.uint8)])
        rgba[0, 0, 3] = 0
        read = read_image(encode(rgba, icc_profile=self.turned()))
        assert read[0, 0].tolist() == [255, 255, 255]
        assert np.abs(read[1:].astype(int) - QUARTERS[1:, :, [2, 0, 1]]).max() <= 3
        palette = Image.fromarray(QUARTERS).convert("P", palette=Image.Palette.ADAPTIVE)
        read = read_image(encode(palette, icc_profile=self.turned()))
        assert np.abs(read.astype(int) - QUARTERS[..., [2, 0, 1]]).mean() < 6

    def test_sixteen_bit_tiff(self) -> None:
        tifffile = pytest.importorskip("tifffile")
        stream = io.BytesIO()
        deep = QUARTERS.astype(np.uint16) * 257
        tifffile.imwrite(stream, deep, photometric="rgb", iccprofile=self.turned())
        read = read_image(stream.getvalue()).astype(int)
        assert np.abs(read - QUARTERS[..., [2, 0, 1]]).max() <= 3

    def test_grey(self) -> None:
        """A profile of linear light: the middle value is bright."""
        profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        white = next(
            bytes(profile[p : p + 12])
            for p in range(132, 132 + 12 * 20, 12)
            if profile[p : p + 4] == b"wtpt"
        )
        place, size = (int.from_bytes(white[k : k + 4], "big") for k in (4, 8))
        curve = b"curv" + bytes(8)
        start = 128 + 4 + 24
        body = bytes(profile[place : place + size]) + curve
        head = bytearray(profile[:128])
        head[16:20] = b"GRAY"
        tags = (2).to_bytes(4, "big")
        tags += b"wtpt" + start.to_bytes(4, "big") + size.to_bytes(4, "big")
        tags += b"kTRC" + (start + size).to_bytes(4, "big") + (12).to_bytes(4, "big")
        head[:4] = (start + len(body)).to_bytes(4, "big")
        grey = np.array([[0, 64, 128, 255]], np.uint8)
        read = read_image(encode(grey, icc_profile=bytes(head) + tags + body))
        assert np.abs(read[0, :, 0].astype(int) - [0, 137, 188, 255]).max() <= 2
        assert (read[..., 0] == read[..., 2]).all()

    def test_srgb_changes_nothing(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        np.testing.assert_array_equal(read_image(encode(QUARTERS, icc_profile=profile)), QUARTERS)

    @pytest.mark.parametrize("cut", [0, 10, 130, 300])
    def test_broken_profiles_are_no_profiles(self, cut: int) -> None:
        profile = self.turned()[:cut] + b"?" * 200
        np.testing.assert_array_equal(read_image(encode(QUARTERS, icc_profile=profile)), QUARTERS)

    def test_a_profile_of_another_space_is_none(self) -> None:
        grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
        read = read_image(encode(grey, icc_profile=self.turned()))
        np.testing.assert_array_equal(read, np.dstack([grey] * 3))
