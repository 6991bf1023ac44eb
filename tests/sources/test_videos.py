from __future__ import annotations

import cv2
import numpy as np
import pytest

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
