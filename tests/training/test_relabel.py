"""New labels from teachers, people's points and the face model, on the made-up face."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_up import load

from sadr_cli.training.dataset import PhotoSet
from sadr_cli.training.relabel import (
    Labeller,
    Look,
    fit,
    follow_people,
    level,
    relabel,
    similarity,
    turn_back,
)


@pytest.fixture
def labeller(model, shard) -> Labeller:
    return Labeller(*load(model, shard, 64))


def everyone(labeller: Labeller) -> torch.Tensor:
    return torch.arange(len(labeller.photos))


def test_crops_and_their_way_back_agree_for_every_look(labeller) -> None:
    """A dot painted at a landmark is found at the landmark again."""
    rows = everyone(labeller)[:1]
    points = labeller.present(rows)
    nose = points[0, 30]
    x, y = round(float(nose[0])), round(float(-nose[1]))
    labeller.photos.images[0] = 0
    labeller.photos.images[0, :, y, x] = 255
    center, extent = labeller.box(rows)
    for look in (Look(), Look(0.1, -0.05, 1.2), Look(0.05, 0.1, 0.9, True)):
        side = 1.5 * extent.mean(1) * look.zoom
        middle = center + center.new_tensor([look.dx, look.dy]) * side[:, None]
        n = 256
        crop = labeller.cut(rows, middle, side, n, look.mirrored)[0, 0]
        weight = crop / crop.sum()
        at = torch.arange(n, dtype=torch.float32)
        seen = torch.stack([(weight.sum(0) * at).sum(), (weight.sum(1) * at).sum()])
        said = torch.zeros(1, len(labeller.mirror), 3)
        said[..., :2] = seen
        back = labeller.back(said, middle, side, n, look.mirrored)[0, 30]
        assert abs(float(back[0]) - x) < 0.05
        assert abs(float(-back[1]) - y) < 0.05


def test_the_fit_finds_pose_and_shape_again(labeller) -> None:
    rows = everyone(labeller)
    truth = labeller.photos
    points = labeller.present(rows)
    weight = torch.ones_like(points[..., 0])

    def gap(coefficients, f, rotation, t):
        shape = labeller.shapes(coefficients)
        fitted = f[:, None, None] * torch.einsum("bij,bmj->bmi", rotation, shape) + t[:, None]
        return float((fitted - points).norm(dim=2).mean())

    found, f, rotation, _ = fit(labeller, points, weight, truth.coefficients)
    assert torch.allclose(found, truth.coefficients, atol=1e-2)
    assert torch.allclose(f, truth.scale, rtol=1e-3)
    assert torch.allclose(rotation, truth.rotation, atol=1e-2)
    off = truth.coefficients + 0.3
    held = fit(labeller, points, weight, off)
    pose_only = similarity(labeller.shapes(off), points, weight)
    assert gap(*held) < 0.5 * gap(off, *pose_only)


def test_labels_follow_the_teachers(labeller) -> None:
    rows = everyone(labeller)
    truth = labeller.present(rows)
    photos = labeller.photos
    wrong = replace(photos, translation=photos.translation + 3, scale=photos.scale * 1.1)
    said = Labeller(wrong, labeller.grid)
    better = relabel(said, [(lambda r, look: truth[r], 9.0)], [Look(), Look(mirrored=True)], own=1)
    after = Labeller(better, labeller.grid).present(rows)
    before = said.present(rows)
    gap = (after - truth)[..., :2].norm(dim=2).mean() / (before - truth)[..., :2].norm(dim=2).mean()
    assert float(gap) < 0.2
    assert float(better.doubt.mean()) > 0


def test_eyes_and_mouths_are_as_open_as_people_drew_them() -> None:
    torch.manual_seed(0)
    points = torch.rand(2, 80, 3) * 100
    marked = torch.full((2, 68, 3), torch.nan)
    marked[0, 48:, 0], marked[0, 48:, 1] = points[0, 48:68, 0] + 50, -points[0, 48:68, 1] * 2
    marked[0, 48:, 2] = 1
    moved, weight = follow_people(points, marked)
    assert torch.equal(moved[1], points[1])
    assert torch.equal(moved[0, :48], points[0, :48])

    def height(p: torch.Tensor) -> float:
        return float(p[0, 48:68, 1].max() - p[0, 48:68, 1].min())

    assert height(moved) == pytest.approx(1.7 * height(points), rel=1e-3)
    assert float((moved - points)[0, 48:68, 0].mean()) == pytest.approx(0.3 * 50, rel=1e-3)
    assert weight[0, 48:68].min() > weight[1, 48:68].max()


def test_turning_back_takes_the_degrees_and_keeps_the_middle(labeller) -> None:
    photos: PhotoSet = labeller.photos
    turned = turn_back(photos, labeller.grid, 2.0, ramp=1e-3)
    change = turned.yaw.abs() - photos.yaw.abs()
    there = photos.yaw.abs() > 5
    assert there.any()
    level_heads = photos.rotation[:, 1, 2].abs() < 0.1
    assert torch.allclose(change[there & level_heads], torch.tensor(-2.0), atol=0.1)
    rows = everyone(labeller)
    before = labeller.present(rows)[:, :68, :2].mean(1)
    after = Labeller(turned, labeller.grid).present(rows)[:, :68, :2].mean(1)
    assert torch.allclose(before, after, atol=1e-3)


def test_depth_is_counted_from_the_landmarks() -> None:
    points = torch.rand(3, 70, 3)
    assert torch.allclose(level(points)[:, :68, 2].mean(1), torch.zeros(3), atol=1e-6)
    assert torch.equal(level(points)[..., :2], points[..., :2])
