"""The MobileNet encoder: sizes, its own pixels, folded weights put back, frozen stages."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sadr_cli.model.checkpoint import Checkpoint, load_checkpoint, read_metadata, save_checkpoint
from sadr_cli.model.config import ENCODERS, NetworkConfig
from sadr_cli.model.encoders import NETWORKS, create_network
from sadr_cli.model.mobilenet import PIXELS, STAGES, MobileNetSADRNet

SMALL = NetworkConfig(64, 32, 0.25, encoder="mobilenet", attention_channels=16, **PIXELS)


def folded_layers(seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Convolutions as an exporter leaves them: norms folded into weight and bias."""
    torch.manual_seed(seed)
    shapes = [(32, 3, 3)]
    for a, b, _ in STAGES:
        shapes += [(a, 1, 3), (b, a, 1)]
    layers = []
    for cout, cin, k in shapes:
        scale = (2 / (cin * k * k)) ** 0.5
        layers.append((torch.randn(cout, cin, k, k) * scale, 0.1 * torch.randn(cout)))
    return layers


def run_folded(x: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    strides = [2] + [s for _, _, stride in STAGES for s in (stride, 1)]
    for (w, b), stride in zip(layers, strides, strict=True):
        groups = x.shape[1] if w.shape[1] == 1 else 1
        x = F.relu(F.conv2d(x, w, b, stride, w.shape[-1] // 2, 1, groups))
    return x


def test_attention_acts_at_stride_8_and_the_decoder_gives_both_maps() -> None:
    network = create_network(SMALL).eval()
    assert isinstance(network, MobileNetSADRNet)
    with torch.inference_mode():
        out = network(torch.randn(2, 3, 64, 64))
    assert out.pose_map.shape == out.shape_map.shape == (2, 3, 32, 32)
    assert out.attention is not None
    assert out.attention.shape == (2, 1, 8, 8)
    assert out.features.shape == (2, 1024, 2, 2)
    assert network.deepest == 1024


def test_pixels_are_bgr_over_the_stated_scale() -> None:
    rgb = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    x = create_network(SMALL).normalize(rgb)
    assert torch.allclose(x[:, 0], (rgb[:, 2].float() - 127.5) / 128)
    assert torch.allclose(x[:, 2], (rgb[:, 0].float() - 127.5) / 128)


def test_a_checkpoint_says_encoder_and_pixels_and_gives_both_back(uv, tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    network = create_network(SMALL).eval()
    save_checkpoint(Checkpoint(network, uv, name="m"), path, half=False)
    document = read_metadata(path.read_bytes())
    assert document["input"] == {
        "color": "BGR", "normalization": "(x - 127.5) / 128 of pixels in [0, 255]"
    }  # fmt: skip
    again = load_checkpoint(path).network
    assert again.config == SMALL
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(x).pose_map, network(x).pose_map)


def test_folded_weights_come_back_as_norms_that_change_nothing() -> None:
    layers = folded_layers()
    network = create_network(
        NetworkConfig(64, 32, 0.25, encoder="mobilenet", attention=False, **PIXELS)
    )
    assert isinstance(network, MobileNetSADRNet)
    crops, other = torch.randn(16, 3, 64, 64), torch.randn(4, 3, 64, 64) * 0.5 + 0.2
    network.load_folded(layers, crops)
    # In training too: the statistics of these crops are those the norms were set to.
    for x, training in ((crops, False), (other, False), (crops, True)):
        truth = run_folded(x, layers)
        network.train(training)
        with torch.no_grad():
            features, _ = network.encode(x)
        assert torch.allclose(features, truth, atol=1e-4 * float(truth.abs().max()))


def test_weights_of_another_network_are_refused() -> None:
    network = create_network(SMALL)
    assert isinstance(network, MobileNetSADRNet)
    with pytest.raises(ValueError, match="not the convolutions of MobileNet"):
        network.load_folded(folded_layers()[:-1], torch.randn(2, 3, 64, 64))


def test_frozen_stages_keep_weights_and_statistics() -> None:
    network = create_network(SMALL)
    assert isinstance(network, MobileNetSADRNet)
    network.freeze(3)
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.randn(4, 3, 64, 64)).pose_map.square().mean().backward()
    optimizer.step()
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    frozen = ("stem.", "dw.0.", "dw.1.", "dw.2.", "pw.0.", "pw.1.", "pw.2.")
    assert not [k for k in changed if k.startswith(frozen)]
    assert [k for k in changed if k.startswith("dw.3.")]
    norms = [m for m in network.dw[3].modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.training for m in norms)


def test_every_encoder_has_its_network():
    assert NETWORKS.keys() == set(ENCODERS)
