from __future__ import annotations

import io
import os
import random
import stat

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from sadr_cli.errors import InputError, NothingToDoError, UsageError
from sadr_cli.files import MAX_BYTES
from sadr_cli.sources import (
    Namer,
    Source,
    iter_frames,
    iter_sources,
    load_frame,
    probe_video,
    read_image,
    safe_name,
)

# Four quarters that tell every orientation apart.
QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:] = (250, 10, 10), (10, 250, 10)
QUARTERS[20:, :30], QUARTERS[20:, 30:] = (10, 10, 250), (240, 240, 10)

STORED = {  # how the pixels of an upright photo lie in a file of each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def encode(image: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def names(*inputs: str, **options: object) -> list[str]:
    return [s.name for s in iter_sources([str(i) for i in inputs], **options)]


def touch(folder, *files: str) -> None:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


class Pipe(io.BytesIO):
    """Standard input: what has no ``peek``."""


# --- decoding -----------------------------------------------------------------------------


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

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
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
        with pytest.raises(InputError, match="links go in a circle"):
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


# --- names --------------------------------------------------------------------------------


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("holiday 1", "holiday 1"),
            ("Ünïcødé 写真", "Ünïcødé 写真"),
            ("-rf", "_rf"),
            (".hidden", "_hidden"),
            ("..", "_"),
            ("", "_"),
            ("a\nb\tc", "a_b_c"),
            ("a/b\\c:d", "a_b_c_d"),
            ("dots...", "dots"),
            ("nul", "_nul"),
            ("\udcff", "_"),
        ],
    )
    def test_safe_name(self, text: str, name: str) -> None:
        assert safe_name(text) == name

    @settings(max_examples=300, deadline=None)
    @given(st.text(st.characters(), max_size=300))
    def test_safe_name_is_always_one_good_file_name(self, text: str) -> None:
        name = safe_name(text)
        assert 0 < len(name.encode()) <= MAX_BYTES
        assert name not in (".", "..")
        assert not name.startswith(("-", "."))
        assert not set(name) & set('/\\\0\n<>:"|?*')

    def test_long_names_that_differ_at_the_end_stay_apart(self) -> None:
        assert safe_name("x" * 300 + "a") != safe_name("x" * 300 + "b")

    def test_same_stem_is_told_apart_by_suffix_then_folder_then_hash(self) -> None:
        namer = Namer()
        assert namer.name("p/a.jpg") == "a"
        assert namer.name("p/a.png") == "a_png"
        assert namer.name("q/a.jpg") == "a_jpg"
        assert namer.name("r/s/a.jpg") == "s__a"
        assert namer.name("t/s/a.jpg") == "t__s__a"
        last = namer.name("t/s/a.jpg")
        assert last.startswith("a_")
        assert namer.name("t/s/a.jpg") == last + "_2"

    def test_case_alone_does_not_make_another_name(self) -> None:
        namer = Namer()
        assert len({namer.name(f"{s}.jpg").casefold() for s in ("A", "a", "Ä", "ä")}) == 4

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text("ab/._-", min_size=1, max_size=6), max_size=30))
    def test_names_never_collide(self, paths: list[str]) -> None:
        namer = Namer()
        given_names = [namer.name(p) for p in paths]
        assert len(set(given_names)) == len(paths)


# --- listing ------------------------------------------------------------------------------


