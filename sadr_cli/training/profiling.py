"""Face profiling: photos rotated in 3-D to larger yaw, with their truth (paper III-E, 300W-LP).

As in Zhu et al., "Face Alignment Across Large Poses" (2016), the whole image becomes a depth
surface: the fitted face, a head-shaped extension over ears and hair, and a background whose depth
is chosen such that the rotation leaves it in place. The surface is then viewed from another side.
Instead of rasterising a mesh, a ray is traced from every target pixel to its first intersection
with the surface, for all pixels of all photos at once: this handles occlusion correctly, leaves no
holes and runs on any device.

Coordinates: units of the shape frame (66.67 mm), camera axes (x right, y up, z towards the
viewer), origin at the projection of S = 0, the pivot of the rotation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.pixels import from_unit, to_unit
from sadr_cli.training.augment import AugmentConfig, Draws
from sadr_cli.training.constants import constant

WINDOW = 2.5  # the depth surface covers [-WINDOW, WINDOW]^2
NEAR, FAR = 2.4, -1.2  # depths between which rays are traced
STEPS = 40
DENSE = 256  # side of the UV map whose points form the face's part of the surface
# Head without face: an ellipsoid in the shape frame, with the proportions of the mean adult head.
HEAD_CENTER = (0.0, 0.45, 0.2)
HEAD_RADII = (1.2, 1.6, 1.45)
_SMOOTH = 0.12  # width of the transition from head to background
_REACH = 0.25  # extrapolation of the face's depth beyond its edge


def turn_matrix(w: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) of rotation vectors (B, 3), radians."""
    angle = w.norm(dim=1).clamp_min(1e-9)
    k = w / angle[:, None]
    zero = torch.zeros_like(angle)
    x, y, z = k.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    s, c = angle.sin()[:, None, None], angle.cos()[:, None, None]
    eye = torch.eye(3, device=w.device, dtype=w.dtype)
    return eye + s * cross + (1 - c) * cross @ cross


def yaw_of(rotation: Tensor) -> Tensor:
    """(B,) yaw in degrees, above 90 for faces turned past the profile."""
    yaw = torch.rad2deg(torch.asin((-rotation[:, 0, 2]).clamp(-1, 1)))
    past = torch.where(yaw < 0, -180.0, 180.0) - yaw
    return torch.where(rotation[:, 2, 2] < 0, past, yaw)


def draw_turns(rotation: Tensor, config: AugmentConfig, draws: Draws) -> Tensor:
    """Rotation vectors (B, 3) in the image plane that turn faces away from the viewer.

    A face of |yaw| a is rotated to [a + 10, min(a + 60, 90)] degrees; of those with a > 35, the
    share ``config.beyond`` to [90, 105] (the paper's supplement). The axis is the head's vertical
    in the image.
    """
    n = len(rotation)
    yaw = yaw_of(rotation)
    size = yaw.abs()
    low = size + 10
    high = (size + 60).clamp_max(90)
    past = (size > 35) & (size < 90) & draws.chance(n, config.beyond)
    low = torch.where(past, low.clamp_min(90), low)
    high = torch.where(past, 105.0, high)
    target = low + (high - low).clamp_min(0) * draws.uniform(n)
    angle = torch.deg2rad((target - size).clamp(0, 70))
    # Near-frontal faces are rotated to either side.
    side = torch.where(size < 5, torch.where(draws.chance(n, 0.5), 1.0, -1.0), torch.sign(yaw))
    up = rotation[:, :2, 1]  # the head's vertical in the image plane
    level = constant((0.0, 1.0), up.device)
    up = F.normalize(torch.where(up.norm(dim=1, keepdim=True) > 0.2, up, level))
    # rotation[0, 2] = -sin(yaw) is where the nose points to: yaw > 0 is a turn to the left.
    turn = -(side * angle)[:, None] * up
    nod = torch.deg2rad(draws.uniform(n, low=-config.pitch, high=config.pitch))
    across = torch.stack([up[:, 1], -up[:, 0]], 1)
    turn = turn + nod[:, None] * across
    return torch.cat([turn, torch.zeros_like(turn[:, :1])], 1)


def dense_points(mask: Tensor) -> Tensor:
    """Flat indices of the face pixels of a mask (U, U) at 256 x 256, for :func:`depth_surface`."""
    if mask.shape[-1] < DENSE:
        mask = F.interpolate(mask[None, None].float(), size=DENSE)[0, 0] > 0.5
    return torch.nonzero(mask.flatten())[:, 0]


def depth_surface(face: Tensor, points: Tensor, rotation: Tensor, w: Tensor, cells: int) -> Tensor:
    """Depth (B, 1, cells, cells) of the surface in the window; row 0 is the top.

    face: (B, 3, U, U) fitted face, camera axes; points: its valid pixels, from
    :func:`dense_points`; rotation: (B, 3, 3) of the head; w: (B, 3) the rotation vector to apply.
    """
    prior = _blur(_prior(rotation, w, cells), _SMOOTH * cells / (2 * WINDOW))
    depth, seen = _splat(face, points, cells)
    residual = (depth - prior) * seen
    # Small holes first, then outwards with weights that fade away from the face.
    for sigma in (1.0, 2.0):
        weight = _blur(seen, sigma)
        filled = _blur(residual, sigma) / weight.clamp_min(1e-3)
        residual = torch.where(seen > 0, residual, filled)
        seen = torch.where((seen > 0) | (weight > 0.2), 1.0, 0.0)
        residual = residual * seen
    sigma = _REACH * cells / (2 * WINDOW)
    weight = _blur(seen, sigma)
    outside = _blur(residual, sigma) / weight.clamp_min(1e-3) * (2.5 * weight).clamp_max(1)
    return prior + torch.where(seen > 0, residual, outside)


