from __future__ import annotations

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Timer

import numpy as np
import pytest
import torch
from shell import ROOT
from torch import nn

from sadr_cli.compiled import Compiled
from sadr_cli.crop import extract_crop
from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.model.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from sadr_cli.model.config import NetworkConfig, NetworkOutput
from sadr_cli.model.device import Device
from sadr_cli.model.encoders import create_network
from sadr_cli.model.folding import fold_batch_norm
from sadr_cli.model.mobilenet import PIXELS
from sadr_cli.model.network import SADRNet
from sadr_cli.model.runtime import OpenVINONetwork, Runner
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


def pixels(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def truth(network: SADRNet, crops: np.ndarray) -> NetworkOutput:
    with torch.inference_mode():
        return network(network.normalize(torch.from_numpy(crops).permute(0, 3, 1, 2)))


@pytest.fixture(scope="module")
def made(uv):
    """Of a config: its network, in a checkpoint."""
    return lambda config: Checkpoint(lively(config), uv, name="lively")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.slow
def test_every_runtime_gives_what_the_network_gives(made, config, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    checkpoint = made(config)
    network = checkpoint.network
    before = copy.deepcopy(network.state_dict())
    runner = Runner(checkpoint, Device("cpu"), runtime)
    assert runner.name == runtime
    for count in (1, 3):
        crops = pixels(count)
        same(truth(network, crops), [as_tensor(a) for a in runner(crops)])
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])  # the network itself is left alone


def as_tensor(values):
    return None if values is None else torch.as_tensor(values)


def test_folding_leaves_no_norm():
    folded = fold_batch_norm(lively(CONFIGS[0]))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_a_face_does_not_depend_on_those_beside_it(made, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    runner = Runner(made(CONFIGS[0]), Device("cpu"), runtime)
    crops = pixels(9)
    whole = runner(crops)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(runner, [crops[:1], crops[1:4], crops[4:], crops[::-1]] * 3))
    for k, output in enumerate(whole):
        if output is not None:
            output = np.asarray(output)
            for start in range(0, 12, 4):
                said = [np.asarray(part[k]) for part in parts[start : start + 4]]
                np.testing.assert_array_equal(np.concatenate(said[:3]), output)
                np.testing.assert_array_equal(said[3][::-1], output)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_low_latency_gives_the_same_bytes(made, runtime, monkeypatch):
    monkeypatch.setattr("sadr_cli.compiled._processors", lambda: 2)
    if runtime == "openvino":
        pytest.importorskip("openvino")
    runner = Runner(made(CONFIGS[0]), Device("cpu"), runtime)
    quick = runner.low_latency()
    assert quick.name == runner.name == runtime
    for count in (1, 3):
        crops = pixels(count)
        for one, other in zip(runner(crops), quick(crops), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_openvino_is_chosen_where_it_is_installed(made):
    pytest.importorskip("openvino")
    assert Runner(made(CONFIGS[0]), Device("cpu")).name == "openvino"


@pytest.mark.slow
def test_what_was_compiled_once_is_read_and_says_the_same(made, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("SADR_HOME", str(tmp_path))
    path = tmp_path / "small.safetensors"
    save_checkpoint(made(CONFIGS[0]), path)
    crops = pixels(2)

    def fresh_process() -> NetworkOutput:
        monkeypatch.setattr("sadr_cli.model.runtime._shared", {})
        return OpenVINONetwork(open_checkpoint(path))(crops)

    first = fresh_process()
    (blob,) = (tmp_path / "compiled").iterdir()

    def build(*_):
        raise AssertionError("compiled again")

    with monkeypatch.context() as inside:
        inside.setattr("sadr_cli.model.folding.openvino_model", build)
        again = fresh_process()
    for a, b in zip(first, again, strict=True):
        assert (a is None and b is None) or np.array_equal(a, b)
    blob.write_bytes(blob.read_bytes()[:-1])  # damaged: compiled again
    assert np.array_equal(fresh_process().pose_map, first.pose_map)


@pytest.mark.slow
def test_what_was_compiled_once_loads_beside_other_work(made, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("SADR_HOME", str(tmp_path))
    path, crops, go_on = tmp_path / "small.safetensors", pixels(1), Event()
    save_checkpoint(made(CONFIGS[0]), path)
    first = OpenVINONetwork(open_checkpoint(path))(crops)
    monkeypatch.setattr("sadr_cli.model.runtime._shared", {})
    cached = Compiled._cached

    def waiting(*arguments):
        assert go_on.wait(300)
        return cached(*arguments)

    monkeypatch.setattr(Compiled, "_cached", waiting)
    network = OpenVINONetwork(open_checkpoint(path))  # or this would wait
    Timer(0.2, go_on.set).start()
    assert np.array_equal(network(crops).pose_map, first.pose_map)


def test_a_cache_that_cannot_be_written_changes_nothing(made, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    (tmp_path / "compiled").write_text("in the way")
    monkeypatch.setenv("SADR_HOME", str(tmp_path))
    path = tmp_path / "small.safetensors"
    save_checkpoint(made(CONFIGS[0]), path)
    checkpoint = open_checkpoint(path)
    crops = pixels(1)
    same(truth(checkpoint.network, crops), map(as_tensor, OpenVINONetwork(checkpoint)(crops)))


def test_without_openvino_pytorch_does_it(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    checkpoint = made(CONFIGS[0])
    runner = Runner(checkpoint, Device("cpu"))
    crops = pixels(3)
    same(truth(checkpoint.network, crops), runner(crops))
    assert runner.name == "torch"
    with pytest.raises(MissingDataError, match="pip install openvino"):
        OpenVINONetwork(checkpoint)
    with pytest.raises(UsageError, match="runtime"):
        Reconstructor(runtime="tensorrt")


def test_openvino_that_fails_is_named_and_pytorch_does_it(made, monkeypatch, caplog):
    pytest.importorskip("openvino")

    def broken(*_):
        raise RuntimeError("no such operation")

    monkeypatch.setattr("sadr_cli.model.folding.openvino_model", broken)
    assert Runner(made(CONFIGS[0]), Device("cpu")).name == "torch"
    assert "using PyTorch: no such operation" in caplog.text


def test_faces_come_without_pytorch_once_the_network_is_compiled():
    pytest.importorskip("openvino")
    code = (
        "import sys; from sadr_cli import Reconstructor, read_image\n"
        "faces = Reconstructor(device='cpu').reconstruct(read_image(sys.argv[1]))\n"
        "assert len(faces) == 1 and 'torch' not in sys.modules"
    )
    Reconstructor(device="cpu")  # compiles it, if that is still to be done
    photo = ROOT / "examples/photos/astronaut.jpg"
    subprocess.run([sys.executable, "-c", code, str(photo)], check=True, cwd=ROOT)


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
