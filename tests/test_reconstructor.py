from __future__ import annotations

import numpy as np
import pytest
import torch

from sadr_cli.crop import crop_to_image
from sadr_cli.errors import InputError, UsageError
from sadr_cli.faces import Crop, Detection
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.device import select_device
from sadr_cli.model.network import NetworkConfig, NetworkOutput, SADRNet
from sadr_cli.pose import euler_to_matrix, in_plane_angle, wrapped
from sadr_cli.reconstructor import Reconstructor
from sadr_cli.uv import UVLayout


@pytest.fixture(scope="module")
def small(uv: UVLayout) -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(SADRNet(NetworkConfig(64, 64, 0.25)).eval(), uv, name="small")


@pytest.fixture
def reconstructor(small: Checkpoint) -> Reconstructor:
    return Reconstructor(small, device="cpu", batch_size=3, runtime="torch")


def crops(count: int, side: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


PLACES = [Crop(100 + 10 * i, 80.5, 60 + 7 * i) for i in range(7)]


def exact_output(uv: UVLayout, yaw: float) -> NetworkOutput:
    """What a perfect network says of the mean face at a known pose, in a 256-pixel crop."""
    shape = torch.from_numpy(np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)).float()
    posed = 70 * torch.einsum(
        "ij,jhw->ihw", torch.from_numpy(euler_to_matrix(yaw, 8, -4)).float(), shape
    )
    posed = posed * torch.tensor([1.0, -1, 1]).view(3, 1, 1)
    posed[:2] += 127.5
    return NetworkOutput(
        pose_map=posed[None] / 280,
        shape_map=torch.zeros(1, 3, 256, 256),
        attention=torch.full((1, 1, 8, 8), 9.0),
        features=torch.zeros(1, 1, 1, 1),
    )


@pytest.mark.parametrize("angle", [0.0, 31.0, 90.0, 180.0, -120.0])
def test_a_perfect_network_gives_the_exact_face_in_photo_pixels(
    reconstructor: Reconstructor, uv: UVLayout, monkeypatch, angle: float
) -> None:
    output = exact_output(uv, 35.0)
    crop = Crop(300, 200, 512, angle)
    monkeypatch.setattr(reconstructor, "runner", _Constant(output, reconstructor))
    face = reconstructor.reconstruct_crops(crops(1), [crop])[0]
    maps = output.pose_map[0].permute(1, 2, 0).numpy()[uv.mask] * 280
    assert np.allclose(face.vertices, crop_to_image(maps, crop, 256), atol=0.02)
    assert np.allclose(face.pose_face, crop_to_image(maps, crop, 256), atol=0.02)
    assert np.allclose(face.shape, uv.mean_shape, atol=1e-5)
    in_the_crop = euler_to_matrix(35, 8, -4)
    assert np.allclose(face.rotation, euler_to_matrix(0, 0, angle) @ in_the_crop, atol=2e-4)
    assert face.turn == pytest.approx(wrapped(in_plane_angle(in_the_crop) + angle), abs=0.01)
    assert face.scale == pytest.approx(140, rel=1e-4)
    up = face.scale * face.shape @ face.rotation.T + face.translation
    assert np.allclose(up * (1, -1, 1), face.vertices, atol=0.02)
    assert face.confidence > 0.99
    assert (face.landmarks == face.vertices[uv.landmark_indices]).all()


class _Constant:
    """Stands for a network whose answer is known."""

    def __init__(self, output: NetworkOutput, like: Reconstructor) -> None:
        self.output, self.config = output, like.network.config

    def __call__(self, x: torch.Tensor) -> NetworkOutput:
        return NetworkOutput(
            *(t if t is None else t.expand(len(x), *t.shape[1:]) for t in self.output)
        )


def test_records_are_complete_and_consistent(reconstructor: Reconstructor, uv: UVLayout) -> None:
    detection = Detection(np.array([70.0, 50, 130, 120]), 0.9, detector="centerface")
    face = reconstructor.reconstruct_crops(crops(1), PLACES[:1], [detection])[0]
    v = uv.vertex_count
    assert face.vertices.shape == face.pose_face.shape == face.shape.shape == (v, 3)
    assert face.visibility.shape == (v,)
    assert face.landmark_visibility.shape == face.landmark_confidence.shape == (68,)
    assert face.attention.shape == (8, 8)
    for values in (face.visibility, face.landmark_confidence, face.attention):
        assert values.min() >= 0
        assert values.max() <= 1
    assert np.linalg.det(face.rotation) == pytest.approx(1, abs=1e-4)
    assert face.detection is detection
    assert face.crop == PLACES[0]


def test_batches_change_nothing(small: Checkpoint) -> None:
    images = crops(7)
    one = Reconstructor(small, "cpu", 1, runtime="torch").reconstruct_crops(images, PLACES)
    many = Reconstructor(small, "cpu", 4, runtime="torch").reconstruct_crops(images, PLACES)
    for a, b in zip(one, many, strict=True):
        assert np.abs(a.vertices - b.vertices).max() < 1e-2
        np.testing.assert_array_equal(a.vertices, b.vertices)


def test_memory_running_out_halves_the_batch_and_loses_nothing(
    reconstructor: Reconstructor, monkeypatch
) -> None:
    run = reconstructor._run
    sizes = []

    def limited(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(batch)

    reconstructor.batch_size = 7
    monkeypatch.setattr(reconstructor, "_run", limited)
    assert len(reconstructor.reconstruct_crops(crops(7), PLACES)) == 7
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert reconstructor.batch_size == 1


def test_no_crops_give_no_faces(reconstructor: Reconstructor) -> None:
    assert reconstructor.reconstruct_crops([], []) == []


def test_arrays_of_the_wrong_kind_are_named(reconstructor: Reconstructor) -> None:
    with pytest.raises(UsageError, match="takes"):
        reconstructor.reconstruct_crops(crops(1, side=65), PLACES[:1])
    with pytest.raises(UsageError, match="2 images but 1 crops"):
        reconstructor.reconstruct_crops(crops(2), PLACES[:1])
    with pytest.raises(InputError, match="uint8 RGB"):
        reconstructor.reconstruct(np.zeros((50, 50), np.uint8))
    with pytest.raises(InputError, match="float64"):
        reconstructor.reconstruct(np.zeros((50, 50, 3)))


def test_second_pass_crops_from_the_first_passes_landmarks(
    reconstructor: Reconstructor, uv: UVLayout, monkeypatch
) -> None:
    monkeypatch.setattr(reconstructor, "runner", _Constant(exact_output(uv, 0), reconstructor))
    photo = np.zeros((300, 400, 3), np.uint8)
    given = Detection(np.array([100.0, 100, 180, 200]))
    first = Reconstructor(reconstructor.checkpoint, device="cpu", two_pass=False, runtime="torch")
    monkeypatch.setattr(first, "runner", reconstructor.runner)
    landmarks = first.reconstruct(photo, [given])[0].landmarks
    face = reconstructor.reconstruct(photo, [given])[0]
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    assert face.crop.size == pytest.approx(1.5 * (high - low).mean())
    assert (face.crop.center_x, face.crop.center_y) == pytest.approx(tuple((low + high) / 2))


@pytest.mark.parametrize("name", ["cuda:99", "abacus", "meta"])
def test_devices_that_are_not_there_are_named(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        select_device(name)


def test_bad_settings_are_named(small: Checkpoint) -> None:
    with pytest.raises(UsageError, match="batch size"):
        Reconstructor(small, device="cpu", batch_size=0)
    with pytest.raises(UsageError, match="paper or official"):
        Reconstructor(small, device="cpu", alignment="icp")
