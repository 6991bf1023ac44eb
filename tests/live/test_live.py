"""A session on real and made videos in the place of a camera, without a display."""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
import time
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor
from shell import ROOT
from synthetic import posed_face
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.cli.live import parse_size
from sadr_cli.errors import InputError, OutputError, UsageError
from sadr_cli.live import window as windows
from sadr_cli.live.capture import Capture, open_capture
from sadr_cli.live.picture import SHOWN, Picture
from sadr_cli.live.record import Recorder
from sadr_cli.live.session import Session
from sadr_cli.render.overlay import draw_quickly
from sadr_cli.sources.camera import camera_number
from sadr_cli.sources.stream import Stream
from sadr_cli.video.writer import VideoWriter

CLIP = ROOT / "examples" / "faces.mp4"
SIDE = 64


def frame_picture(k: int = 0) -> np.ndarray:
    image = np.full((240, 320, 3), 40, np.uint8)
    image[80 : 80 + SIDE, 120 : 120 + SIDE] = 255
    return image


@pytest.fixture
def clip(tmp_path):
    """12 frames at 10 a second, one face that stands still."""
    path = tmp_path / "in" / "still.mp4"
    path.parent.mkdir()
    writer = VideoWriter(path, 10)
    for k in range(12):
        writer.write(frame_picture(), k / 10)
    writer.close()
    return path


class Screen:
    """Takes pictures; gives ``keys``, one after the other, from the ``after``-th picture on.

    before: how often it is asked for a key in vain, after a picture. upon: by key, the first
    picture after it was pressed.
    """

    def __init__(
        self, *keys: str, after: int = 2, close_after: int | None = None, before: int = 0
    ) -> None:
        self.pictures: list[np.ndarray] = []
        self.upon: dict[str, np.ndarray] = {}
        self._keys, self._after, self._close = list(keys), after, close_after
        self._before, self._asked, self._pressed = before, 0, ""
        self.closed = False

    def show(self, image):
        self.pictures.append(image)
        self.upon.setdefault(self._pressed, image)
        self._asked = 0
        self.closed = self._close is not None and len(self.pictures) >= self._close

    def key(self, seconds):
        time.sleep(0.001)
        self._asked += 1
        if len(self.pictures) >= self._after and self._keys and self._asked > self._before:
            self._pressed = self._keys.pop(0)
            return self._pressed
        return ""


def session(capture, screen=None, recorder=None, network=None, layers=SHOWN, **settings):
    network = network or FakeReconstructor()
    recorder = recorder or Recorder(None, None, None, lambda _: None)
    picture = Picture(network.uv, layers)
    return Session(capture, network, FakeDetector(), recorder, picture, screen, **settings)


def never() -> bool:
    return False


class TestFrames:
    def test_every_frame_of_a_file_is_done(self, clip):
        summary = session(open_capture(str(clip))).run(never)
        assert (summary.frames, summary.dropped, summary.tracks) == (12, 0, {1})

    def test_a_slow_machine_leaves_frames_out_only_when_asked(self, clip):
        slow = FakeReconstructor(seconds=0.3)
        summary = session(open_capture(str(clip), realtime=True), network=slow).run(never)
        assert summary.frames + summary.dropped == 12
        assert 1 <= summary.frames < 10

    def test_the_last_frame_of_a_file_is_never_left_out(self, clip, tmp_path):
        recorder = Recorder(None, tmp_path / "a.jsonl", None, lambda _: None)
        slow = FakeReconstructor(seconds=0.3)
        capture = open_capture(str(clip), realtime=True)
        session(capture, recorder=recorder, network=slow).run(never)
        recorder.close()
        assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[-1])["frame"] == 11

    def test_a_shown_file_is_no_faster_than_its_own_times(self, clip):
        began = time.perf_counter()
        session(open_capture(str(clip)), Screen()).run(never)
        assert time.perf_counter() - began > 1.0  # its last frame's time is 1.1 s

    def test_a_camera_that_goes_away_ends_the_session_and_is_named(self):
        def frames(*_):
            yield from open_capture(str(CLIP)).frames()
            raise InputError("camera 0 no longer delivers frames")

        capture = Capture("camera 0", "camera0", None, True, True, frames)
        summary = session(capture).run(never)
        assert summary.frames > 0
        assert summary.error == "camera 0 no longer delivers frames"

    def test_a_part_of_a_source(self, clip):
        source = open_capture(str(clip)).start(start=0.3, end=1.0, step=3)
        taken = []
        while not source.over:
            frame = source.take(0.2)
            if frame is not None:
                taken.append(frame.index)
        assert taken == [3, 6, 9]