def _axes(cells: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """x (1, 1, cells), y (1, cells, 1) of the window's cells, y up."""
    at = to_unit(torch.arange(cells, device=like.device, dtype=like.dtype), cells)
    return (at * WINDOW)[None, None], (-at * WINDOW)[None, :, None]


def _prior(rotation: Tensor, w: Tensor, cells: int) -> Tensor:
    """Depth of head and background without the face: (B, 1, cells, cells)."""
    x, y = _axes(cells, rotation)
    # Background: the plane that the rotation w leaves in place, halfway between both views.
    angle = w.norm(dim=1).clamp_min(1e-9)
    across = torch.stack([w[:, 1], -w[:, 0]], 1) / angle[:, None]  # axis x z
    along = across[:, 0, None, None] * x + across[:, 1, None, None] * y
    plane = along * torch.tan(angle / 2)[:, None, None]
    # Head: front of the ellipsoid (q - c)' A (q - c) = 1, a quadratic in z.
    inverse = constant(tuple(r**-2 for r in HEAD_RADII), rotation.device)
    a = (rotation * inverse) @ rotation.transpose(1, 2)
    c = rotation @ constant(HEAD_CENTER, rotation.device)
    dx, dy = x - c[:, 0, None, None], y - c[:, 1, None, None]
    a = a[:, :, :, None, None]
    half = a[:, 0, 2] * dx + a[:, 1, 2] * dy
    rest = a[:, 0, 0] * dx**2 + 2 * a[:, 0, 1] * dx * dy + a[:, 1, 1] * dy**2 - 1
    root = half**2 - a[:, 2, 2] * rest
    front = c[:, 2, None, None] + (root.clamp_min(0).sqrt() - half) / a[:, 2, 2]
    return torch.where(root > 0, front, plane)[:, None]


def _splat(face: Tensor, index: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Depth of the face's front layer, and 1 where it exists: (B, 1, cells, cells) each."""
    if face.shape[-1] < DENSE:
        face = F.interpolate(face, size=DENSE, mode="bilinear")
    b = len(face)
    points = face.flatten(2)[:, :, index]  # (B, 3, V)
    y_down = constant((1.0, -1.0), face.device)[:, None]
    at = from_unit(points[:, :2] / WINDOW * y_down, cells)
    base = at.floor()
    nearest = points.new_full((b, cells * cells), -1e3)
    corners = []
    for dy in (0.0, 1.0):
        for dx in (0.0, 1.0):
            corner = base + constant((dx, dy), face.device)[:, None]
            share = (1 - (at - corner).abs()).clamp_min(0).prod(1)
            corner = corner.long().clamp(0, cells - 1)
            flat = corner[:, 1] * cells + corner[:, 0]
            nearest.scatter_reduce_(1, flat, points[:, 2], "amax")
            corners.append((flat, share))
    total, weight = torch.zeros_like(nearest), torch.zeros_like(nearest)
    for flat, share in corners:
        # Points behind the front layer belong to another part of the face.
        share = share * (points[:, 2] > nearest.gather(1, flat) - 0.15)
        total.scatter_add_(1, flat, share * points[:, 2])
        weight.scatter_add_(1, flat, share)
    seen = weight > 1e-2
    depth = torch.where(seen, total / weight.clamp_min(1e-2), 0.0)
    return depth.view(b, 1, cells, cells), seen.float().view(b, 1, cells, cells)


def _blur(values: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, 1, n, n), borders replicated."""
    reach = max(1, math.ceil(2.5 * sigma))
    at = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    values = F.pad(values, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(values, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))


def trace(depth: Tensor, turn: Tensor, points: Tensor) -> Tensor:
    """Positions before the rotation of the surface visible at ``points`` after it: (B, H, W, 2).

    depth: (B, 1, n, n) of :func:`depth_surface`; turn: (B, 3, 3); points: (B, H, W, 2) x, y of
    rays. A ray without intersection shows the background, which the rotation leaves in place.
    """
    back = turn.transpose(1, 2)
    start = torch.einsum("bij,bhwj->bhwi", back[:, :, :2], points)
    sight = back[:, None, None, :, 2]
    scale = constant((1 / WINDOW, -1 / WINDOW), points.device)

    def above(s: Tensor | float) -> Tensor:
        """Height of the ray's points at depth s above the surface, (B, H, W)."""
        at = start + sight * s
        grid = at[..., :2] * scale
        height = F.grid_sample(depth, grid, padding_mode="border", align_corners=False)
        return at[..., 2] - height[:, 0]

    step = (NEAR - FAR) / STEPS
    before = above(NEAR)
    free = before > 0  # rays without an intersection so far
    hit = torch.zeros_like(free)
    near, gap_near = torch.full_like(before, NEAR), before
    far, gap_far = near.clone(), before.clone()
    for k in range(1, STEPS + 1):
        here = NEAR - step * k
        gap = above(here)
        met = free & (gap <= 0)
        near = torch.where(met, here + step, near)
        far = torch.where(met, here, far)
        gap_near, gap_far = torch.where(met, before, gap_near), torch.where(met, gap, gap_far)
        hit, free, before = hit | met, free & ~met, gap
    for _ in range(2):  # regula falsi within the step
        share = gap_near / (gap_near - gap_far).clamp_min(1e-9)
        s = near + (far - near) * share
        gap = above(s[..., None])
        over = gap > 0
        near, far = torch.where(over, s, near), torch.where(over, far, s)
        gap_near, gap_far = torch.where(over, gap, gap_near), torch.where(over, gap_far, gap)
    s = near + (far - near) * gap_near / (gap_near - gap_far).clamp_min(1e-9)
    source = (start + sight * s[..., None])[..., :2]
    return torch.where(hit[..., None], source, points)
