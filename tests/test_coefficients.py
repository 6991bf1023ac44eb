"""``--format coefficients``, while faces are reconstructed and from a finished run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fakes import FakeDetector, FakeReconstructor, photo_with
from synthetic import layout

from sadr_cli.pipeline import RunSettings, Work, run
from sadr_cli.sources import iter_sources

UV = layout(0.25)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two faces, reconstructed with coefficients, and the model: the fake's face is its mean."""
    folder = tmp_path_factory.mktemp("coefficients")
    photo_with(folder / "photos" / "a.png", [(20, 30, 40), (110, 60, 60)])
    rng = np.random.default_rng(0)
    mean = UV.mean_shape.astype(float)
    np.savez(
        folder / "model.npz",
        mean=mean,
        basis=rng.normal(0, 0.02, (*mean.shape, 3)),
        identities=2,
        sigma=np.array([10.0, 20.0, 30.0]),
        mask=UV.mask,
    )
    run(
        (Work(s) for s in iter_sources([str(folder / "photos")])),
        FakeReconstructor(),
        FakeDetector,
        RunSettings(folder / "run", ("obj", "coefficients"), face_model=folder / "model.npz"),
    )
    return folder


def test_a_run_writes_them_beside_its_meshes(made):
    for name in ("a", "a_face1"):
        found = json.loads((made / "run" / f"{name}.coefficients.json").read_text())
        assert np.abs(found["identity"]).max() < 0.1 and len(found["identity"]) == 2
        assert len(found["expression"]) == 1
        assert found["own"]["identity"][1] == pytest.approx(20 * found["identity"][1], abs=1e-3)
        assert found["residual_mm"]["mean"] < 0.2
        assert len(found["model"]["sha256"]) == 64 and found["model"]["file"] == "model.npz"
    entry = json.loads((made / "run" / "manifest.json").read_text())["inputs"][0]
    assert entry["faces"][0]["coefficients"] == "a.coefficients.json"


def test_export_gives_the_same_of_a_finished_run(sadr, made, tmp_path):
    result = sadr(
        "export", made / "run", "--out", tmp_path, "--format", "coefficients",
        "--face-model", made / "model.npz",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    for name in ("a", "a_face1"):
        there, here = (
            json.loads((folder / f"{name}.coefficients.json").read_text())
            for folder in (made / "run", tmp_path)
        )
        np.testing.assert_allclose(here["identity"], there["identity"], atol=0.02)
        np.testing.assert_allclose(here["expression"], there["expression"], atol=0.02)
    # the export can be exported again: nothing takes the coefficients for a face
    again = sadr("export", tmp_path, "--out", tmp_path / "2", "--format", "pts")
    assert "a.coefficients" not in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--format", "coefficients"), 2, "needs --face-model"),
        (("--format", "obj", "--face-model", "{model}"), 2, "is for --format coefficients"),
        (("--format", "coefficients", "--face-model", "no.npz"), 5, "no face model at no.npz"),
        (("--format", "coefficients", "--face-model", "{photo}"), 5, "a.png"),
    ],
)
@pytest.mark.parametrize("command", ["export", "reconstruct"])
def test_mistakes_are_said_before_any_work(
    sadr, made, tmp_path, monkeypatch, command, options, code, message
):
    if command == "reconstruct":
        monkeypatch.undo()  # with the weights that come with the package
    names = {"{model}": made / "model.npz", "{photo}": made / "photos" / "a.png"}
    given = [names.get(option, option) for option in options]
    source = made / ("run" if command == "export" else "photos")
    result = sadr(command, source, "--out", tmp_path / "out", *given)
    assert result.exit_code == code and message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_lone_mesh_has_none(sadr, made, tmp_path):
    (tmp_path / "lone.obj").write_bytes((made / "run" / "a.obj").read_bytes())
    result = sadr(
        "export", tmp_path / "lone.obj", "--out", tmp_path / "out", "--format", "coefficients",
        "--face-model", made / "model.npz",
    )  # fmt: skip
    assert result.exit_code == 2 and "record" in result.stderr
