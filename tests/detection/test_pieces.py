"""Long photos are searched piece by piece, each face once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fakes import FakeDetector
from PIL import Image
from shell import ROOT

from sadr_cli.detection import create_detector
from sadr_cli.detection.pieces import detect_in_pieces, pieces
from sadr_cli.faces import Detection


class Watching(FakeDetector):
    """The fake one, which notes what it is shown, and sees nothing small, as real ones."""

    def __init__(self, smallest: float = 0.0) -> None:
        self.seen: list[tuple[int, int]] = []
        self._smallest = smallest

    def detect(self, image):
        self.seen.append(image.shape[:2])
        least = self._smallest * max(image.shape[:2])
        return [d for d in super().detect(image) if d.size >= least]


def panorama(width: int, height: int, *faces: tuple[int, int, int]) -> np.ndarray:
    image = np.full((height, width, 3), 40, np.uint8)
    for x, y, side in faces:
        image[y : y + side, x : x + side] = 255
    return image


@pytest.mark.parametrize(
    ("length", "width"), [(20_000, 400), (20_000, 5000), (65_500, 64), (3300, 900), (10**6, 1000)]
)
def test_pieces_overlap_by_the_shorter_side_and_own_each_place_once(length, width) -> None:
    parts = pieces(length, width)
    assert len(parts) > 1 and parts[0][0].start == 0 and parts[-1][0].stop == length
    assert parts[0][1][0] == -np.inf and parts[-1][1][1] == np.inf
    for (a, (_, end)), (b, (begin, _)) in pairwise(parts):
        assert end == begin and a.stop - b.start >= width
        # A face of the shorter side's size with its middle in a span lies in that piece.
        assert end + width / 2 <= a.stop + 0.5 and begin - width / 2 >= b.start - 0.5
    assert {p.stop - p.start for p, _ in parts} == {parts[0][0].stop}


@pytest.mark.parametrize("shape", [(4000, 3000), (3200, 100), (12_000, 5000), (30_000, 2), (1, 1)])
def test_ordinary_photos_are_looked_at_as_a_whole(shape) -> None:
    detector = Watching()
    detect_in_pieces(detector.detect, np.zeros((*shape, 3), np.uint8))
    assert detector.seen == [shape]


@pytest.mark.parametrize("upright", [False, True])
def test_faces_of_all_places_and_sizes_once_each(upright: bool) -> None:
    faces = [(k * 517, 10 + k % 7 * 20, 60 + k % 5 * 40) for k in range(38)]
    faces += [(19_650, 20, 350)]
    image = panorama(20_000, 400, *faces)
    detector = Watching(smallest=0.02)  # of the whole none but the largest would be found
    if upright:
        image = image.transpose(1, 0, 2)
    found = detect_in_pieces(detector.detect, np.ascontiguousarray(image))
    assert len(found) == len(faces)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    boxes = {tuple(np.rint(d.box + 0.5).astype(int)) for d in found}
    corners = {(x, y, x + s, y + s) for x, y, s in faces}
    assert boxes == ({(b, a, d, c) for a, b, c, d in corners} if upright else corners)


def test_doubtful_faces_count_in_ordinary_photos_only() -> None:
    class Doubting(FakeDetector):
        def detect(self, image):
            return [Detection(np.array([10.0, 10, 60, 60]), 0.3)]

    assert len(detect_in_pieces(Doubting().detect, np.zeros((300, 400, 3), np.uint8))) == 1
    assert detect_in_pieces(Doubting().detect, np.zeros((300, 9000, 3), np.uint8)) == []


@pytest.mark.slow
def test_real_faces_of_a_panorama() -> None:
    detector = create_detector()
    photo = Image.open(ROOT / "examples" / "photos" / "hopper.jpg")
    small = photo.resize((photo.width * 200 // photo.height, 200))
    image = np.full((240, 12_000, 3), 128, np.uint8)
    places = [300, 5000, 11_800 - small.width]
    for x in places:
        image[20:220, x : x + small.width] = np.asarray(small)
    found = sorted(detector.detect(image), key=lambda d: d.box[0])
    assert len(found) == 3
    for x, detection in zip(places, found, strict=True):
        middle = (detection.box[:2] + detection.box[2:]) / 2
        assert x < middle[0] < x + small.width and 60 < detection.size < 160
        assert detection.points is not None
        inside = (detection.points >= detection.box[:2]) & (detection.points <= detection.box[2:])
        assert inside.all()
