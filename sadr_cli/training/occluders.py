"""Synthetic occluders (paper III-B, Fig. 4): random shapes and fills drawn over the faces."""

from __future__ import annotations

import math
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.training.augment import Draws
from sadr_cli.training.constants import constant
from sadr_cli.uv import SIZE

CORNERS = 16
# Shares of the kinds of occluders; the rest are blobs.
STRIPS, HANDS, MASKS, GLASSES = 0.15, 0.15, 0.1, 0.08


class Textures:
    """Random patches of images (M, 3, n, n) uint8, on the device."""

    def __init__(self, pictures: Tensor, draws: Draws) -> None:
        self.pictures, self.draws = pictures, draws

    def __call__(self, n: int, size: int) -> Tensor:
        """(n, 3, size, size) float."""
        d = self.draws
        pick = d.integers(n, len(self.pictures))
        zoom = d.uniform(n, low=0.3, high=1.0)
        theta = torch.zeros(n, 2, 3, device=zoom.device)
        theta[:, 0, 0] = zoom * torch.where(d.chance(n, 0.5), 1.0, -1.0)
        theta[:, 1, 1] = zoom
        theta[:, :, 2] = d.uniform(n, 2, low=-1) * (1 - zoom[:, None])
        grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
        source = self.pictures[pick][:, :3].float()
        return F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)