class TestCamera:
    def test_its_pictures_are_those_that_opencv_gives_in_rgb(self, clip, monkeypatch):
        opened = []

        def capture(number):
            opened.append(number)
            return real(str(clip))

        real = cv2.VideoCapture
        monkeypatch.setattr(cv2, "VideoCapture", capture)
        camera = open_capture("/dev/video2", (640, 480))
        assert (opened, camera.name, camera.live, camera.dropping) == ([2], "camera2", True, True)
        frames = camera.frames()
        first, second = next(frames), next(frames)
        assert np.abs(first.image.astype(int) - frame_picture()).mean() < 3
        assert (first.time, first.index, second.index) == (0.0, 0, 1)
        assert second.time > 0
        with pytest.raises(InputError, match="camera 2 no longer delivers frames"):
            list(frames)

    def test_none_is_said_in_one_sentence(self):
        with pytest.raises(InputError, match="camera 997 cannot be opened"):
            open_capture("997")

    def test_what_is_a_camera(self):
        assert camera_number("0") == 0
        assert camera_number("/dev/video12") == 12
        assert camera_number("clip0.mp4") is None
        assert camera_number("/dev/sda1") is None

    def test_sizes(self):
        assert parse_size("1280x720") == (1280, 720)
        for wrong in ("1280", "0x0", "axb", "640x480x3"):
            with pytest.raises(UsageError, match="--size takes"):
                parse_size(wrong)


class TestStream:
    @pytest.fixture
    def address(self, clip, monkeypatch):
        monkeypatch.setattr("sadr_cli.sources.stream._TIMEOUT", 300.0)  # this machine may be busy

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        handler = functools.partial(Quiet, directory=str(clip.parent))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    def test_a_file_on_a_web_server_is_done_to_its_last_frame(self, address):
        capture = open_capture(f"{address}/still.mp4")
        assert (capture.name, capture.live, capture.rate) == ("still", False, 10)
        summary = session(capture).run(never)
        assert (summary.frames, summary.tracks) == (12, {1})

    def test_one_that_is_not_there(self, address):
        with pytest.raises(InputError, match="the stream cannot be opened"):
            open_capture(f"{address}/other.mp4")

    def test_a_password_is_never_shown(self, address):
        with pytest.raises(InputError) as caught:
            Stream(address.replace("//", "//me:secret@") + "/other.mp4")
        assert "secret" not in str(caught.value)
        assert address in str(caught.value)

    def test_a_playlist_opens_no_file_of_this_machine(self, address, clip):
        listing = clip.with_name("list.m3u8")
        listing.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(InputError):
            Stream(f"{address}/list.m3u8")


class TestWindow:
    def test_keys_switch_layers(self, clip):
        screen = Screen(" ", "m", "h", "f", "q", after=3)
        summary = session(open_capture(str(clip)), screen, layers=("mesh",)).run(never)
        assert summary.frames < 12
        stopped, bare, no_keys, no_rate = (screen.upon[key] for key in " mhf")
        middle = np.s_[80:144, 120:184]
        assert (stopped[middle] != bare[middle]).any()  # the mesh has gone
        assert (bare[middle] > 240).all()
        assert (bare[200:] != no_keys[200:]).any()
        assert (no_keys[:40] != no_rate[:40]).any()
        assert np.abs(no_rate.astype(int) - frame_picture()).max() < 20  # nothing drawn is left

    @pytest.mark.parametrize("place", [(60.0, 50.0), (-20.0, 30.0), (150.0, 90.0), (400.0, 0.0)])
    def test_a_mesh_is_drawn_where_its_face_is(self, uv, place):
        """Also where the border cuts it, or it has left the picture."""
        face = posed_face(uv)
        move = np.array([*place, 0]) - [*face.box[:2], 0]
        face = replace(face, vertices=face.vertices + move, landmarks=face.landmarks + move)
        image = np.full((200, 240, 3), 40, np.uint8)
        drawn = Picture(uv, ("mesh",)).draw(image, {1: face})
        whole = image.copy()
        draw_quickly(whole, face, uv, np.zeros(2), 1.0)
        assert np.abs(drawn.astype(int) - whole).max() <= 3
        assert (drawn != image).any() == (place[0] < 240)

    def test_a_stopped_session_waits(self, clip):
        screen = Screen(" ", *[""] * 50, " ", after=2)
        summary = session(open_capture(str(clip)), screen).run(never)
        assert summary.frames == 12

    @pytest.mark.parametrize("before", [3, 10])
    def test_it_may_be_stopped_while_a_picture_waits_for_its_time(self, clip, before):
        screen = Screen(" ", " ", before=before)
        assert session(open_capture(str(clip)), screen).run(never).frames == 12

    @pytest.mark.parametrize("screen", [Screen("q"), Screen("escape"), Screen(close_after=2)])
    def test_ends(self, clip, screen):
        assert session(open_capture(str(clip)), screen).run(never).frames < 12

    def test_no_display_is_said_before_anything_is_done(self, monkeypatch):
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "platform", "linux")
        result = CliRunner().invoke(app, ["live", str(CLIP)])
        assert result.exit_code == 5
        assert result.stderr.count("\n") == 1
        assert "there is no display here" in result.stderr
        assert "--no-window" in result.stderr

    def test_a_display_that_does_not_answer_is_said(self, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":987")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
        if "GTK" in str(getattr(cv2, "currentUIFramework", lambda: "")()):
            pytest.skip("this OpenCV has another window")
        with pytest.raises(windows.MissingDataError, match="cannot be opened"):
            windows.check_display()


