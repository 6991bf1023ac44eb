"""What a training starts from and is held to beside its data: encoders, labels, human points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import load, train

from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.model.checkpoint import load_checkpoint
from sadr_cli.model.mobilenet import PIXELS, STAGES
from sadr_cli.model.network import NetworkConfig
from sadr_cli.training.augment import AugmentConfig
from sadr_cli.training.config import TrainConfig
from sadr_cli.training.dataset import add_human_points, load_shards, replace_labels
from sadr_cli.training.losses import LossWeights
from sadr_cli.training.objective import human_loss
from sadr_cli.training.synthesis import SampleMaker, hide_cells

NETWORK = NetworkConfig(64, 32, 0.25, encoder="mobilenet", attention_channels=16, **PIXELS)
TINY = TrainConfig(
    network=NETWORK,
    steps=2,
    batch_size=4,
    warmup_steps=1,
    schedule="cosine",
    loss=LossWeights(landmarks=0.5, regressor=0.1, human=0.5),
    augment=AugmentConfig(cut=0.5),
    encoder_lr=0.2,
    freeze=2,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    shapes = [(32, 3, 3)]
    for a, b, _ in STAGES:
        shapes += [(a, 1, 3), (b, a, 1)]
    nodes, arrays = [], []
    for k, (cout, cin, size) in enumerate(shapes):
        scale = (2 / (cin * size * size)) ** 0.5
        weight = (torch.randn(cout, cin, size, size) * scale).numpy()
        arrays.append(onnx.numpy_helper.from_array(weight, f"w{k}"))
        arrays.append(onnx.numpy_helper.from_array(0.1 * np.ones(cout, np.float32), f"b{k}"))
        nodes.append(onnx.helper.make_node("Conv", [f"x{k}", f"w{k}", f"b{k}"], [f"x{k + 1}"]))
    graph = onnx.helper.make_graph(nodes, "encoder", [], [], arrays)
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    return path


@pytest.mark.slow
def test_a_run_begins_with_a_pretrained_encoder_and_resumes(
    model_file, shard, encoder, tmp_path
) -> None:
    still = replace(TINY, lr=1e-8, steps=2)
    out = train([shard], model_file, tmp_path / "a", still, encoder_from=encoder)
    import onnx

    graph = onnx.load(encoder).graph
    weight = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    network = load_checkpoint(out).network
    for k, layer in enumerate(network.convolutions()):
        np.testing.assert_allclose(layer.conv.weight.detach(), weight[f"w{k}"], atol=2e-3)
    longer = replace(still, steps=3)
    train([shard], model_file, tmp_path / "a", longer, encoder_from=encoder)
    assert load_checkpoint(out).provenance["steps"] == 3


def test_an_encoder_of_another_kind_is_named(model_file, shard, encoder, tmp_path) -> None:
    plain = replace(TINY, network=NetworkConfig(64, 32, 0.25), freeze=0)
    with pytest.raises(UsageError, match="MobileNet encoder"):
        train([shard], model_file, tmp_path / "a", plain, encoder_from=encoder)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x08\x07nothing")
    with pytest.raises(MissingDataError, match=r"bad\.onnx"):
        train([shard], model_file, tmp_path / "b", TINY, encoder_from=bad)
    with pytest.raises(MissingDataError, match="none.onnx"):
        train(
            [shard], model_file, tmp_path / "c", TINY,
            encoder_from=tmp_path / "none.onnx",
        )  # fmt: skip


def true_points(photos, grid):
    """Landmarks of the labels in pixels of the stored pictures, y down."""
    shape = grid.landmark_shapes(photos.coefficients)
    p = photos.scale[:, None, None] * torch.einsum("bij,blj->bli", photos.rotation, shape)
    p[..., :2] += photos.translation[:, None]
    return torch.stack([p[..., 0], -p[..., 1]], 2)


def test_points_people_marked_follow_every_augmentation(model, shard, tmp_path) -> None:
    photos, grid = load(model, shard, 32)
    xy = true_points(photos, grid).numpy()
    side = photos.images.shape[-1]
    # As a file has them: in pixels of pictures twice as large.
    path = tmp_path / "points.npz"
    vis = np.ones((len(photos), 68), np.int8)
    np.savez(
        path, name=np.array(photos.names), pts=(xy + 0.5) * 2 - 0.5, vis=vis, side=2 * side,
        yaw=np.array([0.0, *[40.0] * (len(photos) - 1)]),
    )  # fmt: skip
    assert add_human_points(photos, path) == len(photos)
    assert torch.isnan(photos.points[1, :17]).all()
    assert not torch.isnan(photos.points[0]).any()
    maker = SampleMaker(photos, grid, NETWORK, AugmentConfig(profiling=0.3))
    maker.draws.host.seed(1)
    batch = maker(torch.arange(len(photos)).repeat(4))
    marked = batch.points
    there = ~torch.isnan(marked[..., 0])
    assert there.any()
    assert not there.all()  # photos turned in 3-D have none
    gap = (marked - batch.landmarks)[..., :2].norm(dim=2)[there]
    assert gap.max() < 0.05  # pixels of a 256-pixel crop
    assert float(human_loss(batch.landmarks / 280, marked)) < 1e-3
    off = batch.landmarks + torch.tensor([28.0, 0, 0])
    assert float(human_loss(off / 280, marked)) == pytest.approx(0.1, abs=1e-3)


def test_rows_of_a_test_set_are_never_taken(model, shard, tmp_path) -> None:
    photos, grid = load(model, shard, 32)
    path = tmp_path / "points.npz"
    xy = true_points(photos, grid).numpy()
    names = np.array(photos.names)
    held = np.zeros(len(names), bool)
    held[0] = True
    vis = np.ones((len(names), 68), np.int8)
    np.savez(path, name=names, pts=xy, vis=vis, in_aflw2000=held, side=photos.images.shape[-1])
    assert add_human_points(photos, path) == len(names) - 1
    assert torch.isnan(photos.points[0]).all()


def test_cells_of_hidden_landmarks_leave_the_attention() -> None:
    marked = torch.full((1, 68, 3), torch.nan)
    marked[0, 0] = torch.tensor([8.0, 8.0, 0])  # hidden, cell (0, 0)
    marked[0, 1] = torch.tensor([40.0, 8.0, 1])  # seen, cell (0, 1)
    marked[0, 2] = torch.tensor([8.0, 40.0, -1])  # turned away, cell (1, 0)
    out = hide_cells(torch.ones(1, 1, 8, 8), marked)
    assert out[0, 0, 0, 0] == 0
    assert out.sum() == 63


def test_photos_cut_by_an_edge_show_nothing_there(model, shard) -> None:
    photos, grid = load(model, shard, 32)
    config = AugmentConfig(
        cut=1.0, cut_depth=0.5, fill=0, occlusion=0, noise=0, blur=0, grey=0, channel=0
    )
    maker = SampleMaker(photos, grid, NETWORK, config)
    batch = maker(torch.arange(len(photos)).repeat(4))
    dark = batch.images.amax(1, keepdim=True) == 0
    share = torch.nn.functional.avg_pool2d(dark.float(), 8)
    assert share.mean() > 0.1
    assert (batch.attention[share > 0.99] == 0).all()


def test_labels_are_replaced_at_any_size_of_the_pictures(model, shard, tmp_path) -> None:
    photos, grid = load(model, shard, 32)
    twice = load_shards([shard], 192)
    path = tmp_path / "labels.npz"
    np.savez(
        path, names=np.array(photos.names)[::-1], side=192,
        coefficients=twice.coefficients.numpy()[::-1], scale=twice.scale.numpy()[::-1],
        rotation=twice.rotation.numpy()[::-1], translation=twice.translation.numpy()[::-1],
        doubt=np.zeros(len(photos), np.float32),
    )  # fmt: skip
    before = true_points(photos, grid)
    photos.scale = photos.scale * 3
    replace_labels(photos, path)
    assert torch.allclose(true_points(photos, grid), before, atol=1e-3)
    fewer = tmp_path / "fewer.npz"
    with np.load(path) as file:
        np.savez(fewer, **{k: file[k] if k == "side" else file[k][1:] for k in file})
    with pytest.raises(MissingDataError, match="no label for photo"):
        replace_labels(photos, fewer)