def occlude(
    images: Tensor, landmarks: Tensor, share: float, textures: Textures, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Draw an occluder on ``share`` of the images (B, 3, H, H), and a second on 0.4 times as many.

    landmarks: (B, 68, 3) in pixels of a 256-pixel crop. Returns the images and the occluders'
    masks (B, 1, H, H) in {0, 1}.
    """
    n, size = len(images), images.shape[-1]
    covered = torch.zeros(n, 1, size, size, device=images.device)
    images = images.clone()
    for part in (share, share * 0.4):
        rows = draws.some(n, part)
        if len(rows) == 0:
            continue
        outline, kind = outlines(landmarks[rows, :, :2], draws)
        mask = polygon_mask(outline * (size / 2 / SIZE), size // 2)
        soft = F.interpolate(mask, size=size, mode="bilinear")  # softens the edges as well
        fill = fills(images[rows], landmarks[rows], kind, textures, draws)
        images[rows] = images[rows] * (1 - soft) + fill * soft
        covered[rows] = torch.maximum(covered[rows], soft.round())
    return images, covered


def outlines(landmarks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Polygons (m, E, 2) in pixels of a 256-pixel crop, and kinds (m,) for :func:`fills`.

    landmarks: (m, 68, 2). Kinds: 0 blob, 1 strip, 2 skin-coloured strip (hand, arm), 3 mask over
    mouth and nose, 4 glasses.
    """
    m, device = len(landmarks), landmarks.device
    low, high = landmarks.amin(1), landmarks.amax(1)
    extent = (high - low).mean(1)
    bounds = constant(tuple(accumulate((GLASSES, MASKS, HANDS, STRIPS))), device)
    kind = 4 - torch.bucketize(draws.uniform(m), bounds)
    phase = torch.arange(CORNERS, device=device) * (2 * math.pi / CORNERS)
    # Blobs: a star-shaped polygon with a smooth random radius.
    order = torch.arange(1, 5, device=device, dtype=torch.float32)
    wave = torch.cos(phase[None, :, None] * order + draws.uniform(m, 1, 4, high=2 * math.pi))
    radius = 1 + (draws.uniform(m, 1, 4, high=0.5) / order * wave).sum(2)
    reach = extent[:, None] * draws.uniform(m, 1, low=0.1, high=0.42)
    squeeze = draws.uniform(m, 1, low=0.4, high=1.0)
    circle = torch.stack([phase.cos(), phase.sin()], 1)
    shape = circle * (radius * reach)[..., None]
    shape = shape * torch.stack([torch.ones_like(squeeze), squeeze], 2)
    # Strips (hands, straps): a long rounded rectangle.
    long = extent[:, None, None] * draws.uniform(m, 1, 1, low=0.6, high=1.3)
    thin = extent[:, None, None] * draws.uniform(m, 1, 1, low=0.06, high=0.22)
    square = circle / circle.abs().amax(1, keepdim=True)
    strip = square * torch.cat([long, thin], 2) * (0.85 + 0.15 * radius[..., None])
    shape = torch.where(((kind == 1) | (kind == 2))[:, None, None], strip, shape)
    angle = draws.uniform(m, high=2 * math.pi)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    center = low + (high - low) * draws.uniform(m, 2, low=-0.1, high=1.1)
    polygon = torch.einsum("mij,mej->mei", turn, shape) + center[:, None]
    # A mask over nose and mouth: jaw points and a point on the bridge of the nose.
    jaw = landmarks[:, 2:15]
    bridge = torch.lerp(landmarks[:, 28:29], landmarks[:, 29:30], draws.uniform(m, 1, 1))
    mask = torch.cat([jaw, bridge], 1)
    mask = mask[:, torch.linspace(0, 13, CORNERS, device=device).round().long()]
    polygon = torch.where((kind == 3)[:, None, None], mask, polygon)
    # Dark glasses: an ellipse around both eyes.
    middle, out = landmarks[:, 36:48].mean(1), landmarks[:, 45] - landmarks[:, 36]
    height = extent[:, None] * draws.uniform(m, 1, low=0.1, high=0.17)
    up = F.normalize(landmarks[:, 27] - landmarks[:, 8], dim=1) * height
    along = out * draws.uniform(m, 1, low=0.6, high=0.75)
    glasses = (middle[:, None] + circle[None, :, :1] * along[:, None]
               + circle[None, :, 1:] * up[:, None])  # fmt: skip
    return torch.where((kind == 4)[:, None, None], glasses, polygon), kind


def fills(
    images: Tensor, landmarks: Tensor, kind: Tensor, textures: Textures, draws: Draws
) -> Tensor:
    """(m, 3, H, H): image patches, plain colours, noise; the face's skin colour for hands."""
    m, size = len(images), images.shape[-1]
    fill = textures(m, size)
    choice = draws.uniform(m)
    # Masks and glasses are more often plain than other kinds; glasses are mostly dark.
    choice = torch.where(kind >= 3, 0.05 + 0.5 * choice, choice)[:, None, None, None]
    bright = torch.where(kind == 4, 90.0, 255.0)[:, None, None, None]
    shade = 0.8 + 0.2 * fill.mean(1, keepdim=True) / 127
    colour = draws.uniform(m, 3, 1, 1) * bright * shade
    noise = draws.uniform(*images.shape, high=255.0)
    nose = (landmarks[:, 30, :2] * (size / SIZE)).long().clamp(0, size - 1)
    skin = images[torch.arange(m, device=images.device), :, nose[:, 1], nose[:, 0]]
    light = 0.75 + 0.5 * fill.mean(1, keepdim=True) / 255
    skin_fill = (skin[:, :, None, None] * light).clamp(0, 255)
    fill = torch.where(choice < 0.35, colour, fill)
    fill = torch.where(choice < 0.05, noise, fill)
    return torch.where((kind == 2)[:, None, None, None], skin_fill, fill)


def polygon_mask(polygon: Tensor, size: int) -> Tensor:
    """(m, 1, size, size) 1 inside polygons (m, E, 2) in pixels, by the even-odd rule."""
    axis = torch.arange(size, device=polygon.device, dtype=polygon.dtype)
    inside = torch.zeros(len(polygon), size, size, dtype=torch.bool, device=polygon.device)
    following = polygon.roll(-1, 1)
    for e in range(polygon.shape[1]):
        x0, y0 = polygon[:, e, 0, None], polygon[:, e, 1, None]
        x1, y1 = following[:, e, 0, None], following[:, e, 1, None]
        spans = (y0 > axis) != (y1 > axis)  # (m, size) rows the edge crosses
        cut = x0 + (axis - y0) * (x1 - x0) / torch.where(y1 == y0, 1.0, y1 - y0)
        inside ^= spans[:, :, None] & (axis < cut[:, :, None])
    return inside[:, None].to(polygon.dtype)