class TestCommand:
    def go(self, *arguments):
        return CliRunner().invoke(app, ["live", *map(str, arguments)])

    def test_a_real_video_to_lines_and_a_recording(self, tmp_path):
        out, record = tmp_path / "o", tmp_path / "r" / "clip.mp4"
        result = self.go(
            CLIP, "--no-window", "--out", out, "--record", record, "--json", "--end", 0.3
        )
        assert result.exit_code == 0, result.stderr
        written = (out / "faces_landmarks.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in written]
        printed = [json.loads(line) for line in result.stdout.splitlines()]
        assert printed[:-1] == lines
        assert lines[0]["format"] == "sadr-video-landmarks"
        assert {line["track"] for line in lines[1:]} == {1, 2}
        assert np.shape(lines[1]["landmarks"]) == (68, 3)
        summary = printed[-1]["summary"]
        assert (summary["tracks"], summary["dropped"]) == (2, 0)
        with av.open(str(record)) as drawn, av.open(str(CLIP)) as plain:
            ours = list(drawn.decode(video=0))
            theirs = next(plain.decode(video=0))
        assert len(ours) == summary["frames"] == max(line["frame"] for line in lines[1:]) + 1
        assert (ours[0].width, ours[0].height) == (theirs.width, theirs.height)
        changed = np.abs(
            ours[0].to_ndarray(format="rgb24").astype(int) - theirs.to_ndarray(format="rgb24")
        ).max(-1)
        x, y = np.mean(lines[1]["landmarks"], 0)[:2].astype(int)
        assert changed[y - 20 : y + 20, x - 20 : x + 20].mean() > 30  # the face is drawn on
        assert changed[:20].mean() < 10  # what lies around is not; nor are the keys

    def test_recordings_are_not_replaced_unasked(self, tmp_path):
        (tmp_path / "a.mp4").write_text("mine")
        (tmp_path / "faces_landmarks.jsonl").write_text("mine")
        for option in (("--record", tmp_path / "a.mp4"), ("--out", tmp_path)):
            result = self.go(CLIP, "--no-window", *option)
            assert (result.exit_code, "--overwrite" in result.stderr) == (2, True)
        assert (tmp_path / "a.mp4").read_text() == "mine"

    def test_a_recording_is_an_mp4(self, tmp_path):
        result = self.go(CLIP, "--no-window", "--record", tmp_path / "a.avi")
        assert (result.exit_code, "should end in .mp4" in result.stderr) == (2, True)

    def test_without_a_window_there_must_be_something_to_do(self):
        result = self.go(CLIP, "--no-window")
        assert (result.exit_code, "leaves nothing to do" in result.stderr) == (2, True)

    def test_a_source_that_is_not_there(self, tmp_path):
        result = self.go("gone.mp4", "--no-window", "--out", tmp_path / "o")
        assert (result.exit_code, "gone.mp4" in result.stderr) == (3, True)
        assert not (tmp_path / "o").exists()

    def test_a_video_without_a_face_is_code_4(self, tmp_path):
        path = tmp_path / "empty.mp4"
        writer = VideoWriter(path, 10)
        for k in range(3):
            writer.write(np.full((96, 128, 3), 90, np.uint8), k / 10)
        writer.close()
        result = self.go(path, "--no-window", "--out", tmp_path / "o")
        assert result.exit_code == 4
        assert "0 tracks in 3 frames" in result.stderr


class TestRecorder:
    def test_what_was_recorded_before_a_fault_is_kept(self, tmp_path):
        with (
            pytest.raises(RuntimeError),
            Recorder(tmp_path / "a.mp4", None, None, lambda _: None) as recorder,
        ):
            recorder.show(frame_picture(), 0.0)
            raise RuntimeError
        with av.open(str(tmp_path / "a.mp4")) as video:
            assert len(list(video.decode(video=0))) == 1

    def test_a_disk_that_cannot_leaves_nothing_half_written(self, tmp_path):
        with (
            pytest.raises(OutputError),
            Recorder(tmp_path / "a.mp4", None, None, lambda _: None) as recorder,
        ):
            recorder.show(frame_picture(), 0.0)
            raise OutputError("the disk is full")
        assert list(tmp_path.iterdir()) == []
