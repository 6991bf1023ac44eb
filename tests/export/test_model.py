"""Exported networks against PyTorch, whose alignment uses an SVD."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.crop import extract_crop
from sadr_cli.errors import UsageError
from sadr_cli.export.model import OUTPUTS, export_model, nearest_rotation
from sadr_cli.faces import Crop
from sadr_cli.model.alignment import weighted_similarity
from sadr_cli.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sadr_cli.model.encoders import create_network
from sadr_cli.model.mobilenet import PIXELS
from sadr_cli.model.network import NetworkConfig
from sadr_cli.model.uvgrid import fit_coarse
from sadr_cli.reconstructor import Reconstructor

CONFIGS = {
    "residual": NetworkConfig(input_size=64, width=0.125),
    "mobilenet": NetworkConfig(64, width=0.125, encoder="mobilenet", **PIXELS),
}


@pytest.fixture(scope="module", params=CONFIGS)
def checkpoint(uv, request):
    """A small random network that answers with a face: its P starts from a mean face."""
    torch.manual_seed(3)
    network = create_network(CONFIGS[request.param]).eval()
    face = uv.mean_shape * (60, -60, 60) + (128, 128, 0)
    coarse = fit_coarse(face, uv.mask, network.config.uv_size) / 280
    network.pose_bias.copy_(torch.from_numpy(coarse))
    with torch.no_grad():  # outputs that depend on the crop, by some pixels
        for head, size in ((network.decoder_kpt, 0.03), (network.decoder_offset, 0.05)):
            head[-1].BN_AC[0].weight.mul_(size)
    return Checkpoint(network, uv, name="small", license="for tests")


@pytest.fixture(scope="module")
def crops(astronaut, group):
    """Real crops, 33 of them: 224 to 32 pixels of the photos."""
    rng = np.random.default_rng(1)
    out = []
    for k in range(33):
        image = (astronaut, group)[k % 2]
        height, width = image.shape[:2]
        crop = Crop(rng.uniform(0, width), rng.uniform(0, height), rng.uniform(80, 500))
        out.append(extract_crop(image, crop, 256))
    return np.stack(out)


@torch.inference_mode()
def reference(checkpoint, crops):
    x = F.avg_pool2d(torch.from_numpy(crops).permute(0, 3, 1, 2).float(), 4)
    reconstructor = Reconstructor(checkpoint, "cpu", runtime="torch")
    out = reconstructor.align(checkpoint.network(checkpoint.network.normalize(x)))
    return {k: v.numpy() for k, v in out.items()}


def compare(checkpoint, outputs, crops, pixels):
    ours, truth = dict(zip(OUTPUTS, outputs, strict=True)), reference(checkpoint, crops)
    mask = checkpoint.uv.mask
    for name, other in (("face_map", "vertices"), ("pose_map", "pose_face")):
        points = np.moveaxis(ours[name], 1, -1)[:, mask]
        assert np.abs(points - truth[other]).max() < pixels, name
    shape = np.moveaxis(ours["offset_map"], 1, -1)[:, mask] + checkpoint.uv.mean_shape
    np.testing.assert_allclose(shape, truth["shape"], atol=pixels / 30)
    np.testing.assert_allclose(ours["attention"][:, 0], truth["attention"], atol=pixels / 10)
    np.testing.assert_allclose(ours["scale"], truth["scale"], rtol=pixels / 50)
    np.testing.assert_allclose(ours["rotation"], truth["rotation"], atol=pixels / 50)
    np.testing.assert_allclose(ours["translation"], truth["translation"], atol=pixels)
    assert np.linalg.det(ours["rotation"]) == pytest.approx(1, abs=1e-4)


def test_rotations_without_svd():
    generator = torch.Generator().manual_seed(0)
    m = torch.randn(500, 3, 3, generator=generator)
    u, _, vh = torch.linalg.svd(m.double())
    np.testing.assert_allclose(nearest_rotation(m, False), u @ vh, atol=1e-5)
    sign = torch.diag_embed(
        torch.stack([torch.ones(500), torch.ones(500), torch.det(u @ vh).float()], 1)
    ).double()
    np.testing.assert_allclose(nearest_rotation(m, True), u @ sign @ vh, atol=1e-5)


def test_flat_and_hidden_faces_align_alike():
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(40, 68, 3, generator=generator) * torch.tensor([1.0, 1.2, 0.05])
    target = source @ torch.linalg.qr(torch.randn(40, 3, 3, generator=generator))[0] * 70 + 128
    weights = torch.rand(40, 68, generator=generator) ** 4 + 0.1
    exact = weighted_similarity(source, target, weights)
    ours = weighted_similarity(source, target, weights, nearest=nearest_rotation)
    for a, b in zip(exact, ours, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-3)


@pytest.mark.slow
def test_onnx_agrees_with_pytorch_in_any_batch(
    checkpoint, crops, photos, tmp_path, monkeypatch, capsys
):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "small.onnx"
    export_model(checkpoint, path, "onnx", dynamic_batch=True)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == list(OUTPUTS)
    compare(checkpoint, session.run(None, {"crops": crops[:1]}), crops[:1], 1e-3)
    compare(checkpoint, session.run(None, {"crops": crops[1:]}), crops[1:], 1e-3)
    about = json.loads(session.get_modelmeta().custom_metadata_map["sadr"])
    assert about["license"] == "for tests" and len(about["landmarks_row_column"]) == 68
    # the example runs it as it stands, and agrees with the library about the place
    example, photo = "examples/run_onnx.py", "examples/photos/astronaut.jpg"
    root = photos.parents[1]
    monkeypatch.setattr(
        sys, "argv", [example, str(path), str(root / photo), "180", "80", "270", "170"]
    )
    runpy.run_path(str(root / example), run_name="__main__")
    said = capsys.readouterr().out
    assert f"{checkpoint.uv.vertex_count} vertices" in said and "nose tip" in said


@pytest.mark.slow
def test_half_stays_within_a_fraction_of_a_pixel(checkpoint, crops, tmp_path):
    path = tmp_path / "small.pt"
    export_model(checkpoint, path, "torchscript", half=True)
    extra = {"sadr": ""}
    model = torch.jit.load(str(path), _extra_files=extra)
    assert json.loads(extra["sadr"])["half"] is True
    with torch.inference_mode():
        outputs = [o.numpy() for o in model(torch.from_numpy(crops[:2]))]
    assert all(o.dtype == np.float32 for o in outputs)
    truth = reference(checkpoint, crops[:2])
    points = np.moveaxis(outputs[1 - 1], 1, -1)[:, checkpoint.uv.mask]
    assert np.abs(points - truth["pose_face"]).max() < 0.5


@pytest.mark.slow
def test_torchscript_takes_any_batch(checkpoint, crops, tmp_path):
    path = tmp_path / "small.pt"
    export_model(checkpoint, path, "torchscript")
    model = torch.jit.load(str(path))
    for part in (crops[:1], crops[:5]):
        with torch.inference_mode():
            outputs = [o.numpy() for o in model(torch.from_numpy(part))]
        compare(checkpoint, outputs, part, 1e-3)


@pytest.mark.parametrize("half", [False, True])
def test_safetensors_is_a_checkpoint_again(checkpoint, tmp_path, half):
    path = tmp_path / "small.safetensors"
    export_model(checkpoint, path, "safetensors", half=half)
    with safe_open(str(path), framework="pt") as file:
        kind = file.get_tensor("network.decoder_low.0.deconv.weight").dtype
    assert kind == (torch.float16 if half else torch.float32)
    assert load_checkpoint(path).name == "small"


def test_the_command(checkpoint, tmp_path):
    weights = tmp_path / "w.safetensors"
    save_checkpoint(checkpoint, weights)

    def sadr(*arguments):
        options = ["export", "model", "--weights", str(weights), *map(str, arguments)]
        return CliRunner().invoke(app, options)

    out = tmp_path / "models"
    result = sadr("--format", "torchscript", "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["path"] == str(out / "small.pt")
    for wrong in (["--format", "tflite"], ["--format", "onnx", "--decimate", 900],
                  ["--format", "safetensors", "--dynamic-batch"]):  # fmt: skip
        result = sadr("--out", tmp_path / "x", *wrong)
        assert result.exit_code == 2 and not (tmp_path / "x").exists()
    with pytest.raises(UsageError):
        export_model(checkpoint, tmp_path / "x", "tflite")


def test_networks_of_the_ablation_are_refused(checkpoint, tmp_path) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match="ablation"):
        export_model(replace(checkpoint, alignment="direct"), tmp_path / "m.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
