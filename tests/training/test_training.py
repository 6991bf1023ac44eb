"""Training on a made-up face model and made-up photos: no licensed data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import CPU, labels, make_trainer, train

from sadr_cli.crop import crop_from_landmarks, image_to_crop
from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.model.alignment import self_align
from sadr_cli.model.checkpoint import load_checkpoint
from sadr_cli.model.network import NetworkConfig
from sadr_cli.training import losses
from sadr_cli.training.augment import AugmentConfig
from sadr_cli.training.config import PRESETS, TrainConfig, with_steps
from sadr_cli.training.dataset import balanced_weights, load_300wlp, load_shards, photo_alpha
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.losses import LossWeights
from sadr_cli.training.occluders import polygon_mask
from sadr_cli.training.synthesis import SampleMaker
from sadr_cli.training.trainer import Trainer

NET = NetworkConfig(64, 32, 0.25)
TINY = TrainConfig(
    network=NET,
    steps=4,
    batch_size=4,
    warmup_steps=2,
    schedule="cosine",
    encoder_steps=1,
    loss=LossWeights(landmarks=0.5, regressor=0.1),
)


def brightest(image: torch.Tensor) -> np.ndarray:
    """(x, y) centroid of the spot in (3, H, W)."""
    weight = (image.mean(0) - image.mean(0).quantile(0.98)).clamp_min(0)
    y, x = torch.meshgrid(*(torch.arange(n).float() for n in weight.shape), indexing="ij")
    return np.array([float((a * weight).sum() / weight.sum()) for a in (x, y)])


@pytest.mark.parametrize("source", ["shard", "folder"])
def test_truth_lies_on_the_picture(source, model, request) -> None:
    """The spot painted on landmark 30 is where the truth says, augmented or not."""
    path = request.getfixturevalue(source)
    photos = load_shards([path], 160) if source == "shard" else load_300wlp(path, model, 160)
    grid = UVGrid(model, 32, CPU)
    plain = AugmentConfig(grey=0, blur=0, noise=0, occlusion=0, fill=0, channel=0, shift=0.05)
    generator = torch.Generator().manual_seed(0)
    maker = SampleMaker(photos, grid, NET, plain, generator=generator)
    index = torch.arange(len(photos)).repeat(3)
    for augment in (False, True):
        batch = maker(index, augment=augment)
        # The spot is landmark 30 of the photo; of a mirrored one its own mirror, 30 again.
        for image, landmarks in zip(batch.images, batch.landmarks, strict=True):
            expected = (landmarks[30, :2].numpy() + 0.5) * 64 / 256 - 0.5
            assert np.abs(brightest(image) - expected).max() < 0.75


def test_truth_maps_agree_with_each_other_and_with_the_landmarks(model, shard) -> None:
    photos = load_shards([shard], 160)
    grid = UVGrid(model, 64, CPU)
    batch = SampleMaker(photos, grid, NET, AugmentConfig())(torch.arange(12))
    sampled = grid.sample(batch.pose_map)
    assert (sampled - batch.landmarks).norm(dim=-1).mean() < 0.3  # pixels of 256
    kpt = torch.from_numpy((model.layout.kpt * 64) // 256)
    aligned = self_align(batch.pose_map, batch.shape_map, None, kpt, size=256)
    assert ((aligned.face - batch.pose_map).abs() * grid.mask).max() < 0.5


def test_unaugmented_crop_is_the_networks_crop(model, shard) -> None:
    photos = load_shards([shard], 200)
    batch = SampleMaker(photos, UVGrid(model, 32, CPU), NET, AugmentConfig())(
        torch.arange(12), augment=False
    )
    for row, landmarks in zip(labels(model, 12), batch.landmarks.numpy(), strict=True):
        crop = crop_from_landmarks(row["landmarks"])
        expected = image_to_crop(row["landmarks"], crop, 256)
        assert np.abs(expected[:, :2] - landmarks[:, :2]).max() < 0.5


def test_several_shards_are_one_after_the_other(model, shard, tmp_path) -> None:
    one = load_shards([shard], 64)
    with np.load(shard) as file:
        arrays = {k: file[k] for k in file.files}
    arrays["coeff"] = -arrays["coeff"]
    np.savez(tmp_path / "second.npz", **arrays)
    both = load_shards([shard, tmp_path / "second.npz"], 64)
    n = len(one)
    assert len(both) == 2 * n and both.names[:n] == one.names
    assert torch.equal(both.images, torch.cat([one.images, one.images]))
    assert torch.equal(both.coefficients[n:], -one.coefficients)
    assert torch.equal(both.rotation[n:], one.rotation)


def test_occluders_hide_pixels_and_attention_together(model, shard) -> None:
    photos = load_shards([shard], 160)
    photos.images[:, :3] = torch.randint(0, 256, photos.images[:, :3].shape, dtype=torch.uint8)
    grid = UVGrid(model, 32, CPU)
    still = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, occlusion=1.0, fill=0)
    torch.manual_seed(0)
    maker = SampleMaker(photos, grid, NET, still, generator=torch.Generator().manual_seed(1))
    index = torch.arange(12)
    clean = maker(index, augment=False)
    dirty = maker(index)
    changed = (clean.images - dirty.images).abs().amax(1, keepdim=True) > 2
    lost = (clean.attention - dirty.attention) > 0.5
    assert lost.any(0).any()
    assert (dirty.attention <= clean.attention).all()
    cells = torch.nn.functional.adaptive_avg_pool2d(changed.float(), lost.shape[-1])
    assert cells[lost].mean() > 0.6
    assert torch.equal(clean.pose_map, dirty.pose_map)


def test_polygons_are_filled_by_the_even_odd_rule() -> None:
    square = torch.tensor([[[2.5, 2.5], [7.5, 2.5], [7.5, 6.5], [2.5, 6.5]]])
    mask = polygon_mask(square, 10)[0, 0]
    expected = torch.zeros(10, 10)
    expected[3:7, 3:8] = 1
    assert torch.equal(mask, expected)


def test_black_bands_are_found_and_dark_photos_kept() -> None:
    photo = np.random.default_rng(0).integers(30, 255, (100, 100, 3)).astype(np.uint8)
    assert photo_alpha(photo).all()
    photo[:20] = 0
    photo[:, 90:] = 3
    alpha = photo_alpha(photo)
    assert not alpha[:20].any()
    assert not alpha[:, 90:].any()
    assert alpha[20:, :90].all()
    night = np.zeros((100, 100, 3), np.uint8)
    night[30:70, 30:70] = 90
    night[::7, ::5] = 12
    assert photo_alpha(night)[30:70, 30:70].all()


def test_flat_sampling_gives_every_pose_the_same_share() -> None:
    yaw = torch.cat([torch.zeros(900), torch.full((100,), -70.0)])
    weights = balanced_weights(yaw, 1.0)
    assert weights[:900].sum().item() == pytest.approx(weights[900:].sum().item())
    assert torch.equal(balanced_weights(yaw, 0.0), torch.ones(1000))


# Losses ---------------------------------------------------------------------------------------


def surface(seed: int = 0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    z = torch.sin(x / 3) + torch.cos(y / 4 + seed)
    return torch.stack([x, -y, z])[None]


def test_position_loss_is_the_weighted_mean_distance() -> None:
    truth = surface()
    weight = torch.zeros(16, 16)
    weight[3, 4], weight[8, 8] = 3, 1
    moved = truth.clone()
    moved[0, :, 3, 4] += torch.tensor([3.0, 0, 4])
    assert losses.position_loss(moved, truth, weight).item() == pytest.approx(3 * 5 / 4, abs=1e-3)


def test_mesh_losses_vanish_on_the_truth_and_see_what_they_should() -> None:
    mask = torch.ones(16, 16, dtype=torch.bool)
    truth = surface()
    assert losses.edge_loss(truth, truth, mask) < 1e-6
    assert losses.normal_loss(truth, truth, mask) < 1e-5
    # A shift changes neither; a stretch the edges; noise both.
    assert losses.edge_loss(truth + 5, truth, mask) < 1e-5
    assert losses.normal_loss(truth + 5, truth, mask) < 1e-4
    assert losses.edge_loss(2 * truth, truth, mask) > 0.5
    assert losses.normal_loss(2 * truth, truth, mask) < 1e-4
    noisy = truth + 0.2 * torch.randn_like(truth)
    assert losses.normal_loss(noisy, truth, mask) > 0.02
    # What lies outside the mask does not count.
    mask[:, 8:] = False
    broken = truth.clone()
    broken[..., 9:] += 100 * torch.rand(1, 3, 16, 7)
    assert losses.edge_loss(broken, truth, mask) < 1e-6
    assert losses.normal_loss(broken, truth, mask) < 1e-5


# The loop -------------------------------------------------------------------------------------


def test_every_parameter_learns_and_nothing_explodes(model, shard) -> None:
    trainer = make_trainer(model, shard, TINY)
    before = {k: v.clone() for k, v in trainer.network.named_parameters()}
    seen: set[str] = set()
    for _, parts in trainer.run():
        seen |= set(parts)
        assert all(np.isfinite(float(v)) for v in parts.values())
    assert seen == {
        "regressor", "attention", "pose_face", "deformation", "face", "edge", "normal", "landmarks"
    }  # fmt: skip
    assert trainer.step == 4
    assert trainer.samples == 16
    still = [k for k, v in trainer.network.named_parameters() if torch.equal(v, before[k])]
    assert not still


@pytest.mark.slow
def test_training_lowers_the_loss(model, shard) -> None:
    calm = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    config = replace(TINY, steps=60, encoder_steps=0, batch_size=6, augment=calm, lr=2e-3)
    history = [parts for _, parts in make_trainer(model, shard, config).run()]
    for name in ("pose_face", "attention"):
        values = [parts[name] for parts in history]
        assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5]), name


def test_first_prediction_is_a_frontal_face_in_the_crop(model, shard) -> None:
    trainer = make_trainer(model, shard, TINY)
    with torch.no_grad():  # in training mode: the norms have no statistics of their own yet
        p = trainer.network.train()(torch.randn(4, 3, 64, 64)).pose_map.mean(0) * 280
    inside = p[:2, trainer.grid.mask]
    middle = (inside.amin(1) + inside.amax(1)) / 2
    assert (middle - 127.5).abs().max() < 40
    assert (inside.amax(1) - inside.amin(1)).min() > 60


def test_schedules() -> None:
    class Clock(Trainer):
        def __init__(self, config: TrainConfig, step: int, seconds: float = 0.0) -> None:
            self.config, self.step, self.seconds = config, step, seconds

    def rate(step: int, config: TrainConfig, seconds: float = 0.0) -> float:
        return Clock(config, step, seconds).learning_rate()

    paper = PRESETS["paper"]
    assert rate(0, paper) == pytest.approx(1e-5)
    assert rate(paper.warmup_steps, paper) == pytest.approx(1e-4)
    late = paper.warmup_steps + 3 * paper.epoch_steps
    assert rate(late, paper) == pytest.approx(1e-4 * 0.85**3)
    cosine = replace(TINY, steps=1000, warmup_steps=0, lr=1.0)
    assert rate(500, cosine) == pytest.approx(0.5)
    assert rate(1000, cosine) < 0.01
    timed = replace(cosine, max_hours=1.0)
    assert rate(10, timed, seconds=1800) == pytest.approx(0.5)
    assert with_steps(paper, paper.steps // 10).warmup_steps == paper.warmup_steps // 10


def test_a_run_resumes_where_it_stopped(model, model_file, shard, tmp_path: Path) -> None:
    config = replace(TINY, steps=6)
    first = make_trainer(model, shard, config)
    list(first.run(stop_at=3))
    first.save_state(tmp_path / "state.pt")
    second = make_trainer(model, shard, config)
    second.load_state(tmp_path / "state.pt")
    assert (second.step, second.samples) == (3, 12)
    for a, b in zip(first.network.state_dict().values(), second.network.state_dict().values(),
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)
    moments = [t.optimizer.state_dict()["state"][0]["exp_avg"] for t in (first, second)]
    assert torch.equal(*moments)
    assert len(list(second.run())) == 3
    other = make_trainer(model, shard, replace(config, network=NetworkConfig(64, 64, 0.5)))
    with pytest.raises(MissingDataError, match="settings it was trained with"):
        other.load_state(tmp_path / "state.pt")


def test_command_writes_a_checkpoint_that_runs(model_file, shard, folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    seen = []
    path = train([shard], model_file, out, TINY, validation=folder, observe=seen.append)
    checkpoint = load_checkpoint(path)
    assert checkpoint.provenance["samples"] == 16
    assert set(checkpoint.provenance["validation"]) == {
        "P_balanced", "P_mean", "G_balanced", "G_mean"
    }  # fmt: skip
    assert "research" in checkpoint.license
    assert [p.step for p in seen][:4] == [1, 2, 3, 4]
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 4
    # Again: the run is complete, nothing is trained twice.
    again = []
    train([shard], model_file, out, TINY, observe=again.append)
    assert [p.step for p in again] == [4]
    with pytest.raises(UsageError, match="already contains a run"):
        train([shard], model_file, out, TINY, resume=False)


def test_missing_data_is_named(model, model_file, shard, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no training data"):
        train([tmp_path / "nothing"], model_file, tmp_path / "o", TINY)
    with pytest.raises(MissingDataError, match="no face model"):
        train([shard], tmp_path / "m.npz", tmp_path / "o", TINY)
    with pytest.raises(MissingDataError, match="300W-LP-style"):
        train([tmp_path], model_file, tmp_path / "o", TINY)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(MissingDataError, match="bad.npz is damaged or not an npz"):
        load_shards([tmp_path / "bad.npz"], 96)
    assert not (tmp_path / "o" / "state.pt").exists()
