"""Variants, states in every form, distillation, mirrored inference: on the made-up face."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import CPU, load, make_trainer, train
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import MissingDataError, TrainingError, UsageError
from sadr_cli.faces import Crop
from sadr_cli.landmarks import MIRROR_68
from sadr_cli.model import alignment
from sadr_cli.model.batch_alignment import Maps, mean_of_mirrored
from sadr_cli.model.checkpoint import load_checkpoint
from sadr_cli.model.network import NetworkConfig, NetworkOutput, SADRNet
from sadr_cli.pose import euler_to_matrix
from sadr_cli.reconstructor import Reconstructor
from sadr_cli.training.augment import AugmentConfig
from sadr_cli.training.config import PRESETS, VARIANTS, RunOptions, TrainConfig, with_variant
from sadr_cli.training.distill import Teacher
from sadr_cli.training.losses import LossWeights
from sadr_cli.training.state import checkpoint_from_state, has_state, read_state
from sadr_cli.training.trainer import Trainer

TINY = TrainConfig(
    network=NetworkConfig(64, 32, 0.25),
    steps=2,
    batch_size=4,
    warmup_steps=1,
    schedule="cosine",
    loss=LossWeights(landmarks=0.5, regressor=0.1, visible=1.0),
    augment=AugmentConfig(profiling=0.5, jpeg=0.5, low_resolution=0.5),
)


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_a_checkpoint(model_file, shard, tmp_path) -> None:
    first = train([shard], model_file, tmp_path / "first", TINY)
    still = replace(TINY, lr=1e-8, encoder_steps=1, average=0.0)
    again = train([shard], model_file, tmp_path / "b", still, start_from=first)
    before, after = load_checkpoint(first), load_checkpoint(again)
    for key, value in before.network.named_parameters():
        assert torch.allclose(value, after.network.get_parameter(key), atol=1e-3), key
    assert np.array_equal(before.uv.mean_shape, after.uv.mean_shape)
    assert after.provenance["started_from"]["sha256"] == before.sha256
    other = replace(TINY, network=NetworkConfig(64, 32, 0.5))
    with pytest.raises(UsageError, match="another network"):
        train([shard], model_file, tmp_path / "c", other, start_from=first)


def test_a_variant_begins_with_the_encoder_alone(model_file, shard, tmp_path) -> None:
    first = train([shard], model_file, tmp_path / "first", TINY)
    still = with_variant(replace(TINY, lr=1e-8, average=0.0), "no-attention")
    again = train([shard], model_file, tmp_path / "b", still, start_encoder=first)
    before, after = load_checkpoint(first), load_checkpoint(again)
    new = dict(before.network.named_parameters())
    kept, fresh = 0, 0
    for key, value in after.network.named_parameters():
        same = torch.allclose(value, new[key], atol=1e-3)
        if key.startswith(("layer0.", "block")):
            assert same, key
            kept += 1
        fresh += key.startswith("decoder_low") and not same
    assert kept > 50 and fresh > 5
    assert after.provenance["encoder_from"]["sha256"] == before.sha256
    other = replace(TINY, network=NetworkConfig(64, 32, 0.5))
    with pytest.raises(UsageError, match="encoder"):
        train([shard], model_file, tmp_path / "c", other, start_encoder=first)
    with pytest.raises(UsageError, match="exclude each other"):
        train([shard], model_file, tmp_path / "c", TINY, start_from=first, start_encoder=first)


# Variants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_its_checkpoint_runs(name, model_file, shard, tmp_path) -> None:
    config = with_variant(TINY, name)
    path = train([shard], model_file, tmp_path / name, config)
    checkpoint = load_checkpoint(path)
    attention, deformation, mode = VARIANTS[name]
    assert (checkpoint.network.config.attention, checkpoint.alignment) == (attention, mode)
    assert checkpoint.network.config.deformation is deformation
    reconstructor = Reconstructor(checkpoint, runtime="torch")
    crop = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    (face,) = reconstructor.reconstruct_crops([crop], [Crop(100, 80, 120)])
    assert np.isfinite(face.vertices).all()
    assert np.linalg.det(face.rotation) == pytest.approx(1, abs=1e-4)
    # What Eq 2 says of shape and pose is the face, whichever way it was found.
    placed = face.scale * face.shape @ face.rotation.T + face.translation
    assert np.abs(placed * (1, -1, 1) - face.vertices).max() < 0.05
    if mode in ("direct", "regressed"):
        assert np.allclose(face.pose_face, face.vertices)
        with pytest.raises(UsageError, match="for this network"):
            Reconstructor(checkpoint, alignment="paper")


def test_only_what_a_variant_uses_is_trained(model, shard) -> None:
    for name, unused in (("direct", "decoder_offset"), ("regressed-pose", "decoder_kpt")):
        trainer = make_trainer(model, shard, with_variant(TINY, name))
        before = {k: v.clone() for k, v in trainer.network.named_parameters()}
        parts = trainer.train_step()
        assert all(np.isfinite(float(v)) for v in parts.values())
        for key, value in trainer.network.named_parameters():
            assert torch.equal(value, before[key]) == key.startswith(unused), key


def test_a_regressed_pose_is_applied_as_it_is(model) -> None:
    rotation = torch.from_numpy(euler_to_matrix(40, 10, -20)).float()
    pose = torch.cat([70 * rotation, torch.tensor([[120.0], [-110], [3]])], 1)[None]
    shape = torch.randn(1, 3, 8, 8)
    got = alignment.take_regressed(pose, shape)
    assert got.scale.item() == pytest.approx(70, rel=1e-4)
    assert torch.allclose(got.rotation[0], rotation, atol=1e-5)
    up = torch.einsum("ij,bjhw->bihw", 70 * rotation, shape) + pose[:, :, 3, None, None]
    assert torch.allclose(got.face, alignment.flip_y(up, 1), atol=1e-2)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match="no variant"):
        with_variant(TINY, "sadr")


def test_paper_preset_is_the_papers() -> None:
    c = PRESETS["paper"]
    assert (c.batch_size, c.lr, c.warmup_steps // c.epoch_steps + 1) == (16, 1e-4, 4)
    assert c.steps == pytest.approx(25 * 127_450 / 16, rel=0.06)
    a = c.augment
    assert (a.rotation, a.shift, a.zoom, a.channel, a.flip) == (90, 0.1, 0.1, 0.4, 0.5)
    assert a.grey == a.blur == a.noise == a.jpeg == a.low_resolution == 0
    w = c.loss
    betas = (w.face, w.deformation, w.pose_face, w.attention, w.edge, w.normal)
    assert betas == (0.1, 0.5, 1, 0.05, 1, 0.1)
    assert (w.landmarks, w.regressor, w.visible) == (0, 0, 0)
    assert c == TrainConfig.from_dict(json.loads(json.dumps(asdict(c))))


# States ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compact_state_in_pieces_continues_the_run(model, shard, tmp_path: Path) -> None:
    config = replace(TINY, steps=8)
    first = make_trainer(model, shard, config)
    list(first.run(stop_at=5))
    whole, path = tmp_path / "whole.pt", tmp_path / "state.pt"
    first.save_state(whole)
    pieces = first.save_state(path, compact=True, piece=100_000)
    assert len(pieces) > 2
    assert max(p.stat().st_size for p in pieces) <= 100_000
    assert sum(p.stat().st_size for p in pieces) < 0.35 * whole.stat().st_size
    second = make_trainer(model, shard, config)
    second.load_state(path)
    assert (second.step, second.samples) == (5, 20)
    for key, value in first.average.items():
        assert torch.allclose(value.float(), second.average[key].float(), rtol=1e-3, atol=1e-4)
    for (key, a), b in zip(first.network.state_dict().items(),
                           second.network.state_dict().values(), strict=True):  # fmt: skip
        scale = float((a.float() - first.average[key].float()).abs().max()) + 1e-6
        assert (a.float() - b.float()).abs().max() < 0.02 * scale + 1e-3 * float(a.abs().max())
    square = [t.optimizer.state_dict()["state"][40]["exp_avg_sq"] for t in (first, second)]
    assert square[0].sum().item() == pytest.approx(square[1].sum().item(), rel=1e-3)
    assert len(list(second.run())) == 3
    # A whole file takes the place of the pieces, and the other way round.
    second.save_state(path)
    assert [p.name for p in tmp_path.glob("state.pt*")] == ["state.pt"]
    second.save_state(path, compact=True, piece=200_000)
    assert not path.exists()
    assert has_state(path)


def test_incomplete_and_damaged_states_are_named(model, shard, tmp_path: Path) -> None:
    trainer = make_trainer(model, shard, TINY)
    path = tmp_path / "state.pt"
    pieces = trainer.save_state(path, compact=True, piece=100_000)
    kept = pieces[1].read_bytes()
    pieces[1].unlink()
    with pytest.raises(MissingDataError, match="all .* of one save"):
        trainer.load_state(path)
    pieces[1].write_bytes(bytes(len(kept)))
    with pytest.raises(MissingDataError, match="damaged"):
        trainer.load_state(path)
    with pytest.raises(MissingDataError, match="no training state"):
        read_state(tmp_path / "nothing.pt")


@pytest.mark.slow
def test_state_becomes_the_same_checkpoint_without_the_photos(
    model_file, shard, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = RunOptions(compact=True, piece=150_000)
    path = train([shard], model_file, out, TINY, name="mini", run=options)
    again = checkpoint_from_state(out / "state.pt", "mini")
    there = load_checkpoint(path)
    for key, value in there.network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            other = again.network.state_dict()[key]
            assert torch.allclose(value, other, atol=1e-3), key
    assert np.allclose(again.uv.mean_shape, there.uv.mean_shape)
    assert again.provenance == there.provenance
    target = tmp_path / "mini.safetensors"
    result = CliRunner().invoke(
        app, ["weights", "from-state", str(out / "state.pt"), "--out", str(target)]
    )
    assert result.exit_code == 0, result.output
    assert load_checkpoint(target).provenance["samples"] == 8


@pytest.mark.slow
def test_a_paused_run_goes_on(model_file, shard, tmp_path: Path) -> None:
    config = replace(TINY, steps=40, batch_size=2)
    steps = []
    options = RunOptions(pause_after=1e-4)
    for _ in range(2):
        train([shard], model_file, tmp_path / "run", config, run=options,
              observe=lambda p: steps.append(p.step))  # fmt: skip
    assert steps[-1] in (20, 21)
    assert 10 in steps


@pytest.mark.slow
def test_a_stopped_run_loses_nothing(model_file, shard, tmp_path: Path) -> None:
    config = replace(TINY, steps=40, batch_size=2)
    steps: list[int] = []
    for wanted in (3, 5):
        train([shard], model_file, tmp_path / "run", config,
              observe=lambda p: steps.append(p.step),
              stop=lambda wanted=wanted: steps[-1:] == [wanted])  # fmt: skip
    # The last step of each is saved, and the second goes on where the first stopped.
    assert steps == [1, 2, 3, 3, 4, 5, 5]
    assert read_state(tmp_path / "run" / "state.pt", CPU)["step"] == 5


def test_divergence_keeps_the_last_good_state(model_file, shard, tmp_path: Path) -> None:
    config = replace(TINY, steps=50, batch_size=2, lr=1e30, warmup_steps=0)
    with pytest.raises(TrainingError, match="diverged"):
        train([shard], model_file, tmp_path / "run", config)
    assert not has_state(tmp_path / "run" / "state.pt")


def test_failing_compilation_is_a_warning(model, shard, monkeypatch) -> None:
    def broken(module):  # type: ignore[no-untyped-def]
        def call(x):  # type: ignore[no-untyped-def]
            raise RuntimeError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    said: list[str] = []
    trainer = make_trainer(model, shard, TINY, compiled=True, warn=said.append)
    trainer.step = 1  # as in a run that is continued
    assert len(list(trainer.run())) == 1
    assert "no compiler here" in said[0]


# Teacher, mirrored pictures -------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(model_file, shard, tmp_path_factory) -> Path:
    return train([shard], model_file, tmp_path_factory.mktemp("trained"), TINY)


def test_a_teacher_takes_the_place_of_the_labels(model, shard, trained, monkeypatch) -> None:
    config = replace(TINY, distill=1.0)
    with pytest.raises(UsageError, match="data.teacher"):
        make_trainer(model, shard, config)
    photos, grid = load(model, shard, 32)
    teacher = Teacher(load_checkpoint(trained), grid, CPU)
    trainer = Trainer(config, photos, grid, CPU, teacher=teacher)
    assert len(list(trainer.run())) == 2
    # What it says is laid out as the truth is: here it says the truth of another row.
    shape = torch.from_numpy(model.decode(np.random.default_rng(0).standard_normal((1, 50))))
    up = shape * 60 + torch.tensor([120.0, -130, 0])
    said = {"vertices": up * torch.tensor([1.0, -1, 1]), "shape": shape}
    monkeypatch.setattr(teacher, "align", lambda output: said)
    batch = trainer.maker(torch.arange(1))
    taught = teacher(batch, 1.0, 32)
    assert taught.images.shape[-1] == 32
    expected = said["vertices"][:, model.layout.landmark_indices]
    assert (taught.landmarks - expected).norm(dim=-1).mean() < 1.0  # pixels of 256
    assert (grid.sample(taught.shape_map) * 60 + torch.tensor([120.0, -130, 0])
            - alignment.flip_y(expected)).norm(dim=-1).mean() < 1.0  # fmt: skip
    half = teacher(batch, 0.5, 32)
    assert torch.allclose(half.pose_map, (batch.pose_map + taught.pose_map) / 2, atol=1e-3)


def test_mean_with_the_mirror_image_of_a_consistent_network_changes_nothing(model) -> None:
    uv = model.layout
    half = uv.to_map(uv.mean_shape).transpose(2, 0, 1)[None]
    shape = torch.from_numpy(half).float()
    angles = (35.0, 10.0, -15.0)
    other = (-35.0, 10.0, 15.0)  # mirroring turns yaw and roll around

    def maps(a: tuple[float, ...], x: float, s: torch.Tensor) -> Maps:
        pose = torch.cat(
            [
                60 * torch.from_numpy(euler_to_matrix(*a)).float(),
                torch.tensor([[x], [-120], [0.0]]),
            ],
            1,
        )[None]
        up = torch.einsum("bij,bjhw->bihw", pose[:, :, :3], s) + pose[:, :, 3, None, None]
        attention = torch.zeros(1, 1, 4, 4)
        attention[..., 0 if a is angles else 3] = 1
        return Maps(alignment.flip_y(up, 1), s, attention, pose)

    mirrored_shape = shape.flip(3) * torch.tensor([-1.0, 1, 1])[:, None, None]
    here, there = maps(angles, 100, shape), maps(other, 155, mirrored_shape)
    mean = mean_of_mirrored(here, there)
    for a, b in zip(mean, here, strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert (MIRROR_68[MIRROR_68] == np.arange(68)).all()


def test_flip_makes_results_symmetric(trained) -> None:
    crop = np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    reconstructor = Reconstructor(load_checkpoint(trained), "cpu", flip=True, runtime="torch")
    where = Crop(31.5, 31.5, 64)
    a, b = reconstructor.reconstruct_crops([crop, crop[:, ::-1].copy()], [where] * 2)
    mirrored = b.pose_face * (-1, 1, 1) + (63, 0, 0)
    uv = reconstructor.uv
    mirrored = uv.to_map(mirrored)[:, ::-1][uv.mask]
    symmetric = uv.mask & uv.mask[:, ::-1]
    gap = np.abs(uv.to_map(a.pose_face) - uv.to_map(mirrored))[symmetric]
    assert gap.max() < 0.01


def test_full_precision_where_positions_are_made() -> None:
    network = SADRNet(NetworkConfig(64, 32, 0.25)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = network(x)
    assert isinstance(output, NetworkOutput)
    assert output.pose_map.dtype == output.shape_map.dtype == torch.float32
