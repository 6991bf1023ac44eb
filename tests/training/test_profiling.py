"""Photos turned in 3-D, against direct renderings of a made-up face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from synthetic import layout
from torch.nn import functional as F

from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.rasterize import interpolate, rasterize
from sadr_cli.training import profiling
from sadr_cli.training.augment import AugmentConfig, Draws
from sadr_cli.uv import UVLayout

SIDE, UNIT = 160, 32.0  # pixels, pixels a shape unit
CENTER = np.array([79.5, 79.5])


@pytest.fixture(scope="module")
def face() -> UVLayout:
    return layout(0.8)


def colours(shape: np.ndarray) -> np.ndarray:
    """A smooth pattern on the face, in [0, 1]."""
    x, y, z = shape.T
    waves = [np.sin(4 * x) * np.cos(3 * y), np.cos(5 * y + z), np.sin(3 * x + 4 * y)]
    return 0.5 + 0.4 * np.stack(waves, 1)


def render(uv: UVLayout, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (H, W, 3) and depth (H, W) in pixels of the face posed by ``rotation``."""
    points = UNIT * uv.mean_shape @ rotation.T
    screen = np.stack([points[:, 0] + CENTER[0], CENTER[1] - points[:, 1], points[:, 2]], 1)
    triangles = uv.triangles[:, ::-1]
    index, weights, depth = rasterize(screen, triangles, SIDE, SIDE, cull_backfaces=True)
    return interpolate(colours(uv.mean_shape), triangles, index, weights), depth


