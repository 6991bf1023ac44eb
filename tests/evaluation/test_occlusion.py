from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from evaluation_data import FakeNetwork, write_aflw2000

from sadr_cli.errors import InputError
from sadr_cli.evaluation.data import aflw2000
from sadr_cli.evaluation.measures import occlusion
from sadr_cli.evaluation.measures.occlusion import add_occluder, measure

BOX = np.array([20.0, 20.0, 100.0, 100.0])
GREY = np.full((128, 128, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("occlusion") / "data"
    faces = write_aflw2000(folder)[:5]  # without the one that looks upwards by 120 degrees
    (folder / "image00005.jpg").unlink()
    (folder / "image00005.mat").unlink()
    return aflw2000.load(folder), faces


@dataclass
class Oracle(FakeNetwork):
    """Sees the occluder exactly: it compares the crop with the one before it was covered."""

    blind: bool = False

    def reconstruct_crops(self, images, crops, detections=None):
        faces = super().reconstruct_crops(images, crops)
        if self.blind:
            return [replace(f, attention=np.ones((8, 8))) for f in faces]
        half = len(images) // 3
        out = []
        for k, face in enumerate(faces):
            clean, now = images[k % half].astype(int), images[k].astype(int)
            free = (np.abs(clean - now).max(2) == 0).astype(np.float32)
            sample = self.samples[k % half]
            seen = cv2.resize(
                sample.face.astype(np.float32) * free, (8, 8), interpolation=cv2.INTER_AREA
            )
            column, row = np.clip(np.rint(sample.landmarks[:, :2]).astype(int), 0, 63).T
            visible = ~sample.turned & (free[row, column] > 0)
            out.append(
                replace(
                    face,
                    attention=seen,
                    landmark_visibility=visible.astype(float),
                    landmarks=face.landmarks + (1.0, 1.5, 2.0)[k // half],
                )
            )
        return out


def test_the_occluder_lies_on_the_face_and_nothing_else_changes():
    for seed in range(20):
        covered, mask = add_occluder(GREY, BOX, np.random.default_rng(seed))
        assert (covered[~mask] == 90).all()
        assert 0.01 < mask[20:100, 20:100].mean() < 0.6


def test_the_larger_occluder_covers_a_third_of_the_face():
    y, x = np.mgrid[:128, :128]
    face = np.hypot(x - 60, (y - 60) / 1.3) < 40
    for seed in range(20):
        covered, mask = add_occluder(GREY, BOX, np.random.default_rng(seed), face)
        assert (covered[~mask] == 90).all()
        assert mask[face].mean() == pytest.approx(1 / 3, abs=0.01)


def test_the_seed_decides_about_the_occluder():
    one, again, other = (add_occluder(GREY, BOX, np.random.default_rng(s))[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_a_network_that_sees_everything_scores_one(setup, monkeypatch):
    benchmark, faces = setup
    network = Oracle(faces)
    network.samples = [occlusion.make_sample(benchmark, i, network, None, 0) for i in range(5)]
    figures = measure(benchmark, network)["figures"]
    # an occluder may by chance have a pixel's own colour
    assert figures["attention IoU, occluded"] > 0.95
    assert figures["attention IoU, without occluder"] == 1
    assert figures["landmark visibility accuracy"] > 0.97
    assert figures["NME ratio occluded / without"] == pytest.approx(1.5)
    assert 0 < figures["share of the face covered"] < 0.6
    assert figures["attention IoU, a third covered"] > 0.9
    assert figures["NME ratio a third covered / without"] == pytest.approx(2.0)
    assert figures["share of the face covered by the larger occluder"] == pytest.approx(
        1 / 3, abs=0.03
    )


def test_a_blind_network_does_not(setup):
    benchmark, faces = setup
    result = measure(benchmark, Oracle(faces, blind=True))
    assert result["figures"]["attention IoU, occluded"] < 0.8
    assert result["images"] == 5
    assert "seed 0" in result["protocol"]


def test_images_that_are_not_there_count(setup):
    benchmark, faces = setup
    gone = replace(benchmark, images=(None, *benchmark.images[1:]))
    with pytest.raises(InputError, match="no image of image00000"):
        measure(gone, Oracle(faces, blind=True))
    assert measure(gone, Oracle(faces, blind=True), allow_missing=True)["skipped"] == 1
