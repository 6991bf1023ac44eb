"""Another network beside sadr's, on a made-up benchmark whose errors are known in advance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_data import FakeNetwork, true_faces, write_300w, write_aflw2000

from sadr_cli.evaluation import run
from sadr_cli.evaluation.measures.metrics import nme_2d

FACES = true_faces()


@pytest.fixture
def script(monkeypatch, load_script):
    module = load_script("compare_3ddfa_v2")
    network = FakeNetwork(FACES)
    monkeypatch.setattr(run, "make_network", lambda settings: network)
    monkeypatch.setattr(module, "make_network", lambda settings: network)
    return module


def write_constant_network(folder: Path, parameters: np.ndarray) -> Path:
    """An ONNX network that gives the same parameters for every picture."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "parameters"], ["output"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((43_200, 62), np.float32), "nothing"),
        numpy_helper.from_array(parameters[None].astype(np.float32), "parameters"),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 120, 120])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 62])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def write_basis(folder: Path, mean: np.ndarray) -> Path:
    np.savez(
        folder / "basis.npz",
        param_mean=np.zeros(62, np.float32),
        param_std=np.ones(62, np.float32),
        u=mean.astype(np.float32),
        w=np.zeros((68, 3, 50), np.float32),
    )
    return folder / "basis.npz"


def test_both_networks_by_every_protocol(tmp_path, script, rows_of, capsys):
    pytest.importorskip("onnxruntime")
    data = tmp_path / "AFLW2000-3D"
    write_aflw2000(data)
    write_300w(tmp_path / "300W", [face.landmarks for face in FACES])
    # A frontal face in the middle of the crop, whatever the picture.
    mean = np.random.default_rng(0).normal(0, 1, (68, 3))
    camera = np.array([[20.0, 0, 0, 61], [0, 20, 0, 60], [0, 0, 20, 1]])
    onnx = write_constant_network(tmp_path, np.concatenate([camera.ravel(), np.zeros(50)]))
    arguments = ["--onnx", onnx, "--basis", write_basis(tmp_path, mean), "--out", tmp_path / "o"]
    data_arguments = ["--aflw2000", data, "--300w", tmp_path / "300W"]
    assert script.main([str(a) for a in (*arguments, *data_arguments)]) == 0
    rows = rows_of(capsys.readouterr().out)

    truth = np.stack([f.landmarks for f in FACES])
    low, high = truth[..., :2].min(1), truth[..., :2].max(1)
    side = np.sqrt(2) * (high - low).max(1)
    pixel = mean[:, :2] * (20, -20) + (60, 60)
    expected = (low + high)[:, None] / 2 + (pixel - 60) * (side / 120)[:, None, None]
    errors = nme_2d(expected, truth)
    assert float(rows["2D, 3DDFA_V2"][4]) == pytest.approx(errors.mean(), abs=0.01)
    assert float(rows["2D, 3DDFA_V2"][0]) == pytest.approx(errors[:2].mean(), abs=0.01)
    assert rows["2D, sadr fake"] == ["0.00"] * 5
    assert rows["2D, sadr minus 3DDFA_V2"][4].startswith(f"-{errors.mean():.2f}")
    assert rows["sadr fake"][:3] == ["0.00"] * 3
    assert "3D, 3DDFA_V2, sadr's crop" in rows
    assert "sadr's cost / 3DDFA_V2's" in rows


def test_what_is_wrong_is_said(tmp_path, script, capsys):
    onnx = tmp_path / "net.onnx"
    onnx.write_bytes(b"no network")
    basis = write_basis(tmp_path, np.zeros((68, 3)))
    with pytest.raises(SystemExit, match="no benchmark"):
        script.main(["--onnx", str(onnx), "--basis", str(basis)])
    arguments = ["--aflw2000", str(tmp_path)]
    assert script.main(["--onnx", str(onnx), "--basis", str(basis), *arguments]) == 5
    assert "net.onnx is not an ONNX network" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", param_mean=np.zeros(3))
    bad = ["--basis", str(tmp_path / "other.npz")]
    assert script.main(["--onnx", str(onnx), *bad, *arguments]) == 5
    assert "has no array 'param_std'" in capsys.readouterr().err
