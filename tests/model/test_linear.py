"""Coefficients of a user's linear face model: models whose truth is known, and bad ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic import layout

from sadr_cli.errors import MissingDataError
from sadr_cli.model.linear import fit_coefficients, load_linear_model
from sadr_cli.uv import MM_PER_UNIT

UV = layout(0.4)
K, IDENTITIES = 7, 4
TRUTH = np.array([1.5, -0.8, 0.3, -2.0, 0.9, -1.2, 0.5])
TURN = Rotation.from_euler("xyz", (10, 160, -25), degrees=True).as_matrix()


def smooth_basis(mean: np.ndarray, mm: float = 2.0) -> np.ndarray:
    """(V, 3, K) waves over the face, a few millimetres each, with no motion of the whole."""
    rng = np.random.default_rng(3)
    wave = np.stack([np.sin(mean @ rng.normal(0, 3, 3) + k) for k in range(3 * K)], 1)
    flat = wave.reshape(len(mean), 3, K).reshape(-1, K)
    # Without the motions and the growth that the alignment would take for itself.
    middle = mean - mean.mean(0)
    motions = [np.tile(axis, (len(mean), 1)) for axis in np.eye(3)]
    motions += [np.cross(axis, middle) for axis in np.eye(3)] + [middle]
    q = np.linalg.qr(np.stack([m.reshape(-1) for m in motions], 1))[0]
    flat = flat - q @ (q.T @ flat)
    flat /= np.sqrt((flat**2).sum(0) / len(mean))
    return flat.reshape(len(mean), 3, K) * mm / MM_PER_UNIT


MEAN = UV.mean_shape.astype(float)
BASIS = smooth_basis(MEAN)
SHAPE = MEAN + BASIS @ TRUTH


def save(path: Path, **arrays: object) -> Path:
    given = {"mean": MEAN, "basis": BASIS, "identities": IDENTITIES, "prior": 1e-6, **arrays}
    np.savez(path, **{k: v for k, v in given.items() if v is not None})
    return path


def both(found) -> np.ndarray:
    return np.concatenate([found.identity, found.expression])


def test_a_model_over_the_layout_gives_its_own_coefficients_back(tmp_path):
    model = load_linear_model(save(tmp_path / "m.npz", mask=UV.mask), UV)
    found = fit_coefficients(model, SHAPE)
    assert found.identity.shape == (IDENTITIES,)
    np.testing.assert_allclose(both(found), TRUTH, atol=1e-3)
    assert found.residual.max() < 0.01 and found.scale == MM_PER_UNIT


def test_a_model_in_a_frame_of_its_own_with_a_table_of_vertices(tmp_path):
    """Other axes, units and order, and fewer vertices than the layout."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(UV.vertex_count)[: UV.vertex_count // 2]
    outside = rng.normal(0, 1, (100, 3))  # the back of a head
    mean = np.concatenate([0.1 * MEAN[chosen] @ TURN.T + 7, outside])
    moved = 0.1 * np.einsum("ij,vjk->vik", TURN, BASIS[chosen])
    basis = np.concatenate([moved, np.zeros((100, 3, K))])
    table = np.concatenate([chosen, np.full(100, -1)])
    path = save(tmp_path / "m.npz", mean=mean, basis=basis, layout_vertices=table)
    found = fit_coefficients(load_linear_model(path, UV), SHAPE)
    # half of the vertices: the alignment still takes a little of the modes
    np.testing.assert_allclose(both(found), TRUTH, atol=0.05)
    assert found.residual.mean() < 0.05
    assert found.scale == pytest.approx(10 * MM_PER_UNIT, rel=0.01)


def test_a_model_placed_by_its_landmarks_alone(tmp_path):
    """Every third vertex, in metres, registered by the nearest point of the mean head."""
    chosen = np.union1d(np.arange(0, UV.vertex_count, 3), UV.landmark_indices)
    metres = MM_PER_UNIT / 1000
    landmarks = np.searchsorted(chosen, UV.landmark_indices)
    landmarks[:17] = -1  # FLAME's static landmarks have no jaw
    path = save(
        tmp_path / "m.npz",
        mean=metres * MEAN[chosen] @ TURN.T,
        basis=metres * np.einsum("ij,vjk->vik", TURN, BASIS[chosen]),
        landmarks=landmarks,
    )
    model = load_linear_model(path, UV)
    assert len(model.points) > 0.95 * len(chosen)
    found = fit_coefficients(model, SHAPE)
    np.testing.assert_allclose(both(found), TRUTH, atol=0.1)
    assert found.residual.mean() < 0.1


