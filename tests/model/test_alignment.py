from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sadr_cli.model import alignment
from sadr_cli.model.alignment import (
    flip_y,
    sample_attention,
    self_align,
    surface_normals,
    transform_map,
    visibility,
    weighted_similarity,
)
from sadr_cli.pose import euler_to_matrix, geodesic_distance
from sadr_cli.uv import UVLayout

ANGLE = st.floats(-180, 180)


def points(seed: int, batch: int = 2, count: int = 68) -> Tensor:
    return torch.randn(batch, count, 3, generator=torch.Generator().manual_seed(seed))


def rotation(yaw: float, pitch: float, roll: float) -> Tensor:
    return torch.from_numpy(euler_to_matrix(yaw, pitch, roll)).float()


def place(p: Tensor, f: float, r: Tensor, t: Tensor) -> Tensor:
    return f * p @ r.T + t


@given(ANGLE, ANGLE, ANGLE, st.floats(0.01, 500), st.integers(0, 1000))
@settings(deadline=None)
def test_a_known_similarity_is_recovered(yaw, pitch, roll, f, seed) -> None:
    source = points(seed)
    r, t = rotation(yaw, pitch, roll), torch.tensor([12.0, -30.0, 7.0]) * f
    weights = torch.rand(2, 68, generator=torch.Generator().manual_seed(seed)) + 0.1
    for mode in ("paper", "official"):
        got_f, got_r, got_t = weighted_similarity(
            source, place(source, f, r, t), weights, mode=mode
        )
        assert torch.allclose(got_f, torch.full((2,), f), rtol=1e-4)
        assert (got_r - r).abs().max() < 1e-4
        assert (got_t - t).abs().max() < 1e-3 * f


