"""Training samples made on the device: crop, truth maps, augmentation, occlusion (III-B, III-E).

From rows of a :class:`PhotoSet`, all in batched tensor operations: 3-D rotation of some photos, an
affine crop (rotation, scale, shift, mirroring), the truth maps P, S and A of the same geometry,
fill beyond the photo's edge, synthetic occluders and image degradation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.crop import LANDMARK_BOX_MARGIN
from sadr_cli.model.alignment import flip_y, surface_normals
from sadr_cli.model.network import NetworkConfig
from sadr_cli.pixels import from_edge, from_unit, to_edge, to_unit
from sadr_cli.training import profiling
from sadr_cli.training.augment import AugmentConfig, Draws, degrade
from sadr_cli.training.constants import constant
from sadr_cli.training.dataset import PhotoSet
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.occluders import Textures, occlude
from sadr_cli.uv import SIZE

SURFACE_CELLS = 96  # side of the depth surface for 3-D rotation


@dataclass
class Batch:
    """The inputs and targets of one training step.

    images: (B, 3, H, H) RGB in [0, 255].
    pose_map: (B, 3, U, U) true P in pixels of a 256-pixel crop, y down, z zero at S = 0.
    shape_map: (B, 3, U, U) true S in the shape frame.
    attention: (B, 1, H / 8, H / 8) 1 where the face is visible.
    landmarks: (B, 68, 3) true landmarks, frame of ``pose_map``.
    pose: (B, 3, 4) f R and t, y-up frame of the crop, pixels.
    coefficients: (B, K) of the face model; only meaningful where not ``mirrored``.
    mirrored: (B,) bool.
    points: (B, 68, 3) x, y of annotated landmarks, frame of ``pose_map``, and the third column of
        ``PhotoSet.points``; NaN where there is none.
    """

    images: Tensor
    pose_map: Tensor
    shape_map: Tensor
    attention: Tensor
    landmarks: Tensor
    pose: Tensor
    coefficients: Tensor
    mirrored: Tensor
    points: Tensor


def hide_cells(attention: Tensor, marked: Tensor) -> Tensor:
    """The mask (B, 1, h, h) without the cells of occluded landmarks.

    marked: ``points`` of :class:`Batch`. Cells with at least as many visible points stay.
    """
    cells = attention.shape[-1]
    at = (to_edge(marked[..., :2].nan_to_num(-1e4)) * (cells / SIZE)).floor().long()
    inside = ((at >= 0) & (at < cells)).all(2)
    vote = torch.where(marked[..., 2] == 0, 1.0, torch.where(marked[..., 2] == 1, -1.0, 0.0))
    flat = (at[..., 1] * cells + at[..., 0]).clamp(0, cells * cells - 1)
    votes = attention.new_zeros(len(attention), cells * cells)
    votes.scatter_add_(1, flat, vote * inside)
    return attention * (votes <= 0).view_as(attention)


class SampleMaker:
    """Makes batches from rows of a photo set.

    backgrounds: (M, 3, n, n) uint8 images without faces for fills and occluders; None uses patches
        of the photos.
    image_size: side of the images, if not the network's.
    """

    def __init__(
        self,
        photos: PhotoSet,
        grid: UVGrid,
        network: NetworkConfig,
        augment: AugmentConfig,
        backgrounds: Tensor | None = None,
        generator: torch.Generator | None = None,
        image_size: int | None = None,
    ) -> None:
        self.image_size = image_size or network.input_size
        self.photos, self.grid, self.network, self.augment = photos, grid, network, augment
        self.device = photos.images.device
        self.draws = Draws(self.device, generator)
        pictures = photos.images if backgrounds is None else backgrounds
        self.textures = Textures(pictures, self.draws)
        self.dense = profiling.dense_points(grid.mask)

    @torch.no_grad()
    def __call__(self, index: Tensor, augment: bool = True) -> Batch:
        """Samples of rows ``index`` (B,); without ``augment`` exactly the truth crop."""
        a, n, d = self.augment, len(index), self.draws
        photos, grid = self.photos, self.grid
        side = photos.images.shape[-1]
        coefficients = photos.coefficients[index]
        scale, rotation = photos.scale[index], photos.rotation[index]
        shift = photos.translation[index]
        shapes = grid.shapes(coefficients)
        turned = int(n * a.profiling + d.host.random()) if augment else 0
        turn = torch.zeros(turned, 3, device=self.device)
        fitted = rotation
        if turned:
            turn = profiling.draw_turns(rotation[:turned], a, d)
            moved = profiling.turn_matrix(turn) @ rotation[:turned]
            rotation = torch.cat([moved, rotation[turned:]])
        surface = self._surface(shapes[:turned], fitted[:turned], turn)

        landmarks = grid.landmark_shapes(coefficients)
        mirror = torch.zeros(n, dtype=torch.bool, device=self.device)
        if augment:
            mirror = d.chance(n, a.flip)
        sign = torch.where(mirror, -1.0, 1.0)
        flip = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], 1)
        rotation = flip[:, :, None] * rotation * flip[:, None, :]
        stored_shift = shift
        shift = torch.stack([torch.where(mirror, side - 1 - shift[:, 0], shift[:, 0]),
                             shift[:, 1]], 1)  # fmt: skip
        mirrored_landmarks = landmarks[:, grid.mirror] * flip[:, None]
        landmarks = torch.where(mirror[:, None, None], mirrored_landmarks, landmarks)

        angle = torch.zeros(n, device=self.device)
        zoom, offset = torch.ones_like(angle), torch.zeros(n, 2, device=self.device)
        if augment:
            wide = d.chance(n, a.rotation_wide)
            reach = torch.where(wide, a.rotation, a.rotation / 3)
            angle = torch.deg2rad(reach * d.uniform(n, low=-1))
            zoom = d.uniform(n, low=1 - a.zoom, high=1 + a.zoom)
            offset = d.uniform(n, 2, low=-a.shift, high=a.shift)
        cos, sin = torch.cos(angle), torch.sin(angle)
        twist = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        twist3 = torch.zeros(n, 3, 3, device=self.device)
        twist3[:, :2, :2] = twist
        twist3[:, 2, 2].fill_(1.0)
        rotation = twist3 @ rotation
        shift = torch.einsum("bij,bj->bi", twist, shift)
        points = scale[:, None, None] * torch.einsum("bij,blj->bli", rotation, landmarks)
        points[..., :2] += shift[:, None]
        low, high = points[..., :2].amin(1), points[..., :2].amax(1)
        extent = (high - low).mean(1) * LANDMARK_BOX_MARGIN * zoom
        center = (low + high) / 2 + offset * extent[:, None]

        # Truth in pixels of a 256-pixel crop, y up, then flipped.
        factor = SIZE / extent
        matrix = (factor * scale)[:, None, None] * rotation
        middle = from_edge(SIZE / 2)
        t = torch.zeros(n, 3, device=self.device)
        t[:, :2] = factor[:, None] * (shift - center)
        t[:, 0] += middle
        t[:, 1] -= middle
        mirrored_shapes = shapes.flip(3) * flip[:, :, None, None]
        shapes = torch.where(mirror[:, None, None, None], mirrored_shapes, shapes)
        pose_map = flip_y(torch.einsum("bij,bjhw->bihw", matrix, shapes) + t[:, :, None, None], 1)
        points = flip_y(torch.einsum("bij,blj->bli", matrix, landmarks) + t[:, None])

        marked = self._marked(index, mirror, turned)
        xy = torch.einsum("bij,blj->bli", twist, flip_y(marked)[..., :2])
        xy = factor[:, None, None] * (xy - center[:, None])
        xy = xy + constant((middle, -middle), self.device)
        marked = torch.cat([xy[..., :1], -xy[..., 1:], marked[..., 2:]], 2)

        # Crop [-1, 1]^2 -> stored image [-1, 1]^2, through the y-up pixel frame.
        half = extent / 2
        to_stored = 2.0 / side
        theta = torch.zeros(n, 2, 3, device=self.device)
        back = twist.transpose(1, 2)
        origin = torch.einsum("bij,bj->bi", back, center)
        theta[:, 0, 0] = back[:, 0, 0] * half * to_stored
        theta[:, 0, 1] = -back[:, 0, 1] * half * to_stored
        theta[:, 0, 2] = to_unit(origin[:, 0], side)
        theta[:, 1, 0] = -back[:, 1, 0] * half * to_stored
        theta[:, 1, 1] = back[:, 1, 1] * half * to_stored
        theta[:, 1, 2] = to_unit(-origin[:, 1], side)
        theta[:, 0] *= sign[:, None]
        size = self.image_size
        where = F.affine_grid(theta, [n, 4, size, size], align_corners=False)
        if surface is not None:
            pivot = torch.cat([stored_shift, scale[:, None]], 1)[:turned]
            coarse = F.affine_grid(theta[:turned], [turned, 4, size // 2, size // 2],
                                   align_corners=False)  # fmt: skip
            coarse = self._trace(surface, turn, coarse, pivot, side)
            fine = F.interpolate(coarse.permute(0, 3, 1, 2), size=size, mode="bilinear")
            where = torch.cat([fine.permute(0, 2, 3, 1), where[turned:]])
        rgba = F.grid_sample(photos.images[index].float(), where, align_corners=False)
        inside = rgba[:, 3:] > 127
        if augment:
            inside = inside & ~self._cut(n, size)
        # Black with alpha 0 beyond the edge is blended into the last pixels: undo that.
        images = rgba[:, :3] * inside * (255 / rgba[:, 3:].clamp_min(127))
        attention = self._project(pose_map)
        seen = inside.float()
        if augment:
            images = self._fill_border(images, inside)
            images, occluder = occlude(images, points, a.occlusion, self.textures, d)
            seen = seen * (1 - occluder)
            images = degrade(images, a, d)
        attention = attention * (F.adaptive_avg_pool2d(seen, attention.shape[-1]) > 0.5)
        attention = hide_cells(attention, marked)
        pose = torch.cat([matrix, t[:, :, None]], 2)
        return Batch(
            images, pose_map, shapes, attention, points, pose, coefficients, mirror, marked
        )

    def _marked(self, index: Tensor, mirror: Tensor, turned: int) -> Tensor:
        """Annotated landmarks (B, 68, 3), mirrored with their photos; NaN for the ``turned`` first
        photos, which are rotated in 3-D."""
        points = self.photos.points[index].clone()
        points[:turned].fill_(torch.nan)
        other = points[:, self.grid.mirror]
        side = self.photos.images.shape[-1]
        other = torch.cat([side - 1 - other[..., :1], other[..., 1:]], 2)
        return torch.where(mirror[:, None, None], other, points)

    def _cut(self, n: int, size: int) -> Tensor:
        """(B, 1, H, H) True beyond the artificial edge that cuts some samples."""
        a, d = self.augment, self.draws
        cut = torch.zeros(n, 1, size, size, dtype=torch.bool, device=self.device)
        rows = d.some(n, a.cut)
        if len(rows) == 0:
            return cut
        depth = size * a.cut_depth * d.uniform(len(rows), 1, 1)
        at = torch.arange(size, device=self.device)
        across = at[None, None, :].expand(len(rows), size, size)
        upright = d.chance(len(rows), 0.5)[:, None, None]
        position = torch.where(upright, across.transpose(1, 2), across)
        far = d.chance(len(rows), 0.5)[:, None, None]
        position = torch.where(far, size - 1 - position, position)
        cut[rows] = (position < depth)[:, None]
        return cut

    def _surface(self, shapes: Tensor, rotation: Tensor, turn: Tensor) -> Tensor | None:
        """The depth surface of the photos that are rotated in 3-D."""
        if len(turn) == 0:
            return None
        face = torch.einsum("bij,bjhw->bihw", rotation, shapes)
        return profiling.depth_surface(face, self.dense, rotation, turn, SURFACE_CELLS)

    def _trace(
        self, surface: Tensor, turn: Tensor, where: Tensor, pivot: Tensor, side: int
    ) -> Tensor:
        """Positions in the stored image [-1, 1]^2 visible at ``where`` after the 3-D rotation.

        pivot: (B, 3) x, y and pixels per shape unit, y-up frame of the stored image.
        """
        y_down = constant((1.0, -1.0), self.device)
        pixels = from_unit(where, side) * y_down
        center, unit = pivot[:, None, None, :2], pivot[:, None, None, 2:]
        points = (pixels - center) / unit
        points = profiling.trace(surface, profiling.turn_matrix(turn), points)
        pixels = (points * unit + center) * y_down
        return to_unit(pixels, side)

    def _project(self, pose_map: Tensor) -> Tensor:
        """Attention truth without occluders: cells where the projected face is visible (Fig. 4c).

        Points that face away, such as the far cheek of a profile, do not count (Eq 10).
        """
        cells = self.network.input_size // 8
        n = len(pose_map)
        step = max(1, self.grid.size // 128)
        face, mask = pose_map[:, :, ::step, ::step], self.grid.mask[::step, ::step]
        facing = surface_normals(face, mask)[:, 2] >= 0
        cell = (to_edge(face[:, :2]) * (cells / SIZE)).floor().long()
        shown = ((cell >= 0) & (cell < cells)).all(1) & mask & facing
        flat = (cell[:, 1] * cells + cell[:, 0]).clamp(0, cells * cells - 1).flatten(1)
        out = torch.zeros(n, cells * cells, device=self.device)
        out.scatter_reduce_(1, flat, shown.flatten(1).float(), "amax")
        # Close gaps of one cell, such as nostrils.
        grown = F.max_pool2d(out.view(n, 1, cells, cells), 3, 1, 1)
        return -F.max_pool2d(F.pad(-grown, (1, 1, 1, 1), value=-1.0), 3, 1)

    def _fill_border(self, images: Tensor, inside: Tensor) -> Tensor:
        """Replaces the black beyond the photo's edge by a patch or a colour in some samples."""
        rows = self.draws.some(len(images), self.augment.fill)
        if len(rows) == 0:
            return images
        fill = self.textures(len(rows), images.shape[-1])
        plain = self.draws.chance(len(rows), 0.3)[:, None, None, None]
        fill = torch.where(plain, self.draws.uniform(len(rows), 3, 1, 1, high=255.0), fill)
        images[rows] = torch.where(inside[rows], images[rows], fill)
        return images
