"""Better labels: predictions of teachers for several crops, averaged and fitted by the face model.

Every teacher predicts the points of every photo in several crops, plain and mirrored. Their mean,
moved slightly towards annotated landmarks, is fitted by the face model: the mean of several
predictions is closer to the truth than each of them (self-training, as in Xie et al.,
"Self-training with Noisy Student", 2020), and the face model ensures a valid face.

All points are the 68 landmarks, then cells of the 64 x 64 UV map in mirrored pairs; frame: pixels
of the stored image, y up, mean depth of the landmarks zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.crop import LANDMARK_BOX_MARGIN
from sadr_cli.landmarks import MIRROR_68
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.uvgrid import fit_coarse
from sadr_cli.pixels import to_edge, to_unit
from sadr_cli.training.config import POSITION_SCALE
from sadr_cli.training.dataset import PhotoSet
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.objective import align
from sadr_cli.training.profiling import turn_matrix
from sadr_cli.uv import SIZE

CELLS = 64  # side of the UV map that the points are taken from
EVERY = 7  # cells between two points
PRIOR, ROUNDS = 10.0, 4  # weight of the earlier coefficients; iterations of the fit
CHUNK = 512  # photos at a time
LANDMARK_WEIGHT = 3.0
# Groups of landmarks (first, end) and the weight of the annotations in their form; PLACE is the
# weight in their position: annotations decide how open eyes are, teachers mostly where they are.
GROUPS = (
    (17, 27, 0.3), (27, 36, 0.3), (36, 42, 0.5), (42, 48, 0.5), (48, 68, 0.7),
)  # fmt: skip
PLACE = 0.3


class Look(NamedTuple):
    """An augmented crop: shift and zoom relative to the plain one's side, and mirroring."""

    dx: float = 0.0
    dy: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False


Teacher = Callable[[Tensor, Look], Tensor]  # rows (B,), look -> points (B, M, 3)