def corrupted(seed: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Points, their places where every second one is wrong, which ones, and the true (R, t)."""
    source = points(seed, batch)
    r, t = rotation(40, 10, -5), torch.tensor([1.0, 2.0, 3.0])
    target = place(source, 3.0, r, t)
    hidden = torch.arange(68) % 2 == 0
    noise = torch.randn(batch, 34, 3, generator=torch.Generator().manual_seed(seed))
    target[:, hidden] += 2 * noise
    return source, target, hidden.expand(batch, 68), (r, t)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_hidden_landmarks_of_weight_zero_are_ignored(seed: int) -> None:
    source, target, hidden, (r, t) = corrupted(seed)
    f, got, shift = weighted_similarity(source, target, torch.where(hidden, 0.0, 1.0))
    assert f.item() == pytest.approx(3, rel=1e-5)
    assert (got[0] - r).abs().max() < 1e-4
    assert (shift[0] - t).abs().max() < 1e-4


def test_hidden_landmarks_pull_only_a_little() -> None:
    """With the 0.1 of Eq 11 the rotation is wrong by a fifth of what it is with equal weights.

    That is so on average: single draws of the noise may go the other way.
    """
    source, target, hidden, (r, _) = corrupted(0, batch=500)
    weights = torch.where(hidden, 0.1, 1.1)
    soft, blind = (
        np.mean([geodesic_distance(m, r.numpy()) for m in rotations.numpy()])
        for _, rotations, _ in (
            weighted_similarity(source, target, w) for w in (weights, torch.ones(500, 68))
        )
    )
    assert 0 < soft < 0.25 * blind


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_the_less_hidden_landmarks_weigh_the_less_they_pull(seed: int) -> None:
    """Where hidden and visible landmarks share their centroids, this holds for every draw.

    The rotation then minimises V + a H, V and H being the squared distances it leaves at the
    visible and at the hidden ones, a the weight of these over that of those. For the minimisers
    of a < b, V(a) + a H(a) <= V(b) + a H(b) and V(b) + b H(b) <= V(a) + b H(a); their sum
    says H(b) <= H(a), and with the first of them V(a) <= V(b).
    """
    source, target, hidden, (r, t) = corrupted(seed)
    hidden = hidden[0]
    noise = target - place(source, 3.0, r, t)
    for values, part in ((source, hidden), (source, ~hidden), (noise, hidden)):
        values[:, part] -= values[:, part].mean(1, keepdim=True)
    target = place(source, 3.0, r, t) + noise

    def left(weights: Tensor) -> tuple[float, float]:
        found = weighted_similarity(source, target, weights[None])[1][0]
        squares = (place(source, 3.0, found, t) - target).square().sum(-1)[0]
        return squares[~hidden].sum().item(), squares[hidden].sum().item()

    zero = torch.where(hidden, 0.0, 1.0)
    visible, behind = zip(*(left(w) for w in (zero, zero + 0.1, torch.ones(68))), strict=True)
    assert visible[0] < visible[1] < visible[2]
    assert behind[0] > behind[1] > behind[2]


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_rotation_stays_proper_even_for_a_mirrored_target(seed: int) -> None:
    source = points(seed)
    mirrored = source * torch.tensor([-1.0, 1.0, 1.0])
    _, r, _ = weighted_similarity(source, mirrored, torch.ones(2, 68))
    assert torch.allclose(torch.linalg.det(r), torch.ones(2), atol=1e-4)
    assert torch.allclose(r @ r.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-4)


def test_degenerate_points_give_finite_results_and_gradients() -> None:
    for source in (
        torch.zeros(1, 68, 3),
        torch.ones(1, 68, 3),
        points(0, 1) * torch.tensor([1.0, 0, 0]),
    ):
        source = source.clone().requires_grad_()
        target = points(1, 1).requires_grad_()
        outputs = weighted_similarity(source, target, torch.ones(1, 68))
        sum(o.sum() for o in outputs).backward()
        for value in (*outputs, source.grad, target.grad):
            assert torch.isfinite(value).all()


def test_gradient_of_the_rotation_is_right() -> None:
    source, target = points(3, 1).double(), points(4, 1).double()
    weights = torch.rand(1, 68, dtype=torch.float64)
    direction = torch.randn(1, 68, 3, dtype=torch.float64)
    probe = torch.randn(1, 3, 3, dtype=torch.float64)

    def value(step: float) -> Tensor:
        _, r, _ = weighted_similarity(source, target + step * direction, weights)
        return (r * probe).sum()

    t = target.clone().requires_grad_()
    (weighted_similarity(source, t, weights)[1] * probe).sum().backward()
    numeric = (value(1e-2) - value(-1e-2)) / 2e-2
    assert (t.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=2e-3)


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="paper or official"):
        weighted_similarity(points(0), points(1), torch.ones(2, 68), mode="best")


# Whole maps -----------------------------------------------------------------------------------


def maps(uv: UVLayout) -> tuple[Tensor, Tensor, Tensor]:
    shape = torch.from_numpy(np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)).float()[None]
    return shape, torch.from_numpy(uv.kpt.astype(np.int64)), torch.from_numpy(uv.mask)


def pose_map(shape: Tensor, yaw: float, f: float = 60.0) -> Tensor:
    t = torch.tensor([[127.0, -120.0, 0.0]])
    return transform_map(shape, torch.tensor([f]), rotation(yaw, 5, -8)[None], t)


@pytest.mark.parametrize("mode", ["paper", "official"])
@pytest.mark.parametrize("yaw", [0.0, -50.0, 88.0])
def test_the_final_face_is_the_posed_shape_under_the_y_flip(uv: UVLayout, yaw, mode) -> None:
    shape, kpt, mask = maps(uv)
    posed = pose_map(shape, yaw)
    got = self_align(posed, shape, torch.ones(1, 1, 32, 32), kpt, size=256, mask=mask, mode=mode)
    assert torch.linalg.det(got.rotation).item() == pytest.approx(1, abs=1e-4)
    assert (got.rotation[0] - rotation(yaw, 5, -8)).abs().max() < 1e-4
    assert ((got.face - posed).abs() * mask).max() < 1e-2
    up = got.scale * torch.einsum("ij,jhw->ihw", got.rotation[0], shape[0])
    up = up + got.translation[0][:, None, None]
    assert torch.allclose(flip_y(up, 0), got.face[0], atol=1e-3)


def test_occluded_landmarks_do_not_disturb_the_pose(uv: UVLayout) -> None:
    """Attention hides the lower half; there P is wrong by 20 pixels."""
    shape, kpt, mask = maps(uv)
    posed = pose_map(shape, 0.0)
    low = posed[:, 1] > 128
    broken = posed.clone()
    broken[:, 0][low] += 20
    attention = torch.ones(1, 1, 32, 32)
    attention[:, :, 16:] = 0
    aware = self_align(broken, shape, attention, kpt, size=256, mask=mask)
    blind = self_align(broken, shape, torch.ones(1, 1, 32, 32), kpt, size=256, mask=mask)
    error = [((g.face - posed).norm(dim=1) * mask).sum() / mask.sum() for g in (aware, blind)]
    assert error[0] < 0.5 * error[1]


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_safe_when_everything_is_hidden_or_outside(uv: UVLayout, mode: str) -> None:
    shape, kpt, mask = maps(uv)
    for posed, attention in (
        (pose_map(shape, 0.0), torch.zeros(1, 1, 32, 32)),
        (pose_map(shape, 0.0) + 9000, torch.rand(1, 1, 32, 32)),
        (pose_map(shape, 180.0), torch.rand(1, 1, 32, 32)),
        (pose_map(shape, 0.0) - 500, None),
    ):
        posed, s = posed.clone().requires_grad_(), shape.clone().requires_grad_()
        got = self_align(posed, s, attention, kpt, size=256, mask=mask, mode=mode)
        got.face.pow(2).mean().backward()
        for value in (*got, posed.grad, s.grad):
            assert torch.isfinite(value).all()
        if mode == "paper":
            assert got.weights.min() >= 0.1 - 1e-6


def test_normals_point_at_the_viewer_and_ignore_what_is_outside_the_mask(uv: UVLayout) -> None:
    shape, _, mask = maps(uv)
    posed = pose_map(shape, 0.0)
    normals = surface_normals(posed, mask)[0]
    assert (normals[2][mask] > 0).float().mean() > 0.99
    assert torch.allclose(normals[:, mask].norm(dim=0), torch.ones(int(mask.sum())), atol=1e-4)
    garbage = torch.where(mask, posed, torch.full_like(posed, 1e4))
    assert torch.allclose(surface_normals(garbage, mask)[0][:, mask], normals[:, mask], atol=1e-4)
    behind = surface_normals(pose_map(shape, 180.0), mask)[0]
    assert (behind[2][mask] < 0).float().mean() > 0.99


def test_attention_is_read_at_the_cell_of_the_point() -> None:
    attention = torch.arange(16.0).view(1, 1, 4, 4)
    xy = torch.tensor(
        [[[0.0, 0.0], [63.4, 0.0], [63.6, 70.0], [255.4, 255.4], [-0.6, 5.0], [5.0, 256.0]]]
    )
    assert sample_attention(attention, xy, 256).tolist() == [[0, 0, 5, 15, 0, 0]]


def test_visibility_is_zero_where_the_surface_turns_away() -> None:
    position = torch.full((1, 2, 3), 100.0)
    normals = torch.tensor([[[0.0, 0, 1], [0.0, 0, -1]]])
    attention = torch.full((1, 1, 32, 32), 0.7)
    assert torch.allclose(visibility(position, normals, attention, 256), torch.tensor([[0.7, 0]]))
    assert visibility(position, normals, None, 256).tolist() == [[1, 0]]


@pytest.mark.parametrize("mode", ["paper", "official"])
@pytest.mark.parametrize("attends", [True, False])
def test_on_vertices_the_same_as_on_maps(mode, attends):
    """The fast way of inference gives what the maps' way gives, borders of the mask included."""
    torch.manual_seed(3)
    size, mask = 32, torch.zeros(32, 32, dtype=torch.bool)
    mask[3:30, 0:28] = True
    mask[10:14, 12:20] = False
    mask[20, 5] = False
    inside = mask.nonzero()
    kpt = inside[torch.randperm(len(inside))[:20]]
    pose_face = 32 * torch.rand(4, 3, 32, 32)
    shape = torch.randn(4, 3, 32, 32)
    attention = torch.rand(4, 1, 4, 4) if attends else None
    wanted = alignment.self_align(pose_face, shape, attention, kpt, size=size, mask=mask, mode=mode)
    vertices = mask.flatten().nonzero()[:, 0]
    numbers = torch.zeros(32 * 32, dtype=torch.long)
    numbers[vertices] = torch.arange(len(vertices))
    surface = alignment.UVSurface(mask)

    weights = None
    if mode == "official":
        there = alignment.gather_points(pose_face, kpt)
        weights = alignment.official_weights(pose_face, there, attention, kpt, size)
    got, facing = alignment.self_align_vertices(
        pose_face,
        shape,
        attention,
        numbers[kpt[:, 0] * 32 + kpt[:, 1]],
        surface,
        size=size,
        weights=weights,
        mode=mode,
    )
    for name in ("scale", "rotation", "translation", "weights"):
        torch.testing.assert_close(getattr(got, name), getattr(wanted, name), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.face, surface.gather(wanted.face), rtol=1e-4, atol=1e-3)
    normals = surface.gather(alignment.surface_normals(wanted.face, mask))[:, 2]
    clear = normals.abs() > 1e-4
    assert torch.equal(facing[clear], (normals >= 0)[clear]) and clear.float().mean() > 0.99


def test_attention_reaches_from_edge_to_edge() -> None:
    attention = torch.arange(1.0, 5.0).view(1, 1, 2, 2)
    corners = torch.tensor([[[0.0, 0.0], [7.0, 0.0], [0.0, 7.0], [7.0, 7.0]]])
    assert sample_attention(attention, corners, 8).tolist() == [[1, 2, 3, 4]]
    outside = torch.tensor([[[-1.0, 0.0], [8.0, 0.0], [0.0, -1.0], [0.0, 8.0]]])
    assert sample_attention(attention, outside, 8).tolist() == [[0, 0, 0, 0]]


def test_weights_of_the_public_code_landmark_by_landmark() -> None:
    generator = torch.Generator().manual_seed(3)
    face = torch.rand(2, 3, 7, 6, generator=generator) * 8
    attention = torch.rand(2, 1, 4, 4, generator=generator)
    kpt = torch.tensor([[r, c] for r in range(1, 7) for c in range(1, 6)])
    landmarks = face[:, :, kpt[:, 0], kpt[:, 1]].transpose(1, 2)
    got = alignment.official_weights(face, landmarks, attention, kpt, 8)
    bare = alignment.official_weights(face, landmarks, None, kpt, 8)
    f = face.numpy()
    for b in range(2):
        for k, (row, column) in enumerate(kpt.tolist()):
            here = f[b, :, row, column]
            west, north = f[b, :, row, column - 1] - here, f[b, :, row - 1, column] - here
            weight = 1.0 if np.cross(west, north)[2] >= 0 else 0.1
            cell = attention[b, 0, int(here[1] / 2), int(here[0] / 2)].item()
            assert bare[b, k].item() == pytest.approx(weight)
            assert got[b, k].item() == pytest.approx(weight * cell)


def test_a_face_taken_as_it_is_gives_back_shape_and_pose(uv: UVLayout) -> None:
    """Without deformation (Fig. 9d) P stands, and S is P without its pose."""
    shape, kpt, mask = maps(uv)
    posed = pose_map(shape, 25)
    found, again = alignment.take_direct(posed, shape, None, kpt, size=256, mask=mask)
    assert found.face is posed
    assert found.scale.item() == pytest.approx(60, rel=1e-4)
    assert ((again - shape).abs() * mask).max() < 1e-4
