"""Dense truth, reconstruction error, and the face-model files behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import (
    SMALL,
    true_faces,
    write_aflw2000,
    write_bfm,
    write_face_model,
    write_predictions,
)
from scipy.io import savemat

from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.benchmarks.aflw2000 import PROTOCOL
from sadr_cli.evaluation.data import aflw2000, predictions
from sadr_cli.evaluation.measures.bfm import convert_bfm, load_dense_truth
from sadr_cli.evaluation.measures.dense import UNIT
from sadr_cli.evaluation.measures.metrics import inter_ocular
from sadr_cli.evaluation.settings import Settings
from sadr_cli.pose import euler_to_matrix

FACES = true_faces()
SETTINGS = Settings("aflw2000")


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    write_aflw2000(folder / "data")
    truth = load_dense_truth(write_face_model(folder / "model.npz"))
    return folder, aflw2000.load(folder / "data"), truth


def scores_of(setup, faces, align="procrustes"):
    folder, benchmark, truth = setup
    path = write_predictions(folder / "p.npz", faces, dense=True)
    found = predictions.load(path, benchmark)
    return PROTOCOL.score(benchmark, found, replace(SETTINGS, align=align), dense_truth=truth)


def test_the_true_surface_is_decoded_into_the_picture(setup):
    _, benchmark, truth = setup
    for i, surface in truth.faces(benchmark):
        np.testing.assert_allclose(surface, FACES[i].vertices, atol=1e-3)
    details = scores_of(setup, FACES).results
    assert details["dense_2d"]["fitted"]["mean"] == pytest.approx(0, abs=1e-3)
    assert details["dense_3d"]["fitted"]["mean"] == pytest.approx(0, abs=1e-3)
    assert truth.details["mean offset to the 68 points (x, y) pixels"] == [0, 0]


def test_coefficients_are_divided_by_their_standard_deviation(setup):
    _, benchmark, truth = setup
    b = benchmark.parameters
    changed = replace(b, shape=b.shape + 2.0, expression=b.expression + 3.0)
    model = truth.model
    want = model.layout.mean_shape + model.basis @ np.array([2 / 1, 2 / 2, 3 / 3], np.float32)
    np.testing.assert_allclose(truth.shape(changed, 0), want, atol=1e-5)


@pytest.mark.parametrize("flip", [("height", 0), ("height-1", -1), ("height+1", 1)])
def test_the_three_flips_differ_by_a_pixel(setup, flip):
    folder, benchmark, truth = setup
    other = load_dense_truth(folder / "model.npz", flip[0])
    difference = other.face(benchmark.parameters, 0, 120) - truth.face(benchmark.parameters, 0, 120)
    np.testing.assert_allclose(difference.mean(0), [0, flip[1], 0], atol=1e-9)


@pytest.mark.parametrize("align", ["procrustes", "icp"])
def test_a_wrong_pose_does_not_enter_the_reconstruction_error(setup, align):
    turn = euler_to_matrix(3, 2, 1)
    turned = [replace(f, vertices=f.vertices @ turn.T + [5, 3, 40]) for f in FACES]
    s = scores_of(setup, turned, align)
    assert s.results["reconstruction"]["fitted"]["mean"] == pytest.approx(0, abs=2e-2)
    assert s.results["dense_2d"]["fitted"]["mean"] > 3


def test_a_known_error_comes_out_as_itself(setup):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, (6, SMALL.vertex_count, 3))
    noisy = [replace(f, vertices=f.vertices + n) for f, n in zip(FACES, noise, strict=True)]
    s = scores_of(setup, noisy)
    eyes = [float(inter_ocular(f.landmarks)) for f in FACES]
    want = [100 * np.linalg.norm(n, axis=1).mean() / e for n, e in zip(noise, eyes, strict=True)]
    np.testing.assert_allclose(s.per_image["reconstruction"], want, rtol=5e-3)


def test_the_mean_template_has_a_row_of_its_own(setup):
    folder, benchmark, truth = setup
    parameters = benchmark.parameters
    changed = replace(benchmark, parameters=replace(parameters, shape=parameters.shape + 2.0))
    path = write_predictions(folder / "t.npz", FACES, dense=True)  # faces of the mean shape
    s = PROTOCOL.score(changed, predictions.load(path, changed), SETTINGS, dense_truth=truth)
    assert s.results["template"]["fitted"]["mean"] > 0.5
    np.testing.assert_allclose(s.per_image["template"], s.per_image["reconstruction"], rtol=1e-3)
    assert "template" not in scores_of(setup, FACES, "icp").results


def test_scale_enters_rigid_icp_but_not_procrustes(setup):
    larger = [replace(f, vertices=f.vertices * 1.05) for f in FACES]
    assert scores_of(setup, larger).results["reconstruction"]["fitted"]["mean"] < 1e-2
    assert scores_of(setup, larger, "icp").results["reconstruction"]["fitted"]["mean"] > 0.5


def test_another_number_of_vertices_is_refused(setup):
    fewer = [replace(f, vertices=f.vertices[:-1]) for f in FACES]
    with pytest.raises(MissingDataError, match=f"the face model {SMALL.vertex_count}"):
        scores_of(setup, fewer)


def test_without_a_face_model_the_rows_say_why(setup):
    _, benchmark, _ = setup
    path = write_predictions(setup[0] / "q.npz", FACES)
    s = PROTOCOL.score(benchmark, predictions.load(path, benchmark), SETTINGS)
    assert s.left_out["dense_2d"] == "no face model (--face-model)"
    assert "dense_2d" not in s.results


def test_a_truncated_basis_is_called_approximate(setup, tmp_path):
    assert "approximate" in setup[2].note
    model = setup[2].model
    for identities, columns, approximate in ((199, 199, True), (199, 228, False), (40, 228, True)):
        basis = np.zeros((model.layout.vertex_count, 3, columns), np.float16)
        truth = replace(setup[2], model=replace(model, basis=basis, identities=identities))
        assert ("approximate" in truth.note) == approximate


@pytest.mark.parametrize("names", ["face3d", "3ddfa"])
def test_a_bfm_pair_is_converted(tmp_path, names):
    arrays = write_bfm(tmp_path, SMALL, names)
    out = convert_bfm(tmp_path / "BFM.mat", tmp_path / "BFM_UV.mat", SMALL, tmp_path / "m.npz")
    truth = load_dense_truth(out)
    assert truth.model.identities == 3
    np.testing.assert_allclose(truth.model.layout.mean_shape, SMALL.mean_shape, atol=1e-5)
    column = (arrays["expPC"][:, 1] * arrays["expEV"][1]).reshape(-1, 3) * UNIT
    np.testing.assert_allclose(truth.model.basis[..., 4], column, rtol=1e-4, atol=1e-9)
    with np.load(out) as file:
        assert (file["covered"] == SMALL.mask).all()


def test_pixels_beyond_the_models_uv_copy_their_neighbour(tmp_path):
    write_bfm(tmp_path, SMALL)
    wider = np.zeros_like(SMALL.mask)
    wider[1:, 1:] |= SMALL.mask[:-1, :-1]
    wider |= SMALL.mask
    mean = np.zeros((int(wider.sum()), 3), np.float32)
    layout = replace(SMALL, mask=wider, mean_shape=mean)
    out = convert_bfm(tmp_path / "BFM.mat", tmp_path / "BFM_UV.mat", layout, tmp_path / "m.npz")
    with np.load(out) as file:
        assert (file["covered"] == SMALL.mask).all()
        assert np.isfinite(file["mean"]).all()
        assert np.abs(file["mean"]).sum(1).min() > 0


def test_a_pair_that_is_none(tmp_path):
    write_bfm(tmp_path, SMALL)
    savemat(tmp_path / "UV2.mat", {"UV": np.zeros((10, 2))})
    with pytest.raises(MissingDataError, match="do not belong together"):
        convert_bfm(tmp_path / "BFM.mat", tmp_path / "UV2.mat", SMALL, tmp_path / "m.npz")
    with pytest.raises(MissingDataError, match="no UV"):
        convert_bfm(tmp_path / "BFM.mat", tmp_path / "BFM.mat", SMALL, tmp_path / "m.npz")
    with pytest.raises(MissingDataError, match="has no shapeMU"):
        convert_bfm(tmp_path / "UV2.mat", tmp_path / "BFM_UV.mat", SMALL, tmp_path / "m.npz")
