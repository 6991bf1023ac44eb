from __future__ import annotations

import numpy as np
import pytest
import torch
from public import public_input, public_outputs, public_state

from sadr_cli.model.network import NetworkConfig, SADRNet, normalize_input


@pytest.fixture(scope="module")
def public() -> dict[str, np.ndarray]:
    """Outputs of our network with the public format's tensors, at the fixture's pixels."""
    state = public_state(np.zeros((3, 256, 256)))
    network = SADRNet().eval()
    own = {k: v for k, v in state.items() if not k.startswith("rebuilder.")}
    missing, unexpected = network.load_state_dict(own, strict=False)
    assert list(missing) == ["pose_bias"]
    assert not unexpected
    with torch.inference_mode():
        out = network(public_input())
    return {
        "attention": torch.sigmoid(out.attention).numpy(),
        "P": out.pose_map[:, :, ::5, ::5].numpy(),
        "D": out.shape_map[:, :, ::5, ::5].numpy(),
    }


@pytest.mark.parametrize("name", ["attention", "P", "D"])
def test_public_checkpoint_is_reproduced(public: dict[str, np.ndarray], name: str) -> None:
    truth = public_outputs()[name]
    assert np.abs(public[name] - truth).max() < 1e-4 * np.ptp(truth)


def test_sizes_are_the_papers() -> None:
    network = SADRNet().eval()
    count = sum(p.numel() for p in network.parameters())
    assert count == 15_487_044
    shapes = {}
    for name in ("block6", "block10", "decoder_low"):
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: shapes.__setitem__(name, tuple(out.shape[1:]))
        )
    with torch.inference_mode():
        out = network(torch.randn(1, 3, 256, 256))
    assert shapes == {
        "block6": (128, 32, 32),
        "block10": (512, 8, 8),
        "decoder_low": (64, 64, 64),
    }
    assert out.pose_map.shape == out.shape_map.shape == (1, 3, 256, 256)
    assert out.attention.shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("config", "uv"),
    [
        (NetworkConfig(128, 0, 0.25), 128),
        (NetworkConfig(128, 64, 0.5), 64),
        (NetworkConfig(128, 32, 0.25), 32),
        (NetworkConfig(192, 96, 0.25, attention=False), 96),
    ],
)
def test_width_and_resolution_are_settings(config: NetworkConfig, uv: int) -> None:
    network = SADRNet(config).eval()
    with torch.inference_mode():
        out = network(torch.randn(2, 3, config.input_size, config.input_size))
    assert out.pose_map.shape == out.shape_map.shape == (2, 3, uv, uv)
    if config.attention:
        cells = config.input_size // 8
        assert out.attention is not None
        assert out.attention.shape == (2, 1, cells, cells)
    else:
        assert out.attention is None
    full = sum(p.numel() for p in SADRNet().parameters())
    assert sum(p.numel() for p in network.parameters()) < 0.3 * full


@pytest.mark.parametrize(
    "bad", [{"input_size": 100}, {"width": 0}, {"input_size": 128, "uv_size": 50}]
)
def test_impossible_sizes_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        NetworkConfig(**bad)  # type: ignore[arg-type]


def test_attention_multiplies_the_low_level_features_by_its_exponential() -> None:
    network = SADRNet(NetworkConfig(64, 0, 0.25)).eval()
    seen = {}
    network.block6.register_forward_hook(lambda _m, _i, out: seen.update(low=out))
    network.block7.register_forward_pre_hook(lambda _m, args: seen.update(attended=args[0]))
    with torch.inference_mode():
        logits = network(torch.randn(1, 3, 64, 64)).attention
    assert torch.allclose(seen["attended"], seen["low"] * torch.exp(torch.sigmoid(logits)))


def test_input_normalisation_is_per_image_and_channel() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    x = image.double() / 255
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
    assert torch.allclose(
        normalize_input(image).double(), (x - mean) / (var + 1e-3).sqrt(), atol=1e-5
    )
    assert torch.allclose(normalize_input(image.float() + 40), normalize_input(image), atol=1e-5)
    assert torch.isfinite(normalize_input(torch.zeros(1, 3, 32, 32))).all()
