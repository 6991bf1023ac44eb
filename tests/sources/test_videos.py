from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_videos import write_avi, write_video
from memory import peak_growth

from sadr_cli.errors import InputError, UsageError
from sadr_cli.sources import Source, iter_frames, iter_sources, probe_video


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
        (tmp_path / "a.mp4").write_bytes(b"x")
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


def source(path) -> Source:
    return next(iter(iter_sources([str(path)])))


CODECS = {
    "a.mp4": "libx264",
    "a.mkv": "libx264",
    "a.ts": "libx264",
    "a.avi": "mjpeg",
    "a.webm": "libvpx-vp9",
    "a.wmv": "wmv2",
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: write_video(folder / name, codec) for name, codec in CODECS.items()}


class TestContainers:
    @pytest.mark.parametrize("name", CODECS)
    def test_frames_in_order_with_their_times(self, videos, name: str) -> None:
        frames = list(iter_frames(source(videos[name])))
        np.testing.assert_allclose([f.time for f in frames], np.arange(20) / 10, atol=1e-3)
        np.testing.assert_allclose([f.image.mean() for f in frames], 10 * np.arange(20), atol=4)

    @pytest.mark.parametrize("name", CODECS)
    def test_recordings_that_broke_off(self, videos, tmp_path, name: str) -> None:
        """Of a file cut anywhere the frames that are there, or one sentence."""
        data, most = videos[name].read_bytes(), 0
        for tenth in range(1, 10):
            path = tmp_path / f"{tenth}{name}"
            path.write_bytes(data[: len(data) * tenth // 10])
            try:
                frames = list(iter_frames(source(path)))
            except InputError as error:
                assert str(error).startswith(f"{path}: ")
                continue
            assert len(frames) >= most
            most = len(frames)
            assert all(b.time > a.time for a, b in pairwise(frames))
        assert most > 0 or name == "a.mp4"

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_a_recording_without_its_index(self, videos, tmp_path, share: float) -> None:
        data = videos["a.mp4"].read_bytes()
        (tmp_path / "a.mp4").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=r"a\.mp4: cut short: its index, which comes last"):
            list(iter_frames(source(tmp_path / "a.mp4")))

    @pytest.mark.parametrize(
        ("codec", "options"),
        [
            ("mpeg4", {"bf": "2", "b_strategy": "0"}),
            ("libx264", {"bf": "3", "b_strategy": "0", "preset": "fast"}),
        ],
    )
    def test_b_frames_in_avi_have_the_times_they_are_shown_at(self, tmp_path, codec, options):
        path = write_video(tmp_path / "a.avi", codec, **options)
        frames = list(iter_frames(source(path)))
        np.testing.assert_allclose([f.time for f in frames], np.arange(20) / 10, atol=1e-6)
        np.testing.assert_allclose([f.image.mean() for f in frames], 10 * np.arange(20), atol=6)
        assert [f.index for f in iter_frames(source(path), start=0.5, end=1.0)] == [5, 6, 7, 8, 9]

    def test_times_begin_with_the_video(self, tmp_path) -> None:
        """Broadcasts begin at any time."""
        path = write_video(tmp_path / "a.ts", "libx264", muxdelay="0")
        data = bytearray(path.read_bytes())
        assert next(iter_frames(source(path))).time == 0.0 and data

    def test_a_song_with_a_cover_is_no_video(self, tmp_path) -> None:
        path = tmp_path / "song.mp4"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=8000)
            for start in range(0, 8192, 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts = 8000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
        with pytest.raises(InputError, match="holds no video stream"):
            next(iter_frames(source(path)))

    def test_no_file_leads_to_others(self, videos, tmp_path) -> None:
        """FFmpeg reads lists of files, and plays from the network."""
        for name, text in {
            "a.mp4": f"ffconcat version 1.0\nfile '{videos['a.mkv']}'\n",
            "b.ts": f"#EXTM3U\n#EXTINF:2,\nfile://{videos['a.ts']}\n#EXT-X-ENDLIST\n",
            "c.mkv": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{videos['a.ts']}\n",
        }.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(InputError, match="not a video"):
                next(iter_frames(source(tmp_path / name)))

    @pytest.mark.parametrize("name", ["a:b.mp4", "50%d.mp4", "http:x.mp4", "-i.mp4", "a\nb.mp4"])
    def test_odd_names(self, videos, tmp_path, monkeypatch, name: str) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / name).write_bytes(videos["a.mp4"].read_bytes())
        assert len(list(iter_frames(source(name)))) == 20


def read_small(path: Path) -> None:
    for _ in iter_frames(source(path), max_pixels=1_000_000):
        pass


class TestSizes:
    SMALL = np.full((48, 64, 3), 90, np.uint8)

    def test_a_frame_far_larger_than_the_others_is_not_decoded(self, tmp_path) -> None:
        huge = np.full((4000, 4000, 3), 200, np.uint8)
        path = write_avi(tmp_path / "a.avi", [self.SMALL] * 3 + [huge] + [self.SMALL] * 2)
        frames = list(iter_frames(source(path), max_pixels=1_000_000))
        assert [f.image.shape for f in frames] == [(48, 64, 3)] * 5
        said = "1 frame left out: damaged, or larger than 1 megapixels (--max-pixels)"
        assert [f.notes for f in frames] == [()] * 4 + [(said,)]
        np.testing.assert_allclose([f.time for f in frames], [0, 0.1, 0.2, 0.4, 0.5])
        assert peak_growth(read_small, path) < 24e6 < huge.nbytes
        path = write_avi(tmp_path / "b.avi", [huge])
        with pytest.raises(InputError, match=r"b\.avi: .*larger than 1 megapixels \(--max-pixels"):
            list(iter_frames(source(path), max_pixels=1_000_000))

    def test_smaller_and_larger_frames_are_fitted_into_the_first(self, tmp_path) -> None:
        half, twice = self.SMALL[::2, ::2], np.full((96, 64, 3), 90, np.uint8)
        path = write_avi(tmp_path / "a.avi", [self.SMALL, half, twice])
        first, second, third = iter_frames(source(path))
        assert first.notes == third.notes == ()
        assert second.notes == ("frames of 32 x 24 among those of 64 x 48: fitted into these",)
        assert first.image.shape == second.image.shape == third.image.shape
        assert np.abs(second.image.astype(int) - 90).max() < 8
        columns = third.image.mean((0, 2))  # as high as the picture, half as wide
        assert columns[:15].max() < 8 and columns[17:47].min() > 80 and columns[49:].max() < 8
