"""The network over a benchmark: batches, resuming, misses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from evaluation_data import FakeNetwork, name_of, write_aflw2000, write_image

from sadr_cli.errors import InputError
from sadr_cli.evaluation import inference
from sadr_cli.evaluation.benchmarks.aflw2000 import PROTOCOL
from sadr_cli.evaluation.data import aflw2000, predictions
from sadr_cli.evaluation.inference import matching_detection, predict
from sadr_cli.evaluation.measures.metrics import box_size
from sadr_cli.evaluation.settings import Settings
from sadr_cli.faces import Detection


@pytest.fixture
def setup(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "PART", 2)
    faces = write_aflw2000(tmp_path / "data")
    return aflw2000.load(tmp_path / "data"), FakeNetwork(faces), tmp_path / "out" / "cache"


@dataclass
class BoxDetector:
    """Finds every true face but those named, and a false one beside it."""

    faces: list
    blind: tuple[int, ...] = ()
    name: str = "box"
    calls: int = 0

    def detect(self, image):
        which = self.calls
        self.calls += 1
        false = Detection(np.array([0.0, 0.0, 6.0, 6.0]), 0.99)
        return [false] + ([] if which in self.blind else [Detection(self.faces[which].box, 0.5)])


def test_faces_come_back_in_order(setup):
    benchmark, network, cache = setup
    done = []
    found = predict(benchmark, network, cache, dense=True, progress=done.append)
    np.testing.assert_allclose(found.landmarks, benchmark.landmarks, atol=1e-3)
    np.testing.assert_allclose(found.vertices[4], network.faces[4].vertices, atol=1e-3)
    assert sum(done) == 6
    # what was written is the documented npz
    again = predictions.load(cache.parent / "predictions.npz", benchmark)
    np.testing.assert_array_equal(again.landmarks, found.landmarks)
    np.testing.assert_array_equal(again.rotation, found.rotation)
    np.testing.assert_array_equal(again.landmarks_p, found.landmarks_p)


def test_the_face_before_self_alignment_is_kept_too(setup):
    benchmark, network, cache = setup
    found = predict(benchmark, network, cache)
    np.testing.assert_allclose(found.landmarks_p, benchmark.landmarks + 0.5, atol=1e-3)
    measured = PROTOCOL.score(benchmark, found, Settings("aflw2000"))
    want = 100 * np.sqrt(0.5) / box_size(benchmark.landmarks)  # half a pixel in x and in y
    np.testing.assert_allclose(measured.per_image["nme_2d_p"], want, rtol=1e-3)
    np.testing.assert_allclose(measured.per_image["nme_3d_p"], want, rtol=1e-3)  # depth apart
    assert measured.results["nme_2d_p"]["fitted"]["count"] == 6
    np.testing.assert_allclose(measured.per_image["nme_2d"], 0, atol=1e-3)


def test_a_finished_run_is_read_back_and_other_weights_are_not(setup):
    benchmark, network, cache = setup
    predict(benchmark, network, cache)
    calls = network.calls
    predict(benchmark, network, cache)
    assert network.calls == calls
    network.info.sha256 = "cd" * 32
    predict(benchmark, network, cache)
    assert network.calls == 2 * calls


def test_an_interrupted_run_goes_on_where_it_stopped(setup, monkeypatch):
    benchmark, network, cache = setup
    honest = network.reconstruct_crops

    def interrupted(images, crops, detections=None):
        if network.calls == 2:
            raise KeyboardInterrupt
        return honest(images, crops)

    network.reconstruct_crops = interrupted
    with pytest.raises(KeyboardInterrupt):
        predict(benchmark, network, cache)
    network.reconstruct_crops = honest
    network.calls = 0
    found = predict(benchmark, network, cache)
    assert network.calls == 1  # two of three parts were kept
    assert not found.missing.any()


def test_a_damaged_part_is_computed_again(setup):
    benchmark, network, cache = setup
    predict(benchmark, network, cache)
    part = next(iter(sorted(cache.rglob("part-*.npz"))))
    part.write_bytes(part.read_bytes()[:100])
    assert not predict(benchmark, network, cache).missing.any()


def test_a_truncated_image_stops_the_run_unless_allowed(setup):
    benchmark, network, cache = setup
    path = benchmark.images[3]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"image00003\.jpg cannot be read.*--allow-missing"):
        predict(benchmark, network, cache)
    found = predict(benchmark, network, cache, allow_missing=True)
    assert found.missing.tolist() == [False] * 3 + [True] + [False] * 2
    assert "cannot be read" in found.reasons[name_of(3)]
    write_image(path, 3)  # repaired: its part runs again, the others do not
    network.calls = 0
    assert not predict(benchmark, network, cache).missing.any()
    assert network.calls == 1


def test_a_face_the_detector_misses_is_a_miss(setup, monkeypatch):
    benchmark, network, cache = setup
    monkeypatch.setattr(inference.os, "cpu_count", lambda: 1)  # in order
    detector = BoxDetector(network.faces, blind=(1,))
    found = predict(benchmark, network, cache, detector=detector)
    assert found.reasons == {name_of(1): inference.NO_FACE}
    assert found.details == {"crop": "detector box"}
    good = ~found.missing
    np.testing.assert_allclose(found.landmarks[good], benchmark.landmarks[good], atol=1e-3)


def test_a_part_without_any_face_joins_the_others(setup, monkeypatch):
    benchmark, network, cache = setup
    monkeypatch.setattr(inference.os, "cpu_count", lambda: 1)  # in order
    detector = BoxDetector(network.faces, blind=(0, 1))  # the whole first part
    found = predict(benchmark, network, cache, detector=detector, dense=True)
    assert found.missing.tolist() == [True, True, False, False, False, False]
    assert np.isnan(found.vertices[:2]).all()
    np.testing.assert_allclose(found.vertices[3], network.faces[3].vertices, atol=1e-3)
    # read back from the cache, reasons and all
    again = predict(benchmark, network, cache, detector=detector, dense=True)
    assert again.reasons == found.reasons


def test_the_detection_at_the_true_face_counts(setup):
    truth = setup[0].landmarks[0]
    low, high = truth[:, :2].min(0), truth[:, :2].max(0)
    near = Detection(np.concatenate([low - 4, high + 4]), 0.3)
    far = Detection(np.concatenate([low + 200, high + 200]), 0.9)
    assert matching_detection([far, near], truth) is near
    assert matching_detection([far], truth) is None
    assert matching_detection([], truth) is None