class TestListing:
    def test_folder_is_sorted_by_name_photos_and_videos_only(self, tmp_path) -> None:
        touch(tmp_path, "b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "v.mp4", "sub/c.jpg")
        sources = list(iter_sources([str(tmp_path)]))
        assert [s.name for s in sources] == ["a", "b", "v"]
        assert [s.kind for s in sources] == ["image", "image", "video"]

    def test_recursive_keeps_the_subfolder_in_the_name(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg", "x/a.jpg", "x/y/a.jpg", "z.jpg/b.jpg")
        assert names(tmp_path, recursive=True) == ["a", "x__a", "x__y__a", "z.jpg__b"]

    def test_link_loops_end(self, tmp_path) -> None:
        touch(tmp_path, "x/a.jpg")
        (tmp_path / "x" / "again").symlink_to(tmp_path, target_is_directory=True)
        assert names(tmp_path, recursive=True) == ["x__a"]

    def test_two_links_to_one_folder_are_both_read(self, tmp_path) -> None:
        touch(tmp_path, "real/a.jpg")
        (tmp_path / "twin").symlink_to(tmp_path / "real", target_is_directory=True)
        assert names(tmp_path, recursive=True) == ["real__a", "twin__a"]

    def test_broken_and_looping_links_are_listed_so_that_they_are_reported(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        (tmp_path / "dead.jpg").symlink_to(tmp_path / "nowhere")
        sources = list(iter_sources([str(tmp_path)]))
        assert [s.name for s in sources] == ["a", "dead"]
        with pytest.raises(InputError, match=r"dead\.jpg: no such file"):
            load_frame(sources[1])

    def test_glob_and_literal_names_with_glob_characters(self, tmp_path) -> None:
        touch(tmp_path, "a1.jpg", "a2.jpg", "b[1].jpg")
        assert names(tmp_path / "a*.jpg") == ["a1", "a2"]
        assert names(tmp_path / "b[1].jpg") == ["b[1]"]

    def test_missing_file_is_an_item_and_the_rest_goes_on(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        sources = list(iter_sources(["nope.jpg", str(tmp_path / "a.jpg"), "none*.jpg"]))
        assert [s.error for s in sources] == [
            "no such file or folder",
            None,
            "nothing matches this pattern",
        ]
        with pytest.raises(InputError, match=r"^nope\.jpg: no such file or folder$"):
            load_frame(sources[0])

    def test_only_missing_files_is_nothing_to_do(self, tmp_path) -> None:
        for inputs in (["nope.jpg", "none.jpg"], [str(tmp_path)], ["x*y"], [""]):
            with pytest.raises(NothingToDoError, match="nothing to do"):
                list(iter_sources(inputs))

    def test_no_input_is_a_usage_error_at_once(self) -> None:
        with pytest.raises(UsageError):
            iter_sources([])

    def test_listing_is_lazy(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        stream = iter_sources([str(tmp_path / "a.jpg"), str(tmp_path / "later")])
        assert next(stream).name == "a"
        touch(tmp_path, "later/b.jpg")
        assert next(stream).name == "b"

    def test_order_and_identity_are_kept(self, tmp_path) -> None:
        touch(tmp_path, "b.jpg", "a.jpg")
        inputs = [str(tmp_path / "b.jpg"), str(tmp_path / "a.jpg")]
        assert [s.label for s in iter_sources(inputs)] == inputs

    @pytest.mark.parametrize("name", ["-rf.jpg", "a b.jpg", "line\nbreak.jpg", "naïve 写真.jpg"])
    def test_odd_names(self, tmp_path, monkeypatch, name: str) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / name).write_bytes(encode(QUARTERS))
        (source,) = iter_sources([name])
        assert load_frame(source).image.shape == QUARTERS.shape
        assert "\n" not in source.name

    def test_undecodable_name(self, tmp_path) -> None:
        raw = os.fsencode(tmp_path) + b"/\xff.jpg"
        try:
            with open(raw, "wb") as file:  # noqa: PTH123
                file.write(encode(QUARTERS))
        except OSError:
            pytest.skip("this file system takes Unicode only")
        (source,) = iter_sources([str(tmp_path)])
        assert source.name == "_"
        assert load_frame(source).image.shape == QUARTERS.shape

    def test_list_file(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg", "sub/b.jpg", "#c.jpg")
        lines = [tmp_path / "a.jpg", "", tmp_path / "sub", tmp_path / "#c.jpg", "nope[1].jpg"]
        list_file = tmp_path / "list.txt"
        list_file.write_text("\r\n".join(map(str, lines)))
        sources = list(iter_sources([], from_file=list_file))
        assert [s.name for s in sources] == ["a", "b", "#c", "nope[1]"]
        assert sources[-1].error == "no such file or folder"

    def test_unreadable_list_file(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            list(iter_sources([], from_file=tmp_path / "none.txt"))


class TestStandardInput:
    def test_one_image(self) -> None:
        (source,) = iter_sources(["-"], stdin=Pipe(encode(QUARTERS)))
        frame = load_frame(source)
        assert (frame.source, frame.name, frame.path) == ("standard input", "stdin", None)
        np.testing.assert_array_equal(frame.image, QUARTERS)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
    def test_formats_are_told_from_names(self, format: str) -> None:
        (source,) = iter_sources(["-"], stdin=Pipe(encode(QUARTERS, format)))
        assert source.data is not None

    @pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
    def test_names(self, tmp_path, separator: str) -> None:
        touch(tmp_path, "BM.jpg", "b.jpg")
        text = separator.join([str(tmp_path / "BM.jpg"), str(tmp_path / "b.jpg"), ""])
        sources = list(iter_sources(["-"], stdin=Pipe(text.encode())))
        assert [s.name for s in sources] == ["BM", "b"]

    def test_names_with_newlines_come_nul_separated(self, tmp_path) -> None:
        touch(tmp_path, "a\nb.jpg")
        text = f"{tmp_path}/a\nb.jpg\0".encode()
        (source,) = iter_sources(["-"], stdin=Pipe(text))
        assert source.path == tmp_path / "a\nb.jpg"

    def test_many_names(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        text = f"{tmp_path}/a.jpg\n".encode() * 5000
        assert sum(1 for _ in iter_sources(["-"], stdin=Pipe(text))) == 5000

    def test_nothing(self) -> None:
        with pytest.raises(NothingToDoError):
            list(iter_sources(["-"], stdin=Pipe(b"")))


# --- video --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Source:
    """20 frames at 10 a second; frame n is of brightness 10 n."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write videos")
    for number in range(20):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    (source,) = iter_sources([str(path)])
    return source


class TestVideo:
    def test_frames_have_index_time_and_name(self, clip) -> None:
        frames = list(iter_frames(clip))
        assert [f.index for f in frames] == list(range(20))
        np.testing.assert_allclose([f.time for f in frames], np.arange(20) / 10, atol=0.005)
        np.testing.assert_allclose([f.image.mean() for f in frames], 10 * np.arange(20), atol=4)
        assert {f.name for f in frames} == {"clip"}
        assert frames[0].image.shape == (48, 64, 3)

    def test_start_end_and_step(self, clip) -> None:
        frames = list(iter_frames(clip, start=0.45, end=1.5, step=4))
        assert [f.index for f in frames] == [5, 9, 13]

    def test_probe(self, clip) -> None:
        info = probe_video(clip)
        assert (info.width, info.height, info.frames, info.rate) == (64, 48, 20, 10.0)

    def test_rotation_flag_is_kept(self, clip, tmp_path) -> None:
        data = bytearray(clip.path.read_bytes())
        identity = b"".join(v.to_bytes(4, "big") for v in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0))
        quarter = b"".join(
            v.to_bytes(4, "big", signed=True) for v in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0)
        )
        track = data.find(identity, data.find(b"tkhd"))
        assert track > 0
        data[track : track + len(quarter)] = quarter
        turned = tmp_path / "turned.mp4"
        turned.write_bytes(bytes(data))
        (source,) = iter_sources([str(turned)])
        assert next(iter_frames(source)).image.shape == (64, 48, 3)

    def test_cut_short_gives_the_frames_that_are_there_or_one_sentence(self, clip, tmp_path):
        data = clip.path.read_bytes()
        for tenth in range(10):
            path = tmp_path / f"cut{tenth}.mp4"
            path.write_bytes(data[: len(data) * tenth // 10])
            (source,) = iter_sources([str(path)])
            with pytest.raises(InputError, match=rf"cut{tenth}\.mp4: "):
                list(iter_frames(source))

    def test_no_video(self, tmp_path) -> None:
        touch(tmp_path, "a.mp4")
        (source,) = iter_sources([str(tmp_path)])
        with pytest.raises(InputError, match="not a video"):
            next(iter_frames(source))
        with pytest.raises(InputError, match="no such video"):
            next(iter_frames(Source("b.mp4", "b", tmp_path / "b.mp4", kind="video")))

    def test_start_behind_the_end(self, clip) -> None:
        with pytest.raises(InputError, match="before --start"):
            list(iter_frames(clip, start=99))
        with pytest.raises(UsageError):
            next(iter_frames(clip, start=3, end=2))

    def test_frame_size_limit(self, clip) -> None:
        with pytest.raises(InputError, match="too large"):
            next(iter_frames(clip, max_pixels=100))
