from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor
from shell import ROOT

from sadr_cli import Reconstructor
from sadr_cli.crop import box_iou
from sadr_cli.detection import create_detector
from sadr_cli.faces import Crop
from sadr_cli.sources import Source, iter_frames
from sadr_cli.video.tracker import CutFinder, Tracker, overlap

CLIP = ROOT / "examples" / "faces.mp4"


class CountingDetector(FakeDetector):
    blind = False

    def __init__(self):
        self.calls = 0

    def detect(self, image):
        self.calls += 1
        return [] if self.blind else super().detect(image)


class Following(FakeReconstructor):
    """Finds the white square that is in the crop, as a network would; none: low confidence."""

    def reconstruct_crops(self, images, crops, detections=None):
        faces = []
        for image, crop in zip(images, crops, strict=True):
            ys, xs = np.nonzero(image.min(-1) > 200)
            if len(xs) < 10:
                faces.append(replace(self._face(crop, None), confidence=0.05))
                continue
            step = crop.size / 64
            x, y = (
                c - crop.size / 2 + (v.mean() + 0.5) * step
                for c, v in ((crop.center_x, xs), (crop.center_y, ys))
            )
            faces.append(self._face(Crop(x, y, 1.5 * step * np.sqrt(len(xs))), None))
        return faces


def picture(*faces, size=(240, 320), ground=40):
    image = np.full((*size, 3), ground, np.uint8)
    for x, y, side in faces:
        image[y : y + side, x : x + side] = 255
    return image


def tracker(**options):
    detector = CountingDetector()
    return Tracker(Following(), detector, **options), detector


def centre(item):
    return item.face.landmarks[:, :2].mean(0)


def test_identity_is_kept_and_the_detector_rests():
    track, detector = tracker(detect_every=1000)
    for k in range(30):
        found = track.step(picture((20 + 3 * k, 40, 40), (250 - 2 * k, 150, 50)))
        ours = {t.track: centre(t) for t in found}
        assert set(ours) == {1, 2} and [t.new for t in found] == [k == 0] * 2
        large, small = (1, 2) if abs(ours[1][1] - 175) < 40 else (2, 1)
        assert abs(ours[large][0] - (275 - 2 * k)) < 12 and abs(ours[small][0] - (40 + 3 * k)) < 12
    assert detector.calls == 1 == track.detections


def test_who_comes_later_is_found_and_who_leaves_ends():
    track, detector = tracker(detect_every=5)
    numbers = []
    for k in range(30):
        faces = [(30, 60, 40)] if k < 18 else []
        faces += [(180, 100, 50)] if k >= 8 else []
        numbers.append({t.track for t in track.step(picture(*faces))})
    assert numbers[0] == {1} and numbers[15] == {1, 2} and numbers[-1] == {2}
    assert {2} in numbers[18:22] and not numbers[-1] - set(track.alive)
    assert 4 <= detector.calls <= 10


def test_a_cut_begins_new_tracks():
    track, detector = tracker(detect_every=1000)
    for _ in range(5):
        assert [t.track for t in track.step(picture((30, 60, 40)))] == [1]
    found = track.step(picture((35, 62, 44), ground=190))  # another scene, same place
    assert [t.track for t in found] == [2] and found[0].new and detector.calls == 2


def test_largest_and_numbers_of_faces():
    for faces, count in (("largest", 1), (2, 2), ("all", 3)):
        track, _ = tracker(faces=faces, detect_every=2)
        for _ in range(6):
            found = track.step(picture((10, 20, 30), (80, 20, 40), (180, 20, 60)))
            assert len(found) == count
        assert {t.track for t in found} == set(range(1, count + 1))
    track, _ = tracker(faces="largest")
    assert abs(centre(track.step(picture((10, 20, 30), (180, 20, 60)))[0])[0] - 210) < 10


def test_a_detector_that_misses_a_sound_face_does_not_end_it():
    track, detector = tracker(detect_every=1)
    track.step(picture((30, 60, 40)))
    detector.blind = True
    ends = [len(track.step(picture((30, 60, 40)))) for _ in range(12)]
    assert ends[:5] == [1] * 5 and ends[-1] == 0


def test_no_face_looks_at_every_frame():
    track, detector = tracker()
    assert [track.step(picture()) for _ in range(4)] == [[]] * 4 and detector.calls == 4
    assert [t.track for t in track.step(picture((30, 60, 40)))] == [1]


def test_a_worse_second_pass_is_dropped():
    class Worse(Following):
        def reconstruct_crops(self, images, crops, detections=None):
            faces = super().reconstruct_crops(images, crops)
            sure = 0.9 if not self.log else 0.7  # the first pass, then the second
            self.log.append(len(crops))
            far = [replace(c, size=1.5 * c.size) for c in crops]  # of where the face is
            return [replace(f, confidence=sure, crop=c) for f, c in zip(faces, far, strict=True)]

    network = Worse()
    (found,) = Tracker(network, CountingDetector()).step(picture((30, 60, 40)))
    assert network.log == [1, 1] and found.face.confidence == 0.9