def test_what_the_model_cannot_say_is_the_residual(tmp_path):
    model = load_linear_model(save(tmp_path / "m.npz", mask=UV.mask), UV)
    shifted = SHAPE + np.array([0, 0, 3.0]) / MM_PER_UNIT  # 3 mm nearer, which no mode does
    found = fit_coefficients(model, shifted)
    assert found.residual.mean() == pytest.approx(3.0, abs=0.1)
    np.testing.assert_allclose(both(found), TRUTH, atol=0.05)


def test_the_prior_keeps_modes_that_hardly_move_the_face_small(tmp_path):
    tiny = np.concatenate([BASIS, 1e-4 * BASIS[::-1, :, :1]], 2)
    noisy = SHAPE + np.random.default_rng(1).normal(0, 0.5 / MM_PER_UNIT, SHAPE.shape)
    loose = load_linear_model(save(tmp_path / "a.npz", mask=UV.mask, basis=tiny, prior=1e-12), UV)
    kept = load_linear_model(save(tmp_path / "b.npz", mask=UV.mask, basis=tiny, prior=None), UV)
    found = fit_coefficients(kept, noisy)
    assert abs(found.expression[-1]) < 0.1
    assert abs(fit_coefficients(loose, noisy).expression[-1]) > 0.1
    np.testing.assert_allclose(both(found)[:K], TRUTH, atol=0.1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mask": None}, "needs one of mask, layout_vertices and landmarks"),
        ({"basis": BASIS[:-1]}, "basis (N, 3, K)"),
        ({"mask": UV.mask[:, ::-1] & False}, "with a pixel for each"),
        ({"mask": None, "layout_vertices": np.arange(3)}, "one a vertex"),
        ({"mask": None, "layout_vertices": np.arange(len(MEAN)) + 5}, "names vertex"),
        ({"mask": None, "landmarks": np.arange(5)}, "68 vertex numbers"),
        ({"mask": None, "landmarks": np.full(68, -1)}, "too few"),
        ({"mask": None, "landmarks": np.full(68, len(MEAN))}, "names vertex"),
        ({"identities": 9}, "identities 9"),
        ({"sigma": np.ones(3)}, "sigma"),
        ({"basis": BASIS * np.nan}, "basis must be finite"),
        ({"prior": -1.0}, "prior must be above zero"),
        (
            {"mask": None, "identities": None, "layout_vertices": np.arange(len(MEAN))},
            "needs identities",
        ),
    ],
)
def test_what_is_no_model_is_said_in_one_sentence(tmp_path, arrays, message):
    path = save(tmp_path / "m.npz", **{"mask": UV.mask, **arrays})
    with pytest.raises(MissingDataError) as caught:
        load_linear_model(path, UV)
    text = str(caught.value)
    assert message in text and str(path) in text and "\n" not in text


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(MissingDataError, match="--face-model"):
        load_linear_model(tmp_path / "none.npz", UV)
    (tmp_path / "m.npz").write_bytes(b"nothing")
    with pytest.raises(MissingDataError, match="m.npz"):
        load_linear_model(tmp_path / "m.npz", UV)


def test_the_basel_face_model_gives_the_coefficients_of_its_own_faces(shared_data):
    from sadr_cli.model.checkpoint import find_weights, load_layout
    from sadr_cli.model.face_model import load_face_model

    path = shared_data / "face_model" / "bfm_uv.npz"
    uv = load_layout(find_weights(None))
    truth = np.random.default_rng(5).normal(0, 1, 50)
    face = load_face_model(path).decode(truth)[0]
    model = load_linear_model(path, uv)
    exact = fit_coefficients(replace(model, prior=1e-6), face)
    np.testing.assert_allclose(both(exact), truth, atol=0.02)
    found = fit_coefficients(model, face)
    assert len(found.identity) == 40 and found.residual.mean() < 0.2
    np.testing.assert_allclose(found.identity[:10], truth[:10], atol=0.2)
    # the prior draws modes that move the face little towards zero
    assert np.linalg.norm(found.identity) < np.linalg.norm(truth[:40])