class Labeller:
    """Common to all teachers: the photos, the face model at the points, crops and their inverse.

    grid: the face model at 64 x 64.
    """

    def __init__(self, photos: PhotoSet, grid: UVGrid) -> None:
        if grid.size != CELLS:
            raise ValueError(f"labels need a UV map of {CELLS} x {CELLS}")
        self.photos, self.grid = photos, grid
        half = grid.mask & grid.mask.flip(1)
        half[:, CELLS // 2 :] = False
        left = torch.nonzero(half.flatten())[:, 0][::EVERY]
        right = (left // CELLS) * CELLS + CELLS - 1 - left % CELLS
        self.cells = torch.cat([left, right])
        pairs = torch.arange(len(self.cells), device=left.device).roll(len(left))
        self.mirror = torch.cat([grid.mirror, pairs + len(MIRROR_68)])
        basis = grid.basis.view(3, CELLS * CELLS, -1).permute(1, 0, 2)[self.cells]
        self.mean = torch.cat([grid.kpt_mean, grid.mean.flatten(1).T[self.cells]])
        self.basis = torch.cat([grid.kpt_basis, basis])

    def shapes(self, coefficients: Tensor) -> Tensor:
        """S at the points (B, M, 3)."""
        return self.mean + torch.einsum("mck,bk->bmc", self.basis, coefficients)

    def present(self, rows: Tensor) -> Tensor:
        """Points (B, M, 3) of the current labels."""
        p = self.photos
        shape = self.shapes(p.coefficients[rows])
        points = p.scale[rows, None, None] * torch.einsum("bij,bmj->bmi", p.rotation[rows], shape)
        points[..., :2] += p.translation[rows, None]
        return level(points)

    def box(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Centre (B, 2) and extent (B, 2) of the current landmarks."""
        points = self.present(rows)[:, : len(MIRROR_68), :2]
        low, high = points.amin(1), points.amax(1)
        return (low + high) / 2, high - low

    def cut(self, rows: Tensor, center: Tensor, side: Tensor, n: int, mirrored: bool) -> Tensor:
        """Crops (B, 3, n, n) RGB of squares with ``side`` (B,) around ``center`` (B, 2)."""
        stored = self.photos.images.shape[-1]
        theta = torch.zeros(len(rows), 2, 3, device=center.device)
        theta[:, 0, 0] = theta[:, 1, 1] = side / stored
        if mirrored:
            theta[:, 0, 0] *= -1
        theta[:, 0, 2] = to_unit(center[:, 0], stored)
        theta[:, 1, 2] = to_unit(-center[:, 1], stored)
        grid = F.affine_grid(theta, [len(rows), 3, n, n], align_corners=False)
        pictures = self.photos.images[rows, :3].float()
        return F.grid_sample(pictures, grid, align_corners=False)

    def back(
        self, points: Tensor, center: Tensor, side: Tensor, n: float, mirrored: bool
    ) -> Tensor:
        """Points (B, M, 3) in pixels of a crop of n pixels, y down -> the labels' frame."""
        step = (side / n)[:, None]
        x = to_edge(points[..., 0]) * step - side[:, None] / 2
        y = to_edge(points[..., 1]) * step - side[:, None] / 2
        if mirrored:
            x = -x
        moved = torch.stack(
            [center[:, None, 0] + x, center[:, None, 1] - y, points[..., 2] * step], 2
        )
        return level(moved[:, self.mirror] if mirrored else moved)


def level(points: Tensor) -> Tensor:
    """Shifts the points in depth such that the landmarks' mean is zero."""
    depth = points[:, : len(MIRROR_68), 2].mean(1)
    return points - torch.stack([0 * depth, 0 * depth, depth], 1)[:, None]


class NetworkTeacher:
    """G of a checkpoint whose UV maps are 64 x 64."""

    def __init__(self, checkpoint: Checkpoint, labeller: Labeller, half: bool = False) -> None:
        device = labeller.photos.images.device
        network = checkpoint.network.to(device).eval()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labeller, self.half = labeller, half
        uv = checkpoint.uv
        self.template = torch.from_numpy(fit_coarse(uv.mean_shape, uv.mask, CELLS)).to(device)

    @torch.no_grad()
    def __call__(self, rows: Tensor, look: Look) -> Tensor:
        space, grid = self.labeller, self.labeller.grid
        center, extent = space.box(rows)
        side = LANDMARK_BOX_MARGIN * extent.mean(1) * look.zoom
        center = center + center.new_tensor([look.dx, look.dy]) * side[:, None]
        crops = space.cut(rows, center, side, self.network.config.input_size, look.mirrored)
        x = self.network.normalize(crops).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            out = self.network(x)
        attention = None if out.attention is None else torch.sigmoid(out.attention.float())
        shape = out.shape_map.float() + self.template
        face = align(grid, out.pose_map.float() * POSITION_SCALE, shape, attention)
        points = torch.cat([grid.sample(face), face.flatten(2).transpose(1, 2)[:, space.cells]], 1)
        return space.back(points, center, side, SIZE, look.mirrored)


def similarity(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f, R, t with target ~ f R source + t in weighted least squares (Umeyama 1991)."""
    w = (weight / weight.sum(1, keepdim=True))[..., None]
    mean_s, mean_t = (w * source).sum(1), (w * target).sum(1)
    a, b = source - mean_s[:, None], target - mean_t[:, None]
    u, s, vh = torch.linalg.svd(torch.einsum("bmi,bmj->bij", w * b, a).double())
    sign = torch.ones_like(s)
    sign[:, 2] = torch.sign(torch.det(u @ vh))
    rotation = ((u * sign[:, None]) @ vh).to(source.dtype)
    scale = ((s * sign).sum(1) / (w * a**2).sum((1, 2))).to(source.dtype)
    return scale, rotation, mean_t - scale[:, None] * torch.einsum("bij,bj->bi", rotation, mean_s)


def follow_people(points: Tensor, marked: Tensor) -> tuple[Tensor, Tensor]:
    """Points moved towards annotated landmarks, and weights (B, M); see :data:`GROUPS`.

    marked: (B, 68, 3) of ``PhotoSet.points``.
    """
    points = points.clone()
    weight = torch.ones_like(points[..., 0])
    weight[:, : len(MIRROR_68)] = LANDMARK_WEIGHT
    there = marked[..., 2] >= 0
    xy = torch.stack([marked[..., 0], -marked[..., 1]], 2)
    for first, end, form in GROUPS:
        ok = there[:, first:end, None]
        own = points[:, first:end, :2]
        target = torch.where(ok, xy[:, first:end], own)
        moved = own + PLACE * (target - own)
        if form > PLACE:
            middle, wanted = own.mean(1, keepdim=True), target.mean(1, keepdim=True)
            place = middle + PLACE * (wanted - middle)
            shaped = place + torch.lerp(own - middle, target - wanted, form)
            complete = ok.float().mean((1, 2)) > 0.9
            moved = torch.where(complete[:, None, None], shaped, moved)
            weight[:, first:end] += LANDMARK_WEIGHT * complete[:, None]
        points[:, first:end, :2] = moved
    return points, weight


def fit(
    labeller: Labeller, points: Tensor, weight: Tensor, start: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coefficients (B, K), f, R, t of the face model fitted to ``points`` (B, M, 3).

    start: (B, K) coefficients that the solution is regularised towards, see :data:`PRIOR`.
    """
    found = start
    for _ in range(ROUNDS):
        f, rotation, t = similarity(labeller.shapes(found), points, weight)
        turned = f[:, None, None] * rotation
        jacobian = torch.einsum("bij,mjk->bmik", turned, labeller.basis)
        rest = points - torch.einsum("bij,mj->bmi", turned, labeller.mean) - t[:, None]
        weighted = jacobian * weight[:, :, None, None]
        normal = torch.einsum("bmik,bmil->bkl", weighted, jacobian)
        right = torch.einsum("bmik,bmi->bk", weighted, rest)
        # A mean error of one millimetre outweighs one standard deviation.
        hold = (PRIOR * 1e-3 * 3 * weight.sum(1) * (0.015 * f) ** 2)[:, None]
        normal = normal + torch.diag_embed(hold.expand_as(start))
        found = torch.linalg.solve(normal, right + hold * start)
    return found, *similarity(labeller.shapes(found), points, weight)


@torch.no_grad()
def relabel(
    labeller: Labeller,
    teachers: Sequence[tuple[Teacher, float]],
    looks: Sequence[Look],
    own: float = 1.0,
) -> PhotoSet:
    """The photos with new labels; ``doubt`` is the disagreement of the teachers.

    teachers: with their weights; own: weight of the current labels.
    """
    photos = labeller.photos
    parts = []
    for rows in torch.arange(len(photos), device=photos.images.device).split(CHUNK):
        found = [torch.stack([teacher(rows, look) for look in looks]).mean(0)
                 for teacher, _ in teachers]  # fmt: skip
        total = own + sum(weight for _, weight in teachers)
        points = own * labeller.present(rows)
        for (_, weight), each in zip(teachers, found, strict=True):
            points = points + weight * each
        points = points / total
        size = labeller.box(rows)[1].prod(1).sqrt()
        apart = torch.stack([(s - points)[:, : len(MIRROR_68), :2].norm(dim=2) for s in found])
        points, trust = follow_people(points, photos.points[rows])
        c, f, rotation, t = fit(labeller, points, trust, photos.coefficients[rows])
        parts.append((c, f, rotation, t[:, :2], apart.mean((0, 2)) / size))
    c, f, rotation, t, doubt = (torch.cat(p) for p in zip(*parts, strict=True))
    return replace(photos, coefficients=c, scale=f, rotation=rotation, translation=t, doubt=doubt)


def turn_back(photos: PhotoSet, grid: UVGrid, degrees: float, ramp: float = 25.0) -> PhotoSet:
    """The labels rotated towards the frontal view by ``degrees`` of yaw, by less below ``ramp``.

    The axis is the head's vertical through the centre of the landmarks.
    """
    angle = torch.deg2rad(degrees * (photos.yaw / ramp).clamp(-1, 1))
    vertical = angle[:, None] * angle.new_tensor([0.0, 1.0, 0.0])
    rotation = photos.rotation @ turn_matrix(vertical)
    pivot = grid.landmark_shapes(photos.coefficients).mean(1)
    moved = torch.einsum("bij,bj->bi", photos.rotation - rotation, pivot)
    translation = photos.translation + photos.scale[:, None] * moved[:, :2]
    return replace(photos, rotation=rotation, translation=translation)