def turned(uv: UVLayout, rotation: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture of :func:`render` turned by ``w``, and (H, W, 2) where it comes from."""
    size = 256
    full = uv.to_map(uv.mean_shape)
    shape = torch.from_numpy(np.moveaxis(full, 2, 0)).float()[None]
    head = torch.from_numpy(rotation).float()[None]
    posed = torch.einsum("bij,bjhw->bihw", head, shape)
    vector = torch.from_numpy(w).float()[None]
    mask = torch.from_numpy(uv.mask)
    assert posed.shape[-1] == size
    depth = profiling.depth_surface(posed, profiling.dense_points(mask), head, vector, 96)
    y, x = np.mgrid[:SIDE, :SIDE]
    lines = np.stack([x - CENTER[0], CENTER[1] - y], -1) / UNIT
    points = torch.from_numpy(lines).float()[None]
    source = profiling.trace(depth, profiling.turn_matrix(vector), points)
    pixels = source * UNIT * torch.tensor([1.0, -1.0]) + torch.from_numpy(CENTER).float()
    picture = torch.from_numpy(render(uv, rotation)[0].transpose(2, 0, 1)[None])
    grid = (pixels + 0.5) * 2 / SIDE - 1
    out = F.grid_sample(picture, grid, align_corners=False)
    return out[0].numpy().transpose(1, 2, 0), pixels[0].numpy()


@pytest.mark.parametrize("start", [(0, 0, 0), (20, 10, 5), (-30, -10, 0)])
@pytest.mark.parametrize("degrees", [15, 30, 45])
def test_a_turned_picture_is_the_picture_of_the_turned_face(face, start, degrees) -> None:
    rotation = euler_to_matrix(*start)
    side = 1 if start[0] >= 0 else -1
    w = np.array([0.0, -side * np.deg2rad(degrees), 0.0])
    turn = profiling.turn_matrix(torch.from_numpy(w)[None])[0].numpy()
    wanted, depth = render(face, turn @ rotation)
    got, source = turned(face, rotation, w)
    # Where the turned face shows something that the photo showed too: its own pixel, not the rim.
    seen = np.isfinite(depth)
    y, x = np.mgrid[:SIDE, :SIDE]
    points = np.stack([x - CENTER[0], CENTER[1] - y, np.where(seen, depth, 0)], -1)
    before = points @ turn  # = turn' p
    origin = np.stack([before[..., 0] + CENTER[0], CENTER[1] - before[..., 1]], -1)
    front = render(face, rotation)[1]
    column, row = (origin.round().astype(int).clip(0, SIDE - 1)[..., i] for i in (0, 1))
    visible = seen & (np.abs(front[row, column] - before[..., 2]) < 3)
    core = F.avg_pool2d(torch.from_numpy(visible[None, None].astype(np.float32)), 7, 1, 3)
    core = core[0, 0].numpy() == 1
    assert core.sum() > 300
    gap = np.linalg.norm(source - origin, axis=2)[core]
    assert np.median(gap) < 0.05  # pixels of a face 80 pixels wide
    assert np.percentile(gap, 98) < 0.5
    assert np.abs(got - wanted)[core].mean() < 0.005


def test_what_the_turn_hides_is_hidden(face) -> None:
    """The cheek behind the nose does not show through after a large turn."""
    rotation = np.eye(3)
    w = np.array([0.0, np.deg2rad(60), 0.0])
    turn = profiling.turn_matrix(torch.from_numpy(w)[None])[0].numpy()
    _, source = turned(face, rotation, w)
    _, depth = render(face, turn)
    # A point of the far cheek that the rasteriser says is covered.
    points = UNIT * face.mean_shape @ turn.T
    x = (points[:, 0] + CENTER[0]).round().astype(int).clip(0, SIDE - 1)
    y = (CENTER[1] - points[:, 1]).round().astype(int).clip(0, SIDE - 1)
    hidden = points[:, 2] < depth[y, x] - 8
    assert hidden.sum() > 500
    own = np.stack([UNIT * face.mean_shape[:, 0] + CENTER[0],
                    CENTER[1] - UNIT * face.mean_shape[:, 1]], 1)[hidden]  # fmt: skip
    shown = source[y[hidden], x[hidden]]
    assert (np.linalg.norm(shown - own, axis=1) > 3).mean() > 0.97


def test_background_stays_where_it_is(face) -> None:
    w = np.array([0.0, np.deg2rad(50), 0.0])
    _, source = turned(face, np.eye(3), w)
    y, x = np.mgrid[:SIDE, :SIDE]
    still = np.linalg.norm(source - np.stack([x, y], -1), axis=2)
    corners = np.r_[still[:5, :5].ravel(), still[-5:, -5:].ravel(), still[:5, -5:].ravel()]
    assert corners.max() < 1.5  # pixels; the window ends there


def test_turns_reach_what_they_are_meant_to() -> None:
    draws = Draws(torch.device("cpu"), torch.Generator().manual_seed(0))
    angles = np.random.default_rng(0).uniform(-1, 1, (600, 3)) * (80, 15, 10)
    rotation = torch.from_numpy(np.stack([euler_to_matrix(*a) for a in angles])).float()
    config = AugmentConfig(beyond=0.3, pitch=0.0)
    w = profiling.draw_turns(rotation, config, draws)
    after = profiling.yaw_of(profiling.turn_matrix(w) @ rotation)
    before = profiling.yaw_of(rotation)
    assert torch.allclose(before, torch.from_numpy(angles[:, 0]).float(), atol=0.05)
    assert (w[:, 2] == 0).all()
    assert w.norm(dim=1).max() <= np.deg2rad(70) + 1e-4
    big = before.abs() > 5
    assert (after.abs() > before.abs() + 4)[big].float().mean() > 0.97  # always away
    assert (torch.sign(after) == torch.sign(before))[big].all()
    share = ((after.abs() > 90) & (before.abs() > 36)).float().sum() / (before.abs() > 36).sum()
    assert 0.2 < share < 0.45
    assert after.abs().max() < 112


def test_turn_matrix_is_the_exponential() -> None:
    w = torch.tensor([[0.3, -0.8, 0.1], [0.0, 0.0, 0.0]], dtype=torch.float64)
    x, y, z = w[0]
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    got = profiling.turn_matrix(w)
    assert torch.allclose(got[0], torch.linalg.matrix_exp(cross))
    assert torch.allclose(got[1], torch.eye(3, dtype=torch.float64))