def test_two_tracks_on_one_face_become_one():
    track, _ = tracker(detect_every=1000)
    assert len(track.step(picture((20, 60, 40), (160, 60, 40)))) == 2
    for k in range(1, 20):  # the right one slides behind the left one
        x = max(160 - 8 * k, 20)
        found = track.step(picture((20, 60, 40), (x, 60, 40)))
    assert [t.track for t in found] == [1]


def test_cuts_are_told_from_motion_flashes_and_fades():
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (90, 160, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    other = rng.integers(0, 255, (90, 160, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    cuts = CutFinder()
    assert not any(cuts(np.roll(scene, 2 * k, 1)) for k in range(10))
    noisy = np.clip(scene.astype(int) + rng.normal(0, 20, scene.shape), 0, 255).astype(np.uint8)
    assert not cuts(noisy)
    dimmer = [(scene * f).astype(np.uint8) for f in np.linspace(1, 0.3, 20)]
    assert not any(cuts(f) for f in dimmer)
    cuts(scene)
    assert cuts(other) or cuts(255 - other)


def test_overlap():
    assert overlap(Crop(0, 0, 10), Crop(0, 0, 10)) == 1
    assert overlap(Crop(0, 0, 10), Crop(5, 0, 10)) == 1 / 3
    assert overlap(Crop(0, 0, 10), Crop(20, 0, 10)) == 0


def test_a_weak_frame_is_looked_at_again_at_once_and_the_better_face_kept():
    class Losing(Following):
        """Of low confidence where the face is far from the middle of its crop."""

        def reconstruct_crops(self, images, crops, detections=None):
            faces = super().reconstruct_crops(images, crops, detections)
            out = []
            for face, crop in zip(faces, crops, strict=True):
                away = np.hypot(*(face.landmarks[:, :2].mean(0) - (crop.center_x, crop.center_y)))
                sure = 0.5 if away > 0.15 * crop.size else 0.9
                # The landmarks stay behind, so that a second crop from them is no use.
                behind = replace(self._face(crop, None), confidence=sure, crop=crop)
                out.append(behind if sure < 0.9 else replace(face, crop=crop))
            return out

    detector = CountingDetector()
    track = Tracker(Losing(), detector, detect_every=1000)
    (first,) = track.step(picture((30, 60, 40)))
    (second,) = track.step(picture((50, 60, 40)))  # by half of its own size
    assert first.track == second.track and second.face.confidence == 0.9
    assert abs(centre(second)[0] - 70) < 6 and second.face.detection is not None
    assert detector.calls == track.detections == 2
    track.step(picture((52, 60, 40)))  # it is sound again: the detector rests
    assert detector.calls == 2


def test_what_neither_network_nor_detector_sees_is_no_face():
    track, _ = tracker(detect_every=1000)
    for shown, number in ((True, [1]), (False, []), (True, [1]), (False, []), (False, [])):
        found = track.step(picture((30, 60, 40)) if shown else picture())
        assert [t.track for t in found] == number and not any(t.new for t in found[1:])
    assert track.alive == []


def test_a_face_that_has_moved_far_is_cropped_again_in_its_frame():
    network = Following()
    network.looks = []
    look = network.reconstruct_crops

    def counted(images, crops, detections=None):
        network.looks.append([round(c.center_x) for c in crops])
        return [replace(f, crop=c) for f, c in zip(look(images, crops), crops, strict=True)]

    network.reconstruct_crops = counted
    track = Tracker(network, CountingDetector(), detect_every=1000)
    for x in (30, 32, 46):
        (found,) = track.step(picture((x, 60, 40)))
        assert abs(centre(found)[0] - (x + 19.5)) < 6
    assert [len(looks) for looks in network.looks] == [1, 1, 1, 1]  # the last frame twice


@pytest.mark.slow
def test_no_frame_of_the_example_differs_from_its_photo():
    """Nor one that the border cuts; without smoothing."""
    reconstructor = Reconstructor(device="cpu")
    detector = create_detector("centerface")
    followed = Tracker(reconstructor, detector)
    compared = 0
    for frame in iter_frames(Source("faces", "faces", CLIP, kind="video")):
        alone = reconstructor.reconstruct(frame.image)
        for item in followed.step(frame.image):
            photo = max(alone, key=lambda face: box_iou(face.box, item.face.box))
            assert box_iou(photo.box, item.face.box) > 0.5
            assert np.abs(np.subtract(photo.euler_yxz, item.face.euler_yxz)).max() < 2
            compared += 1
    assert compared >= 85
