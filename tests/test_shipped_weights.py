"""The weights in ``weights/`` on the photos in ``examples/photos``: what a newcomer sees first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import photo
from safetensors import safe_open

from sadr_cli import Face, Reconstructor
from sadr_cli.faces import LOW_CONFIDENCE
from sadr_cli.model.checkpoint import find_weights, load_checkpoint

WEIGHTS = Path(__file__).parents[1] / "weights"
FACES = {"astronaut": 1, "astronaut_occluded": 1, "hopper": 1, "hopper_turned": 1, "group": 6}
EYES, MOUTH = slice(36, 48), slice(48, 68)


@pytest.fixture(scope="module")
def reconstructor() -> Reconstructor:
    return Reconstructor(WEIGHTS / "mobile.safetensors", device="cpu")


@pytest.fixture(scope="module")
def faces(reconstructor: Reconstructor) -> dict[str, list[Face]]:
    return {name: reconstructor.reconstruct(photo(name)) for name in FACES}


def test_every_face_is_found_and_believed(faces) -> None:
    assert {name: len(found) for name, found in faces.items()} == FACES
    believed = [face for found in faces.values() for face in found]
    smallest = min(believed, key=lambda face: face.detection.size)
    assert smallest.detection.size < 32  # a print of the group, too coarse to be sure of
    believed.remove(smallest)
    for face in believed:
        assert face.confidence > LOW_CONFIDENCE, face.euler
        assert face.warnings == (), face.euler


def test_landmarks_agree_with_the_detectors_points(faces) -> None:
    """Eyes, nose tip and mouth corners of two independent networks, in box sizes."""
    groups = [range(36, 42), range(42, 48), [30], [48], [54]]
    for name, found in faces.items():
        for face in found:
            ours = np.stack([face.landmarks[list(g), :2].mean(0) for g in groups])
            gap = np.linalg.norm(ours - face.detection.points, axis=1) / face.detection.size
            assert gap.mean() < 0.09, name


def test_a_turned_photo_turns_the_pose(faces) -> None:
    """``hopper_turned`` is ``hopper`` turned by 35 degrees counter-clockwise."""
    before, after = faces["hopper"][0], faces["hopper_turned"][0]
    assert after.euler[2] - before.euler[2] == pytest.approx(-35, abs=7)
    for face in (before, faces["astronaut"][0]):
        assert np.abs(face.euler).max() < 15


def test_what_the_scarf_hides_is_told(faces) -> None:
    clear, hidden = faces["astronaut"][0], faces["astronaut_occluded"][0]
    assert clear.landmark_visibility[EYES].mean() > 0.8
    assert clear.landmark_visibility[MOUTH].mean() > 0.8
    assert hidden.landmark_visibility[EYES].mean() > 0.8
    assert hidden.landmark_visibility[MOUTH].mean() < 0.4
    # The face behind the scarf is the same one.
    gap = np.linalg.norm((hidden.landmarks - clear.landmarks)[:, :2], axis=1).mean()
    assert gap / clear.detection.size < 0.09


def test_sizes_of_one_face_in_a_group_photo(faces) -> None:
    """Six prints: detector box and reconstructed face shrink together."""
    ratio = [np.ptp(f.landmarks[:, 1]) / f.detection.size for f in faces["group"]]
    assert np.ptp(ratio) / np.mean(ratio) < 0.25


def test_the_file_describes_itself() -> None:
    path = find_weights(None)
    assert path.name == "mobile.safetensors"
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["sadr"])
    assert "research only" in about["license"]
    assert about["provenance"]["samples"] > 100_000
    numbers = sum(p.numel() for p in load_checkpoint(path).network.parameters())
    assert path.stat().st_size < 2 * numbers + 1e6  # half precision; a million for the template
