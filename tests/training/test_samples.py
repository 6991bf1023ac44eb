"""Augmentation, occluders and turned samples on the made-up face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sadr_cli.model.network import NetworkConfig
from sadr_cli.training import augment, occluders
from sadr_cli.training.augment import AugmentConfig, Draws
from sadr_cli.training.dataset import PhotoSet, load_shards, trusted
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.profiling import yaw_of
from sadr_cli.training.synthesis import SampleMaker

CPU = torch.device("cpu")
NET = NetworkConfig(64, 32, 0.25)
NOTHING = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
EVERYTHING = AugmentConfig(blur=0.5, low_resolution=0.5, jpeg=0.5, profiling=0.5, occlusion=1.0)


def draws(seed: int = 0) -> Draws:
    return Draws(CPU, torch.Generator().manual_seed(seed))


def maker(model, shard, config: AugmentConfig, seed: int = 0, side: int = 160) -> SampleMaker:
    photos = load_shards([shard], side)
    generator = torch.Generator().manual_seed(seed)
    return SampleMaker(photos, UVGrid(model, 32, CPU), NET, config, generator=generator)


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(astronaut[:256, 100:356])


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()).float()


@pytest.mark.parametrize("quality", [20, 50, 75])
def test_jpeg_does_what_a_jpeg_file_does(picture, quality) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    file = cv2.imencode(".jpg", picture[:, :, ::-1], options)[1]
    real = cv2.imdecode(file, cv2.IMREAD_COLOR)[:, :, ::-1].astype(float)
    ours = augment.jpeg(tensor(picture), torch.tensor([float(quality)]))[0]
    got = ours.numpy().transpose(1, 2, 0)
    damage = np.abs(real - picture).mean()
    # Files hold whole numbers, so some coefficients fall into the neighbouring step.
    assert np.abs(got - real).mean() < 0.45 * damage
    assert np.abs(got - picture).mean() == pytest.approx(damage, rel=0.03)


def test_blur_is_gaussian(picture) -> None:
    both = tensor(picture).repeat(2, 1, 1, 1)
    got = augment.blurred(both, torch.tensor([0.8, 2.0]))
    for i, sigma in enumerate((0.8, 2.0)):
        real = cv2.GaussianBlur(picture.astype(np.float32), (13, 13), sigma,
                                borderType=cv2.BORDER_REPLICATE)  # fmt: skip
        assert np.abs(got[i].numpy().transpose(1, 2, 0) - real).max() < 0.05


@pytest.mark.parametrize("name", ["channel", "grey", "blur", "low_resolution", "noise", "jpeg"])
def test_every_change_of_the_picture_can_be_had_alone(picture, name) -> None:
    images = tensor(picture).repeat(16, 1, 1, 1)
    config = AugmentConfig(**{**NOTHING.__dict__, name: 1.0 if name != "channel" else 0.4})
    out = augment.degrade(images.clone(), config, draws())
    assert (out - images).abs().mean((1, 2, 3)).mean() > 0.5
    assert ((out - images).abs().amax((1, 2, 3)) > 0.5).all()
    assert out.min() >= 0
    assert out.max() <= 255
    untouched = augment.degrade(images.clone(), NOTHING, draws())
    assert torch.equal(untouched, images)
    if name == "grey":
        assert (out[:, 0] - out[:, 2]).abs().max() < 1e-3


def test_samples_of_a_seed_are_the_same_again(model, shard) -> None:
    index = torch.arange(12)
    first = maker(model, shard, EVERYTHING, 3)
    a, more = first(index), first(index)
    b = maker(model, shard, EVERYTHING, 3)(index)
    c = maker(model, shard, EVERYTHING, 4)(index)
    for key in ("images", "pose_map", "attention", "landmarks"):
        assert torch.equal(getattr(a, key), getattr(b, key)), key
        assert not torch.equal(getattr(a, key), getattr(c, key)), key
        assert not torch.equal(getattr(a, key), getattr(more, key)), key


def test_turned_samples_are_turned_and_the_others_are_not(model, shard) -> None:
    config = AugmentConfig(**{**NOTHING.__dict__, "profiling": 0.5})
    plain, turned = maker(model, shard, NOTHING), maker(model, shard, config)
    index = torch.arange(12)
    a, b = plain(index), turned(index)
    before, after = (yaw_of(x.pose[:, :, :3] / x.pose[:, :1, :3].norm(dim=2, keepdim=True))
                     for x in (a, b))  # fmt: skip
    assert (after.abs()[:6] > before.abs()[:6] + 3).all()
    assert torch.allclose(before[6:], after[6:], atol=1e-3)
    assert torch.equal(a.images[6:], b.images[6:])
    assert torch.equal(a.shape_map, b.shape_map)  # S does not change with the pose


def test_attention_is_the_projected_face_without_what_is_beyond_the_photo(model, shard) -> None:
    m = maker(model, shard, NOTHING)
    whole = m(torch.arange(12))
    m.photos.images[:, 3, :80] = 0  # the upper half was never photographed
    half = m(torch.arange(12))
    assert (half.attention <= whole.attention).all()
    rows = whole.attention.sum((1, 3)) > 0
    assert rows.any()
    for i in range(12):
        inside = half.images[i].amax(0) > 0
        cells = F.adaptive_avg_pool2d(inside[None].float(), 8)[0]
        assert not (half.attention[i, 0] * (cells < 0.4)).any()
        x, y = ((whole.landmarks[i, :, :2] + 0.5) / 32).floor().long().clamp(0, 7).T
        assert whole.attention[i, 0, y, x].mean() > 0.75


FACE = torch.zeros(68, 2)
# A frontal face of 300-W landmarks, coarse: jaw, brows, nose, eyes, mouth.
_angle = torch.linspace(np.pi, 0, 17)
FACE[:17] = torch.stack([128 + 80 * _angle.cos(), 110 + 90 * _angle.sin()], 1)
FACE[17:27] = torch.stack([torch.linspace(60, 196, 10), torch.full((10,), 80.0)], 1)
FACE[27:36] = torch.stack([torch.full((9,), 128.0), torch.linspace(100, 150, 9)], 1)
FACE[36:42] = torch.tensor([[70, 100], [80, 95], [90, 95], [100, 100], [90, 105], [80, 105.0]])
FACE[42:48] = FACE[36:42].flip(0) * torch.tensor([-1, 1]) + torch.tensor([256, 0])
FACE[45], FACE[42] = torch.tensor([186.0, 100]), torch.tensor([156.0, 100])
FACE[48:] = torch.stack([torch.linspace(100, 156, 20), torch.full((20,), 170.0)], 1)


def test_masks_cover_the_mouth_and_glasses_the_eyes() -> None:
    landmarks = FACE.repeat(400, 1, 1)
    outlines, kind = occluders.outlines(landmarks, draws())
    mask = occluders.polygon_mask(outlines, 256)[:, 0]
    share = torch.stack([(kind == k).float().mean() for k in range(5)])
    expected = torch.tensor([0.52, 0.15, 0.15, 0.1, 0.08])
    assert (share - expected).abs().max() < 0.08

    def covered(k: int, points: slice) -> float:
        x, y = FACE[points].long().T
        return mask[kind == k][:, y, x].mean().item()

    assert covered(3, slice(48, 68)) > 0.95
    assert covered(3, slice(36, 48)) < 0.05
    assert covered(4, slice(36, 48)) > 0.95
    assert covered(4, slice(48, 68)) < 0.05
    size = mask.mean((1, 2))
    assert 0.01 < size[kind == 0].mean() < 0.3


def test_hands_have_the_colour_of_the_skin() -> None:
    images = torch.zeros(60, 3, 64, 64)
    images[:] = torch.tensor([200.0, 140, 110])[:, None, None]
    landmarks = torch.cat([FACE, torch.zeros(68, 1)], 1).repeat(60, 1, 1)
    textures = occluders.Textures(torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8), draws())
    kind = torch.full((60,), 2)
    fill = occluders.fills(images, landmarks, kind, textures, draws())
    hue = fill / fill.sum(1, keepdim=True)
    wanted = torch.tensor([200.0, 140, 110]) / 450
    assert (hue.mean((0, 2, 3)) - wanted).abs().max() < 0.02


class Waits(TorchDispatchMode):
    """Counts operations whose result the host needs: on a GPU it would wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func)
        boolean = name.startswith("aten.index.") and any(
            t is not None and t.dtype == torch.bool for t in args[1]
        )
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "unique")
        if boolean or any(w in name for w in waits):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_samples_are_made_without_waiting_for_the_device(model, shard) -> None:
    m = maker(model, shard, EVERYTHING)
    index = torch.arange(12)
    for _ in range(4):
        m(index)  # constants are made once
    with Waits() as waits:
        m(index)
    assert waits.seen == []


def test_doubtful_labels_are_left_out_of_every_pose() -> None:
    n = 400
    angle = torch.deg2rad(torch.where(torch.arange(n) % 2 == 0, 5.0, 70.0))
    rotation = torch.zeros(n, 3, 3)
    rotation[:, 0, 2], rotation[:, 2, 2] = -angle.sin(), angle.cos()
    doubt = torch.rand(n) + (angle > 1).float()  # large poses are doubted more
    photos = PhotoSet(
        torch.zeros(n, 4, 2, 2), torch.zeros(n, 1), torch.ones(n), rotation, torch.zeros(n, 2),
        ["x"] * n, doubt,
    )  # fmt: skip
    keep = trusted(photos, 0.25)
    for side in (angle < 1, angle > 1):
        assert keep[side].float().mean().item() == pytest.approx(0.75, abs=0.01)
        assert doubt[side & ~keep].min() >= doubt[side & keep].max()
    assert trusted(photos, 0.0).all()


def test_rows_are_drawn_by_their_weights() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0])
    rows = draws().weighted(weights.double().cumsum(0), 4000)
    share = torch.bincount(rows, minlength=4) / 4000
    assert (share - weights / 4).abs().max() < 0.03
    assert share[0] == share[3] == 0
