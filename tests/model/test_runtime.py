from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sadr_cli.crop import extract_crop
from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.model.encoders import create_network
from sadr_cli.model.mobilenet import PIXELS
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.model.runtime import CONVERT_AFTER, OpenVINONetwork, Runner, fold_batch_norm
from sadr_cli.reconstructor import Reconstructor

CONFIGS = [
    NetworkConfig(64, width=0.25),
    NetworkConfig(64, uv_size=32, width=0.25, pose_head=True),
    NetworkConfig(64, uv_size=16, width=0.25, attention=False, deformation=False),
    NetworkConfig(64, uv_size=32, width=0.25, encoder="mobilenet", attention_channels=16, **PIXELS),
]


def lively(config: NetworkConfig) -> SADRNet:
    """A network whose batch norms do something."""
    torch.manual_seed(1)
    network = create_network(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.3, 2)
            nn.init.uniform_(module.weight, 0.7, 1.8)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


def same(a, b, tolerance=2e-5):
    for x, y in zip(a, b, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            assert x.shape == y.shape and x.std() > 0
            assert (x - y).abs().max() < tolerance * max(float(x.abs().max()), 1)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_every_runtime_gives_what_the_network_gives(config, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    network = lively(config)
    before = copy.deepcopy(network.state_dict())
    runner = Runner(network, torch.device("cpu"), runtime)
    assert runner.name == runtime
    for count in (1, 3):
        x = torch.randn(count, 3, 64, 64)
        with torch.inference_mode():
            same(network(x), runner(x))
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])  # the network itself is left alone


def test_folding_leaves_no_norm():
    folded = fold_batch_norm(lively(CONFIGS[0]))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


def test_openvino_takes_over_when_it_pays_off(monkeypatch):
    pytest.importorskip("openvino")
    runner = Runner(lively(CONFIGS[0]), torch.device("cpu"))
    x = torch.randn(CONVERT_AFTER, 3, 64, 64)
    with torch.inference_mode():
        first = runner(x)
        assert runner.name == "torch"
        second = runner(x)
        assert runner.name == "openvino"
    same(first, second)


def test_without_openvino_pytorch_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    network = lively(CONFIGS[0])
    runner = Runner(network, torch.device("cpu"))
    x = torch.randn(CONVERT_AFTER, 3, 64, 64)
    with torch.inference_mode():
        same(runner(x), runner(x))
    assert runner.name == "torch"
    with pytest.raises(MissingDataError, match="pip install openvino"):
        OpenVINONetwork(fold_batch_norm(network), 1)
    with pytest.raises(UsageError, match="runtime"):
        Reconstructor(runtime="tensorrt")


def test_faces_of_the_shipped_weights_are_the_same_to_a_thousandth_of_a_pixel(group):
    pytest.importorskip("openvino")
    faces = {}
    plain = Reconstructor(runtime="torch")
    crops = [plain.crop_for(d) for d in plain.detector.detect(group)]
    images = [extract_crop(group, c, plain.crop_resolution) for c in crops]
    for runtime in ("torch", "openvino"):
        made = Reconstructor(runtime=runtime).reconstruct_crops(images, crops)
        faces[runtime] = [f.vertices for f in made]
    size = max(c.size for c in crops)
    for a, b in zip(faces["torch"], faces["openvino"], strict=True):
        assert np.abs(a - b).max() < 1e-3 * max(size / 256, 1)
