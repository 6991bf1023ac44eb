"""Training samples made on the device: crop, truth maps, augmentation, occlusion (III-B, III-E).

Given rows of a :class:`PhotoSet`, everything is batched tensor work: an affine crop turned,
scaled, shifted and mirrored, the truth maps P, S and A of the same geometry, colours, blur,
noise, fill beyond the photo's edge, and synthetic occluders with random shapes and fills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.alignment import flip_y
from sadr_cli.crop import LANDMARK_BOX_MARGIN
from sadr_cli.face_model import FaceModel
from sadr_cli.network import NetworkConfig
from sadr_cli.training.dataset import PhotoSet
from sadr_cli.uv import MIRROR_68, SIZE, region_weights
from sadr_cli.uvgrid import fit_coarse


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a sample; probabilities unless said otherwise. The paper's in III-E.

    rotation: in-plane, degrees either way; ``rotation_wide``: share of samples that use the
        whole of it, the others a third.
    shift: of the crop's side, either way; zoom: crop size in [1 - zoom, 1 + zoom].
    channel: factor of each colour channel in [1 - channel, 1 + channel].
    """

    flip: float = 0.5
    rotation: float = 90.0
    rotation_wide: float = 1.0
    shift: float = 0.1
    zoom: float = 0.1
    channel: float = 0.4
    grey: float = 0.1
    blur: float = 0.2
    noise: float = 0.2
    occlusion: float = 0.5
    fill: float = 0.6


@dataclass
class Batch:
    """What one training step needs.

    images: (B, 3, H, H) RGB in [0, 255].
    pose_map: (B, 3, U, U) true P in pixels of a 256-pixel crop, y down, z zero at S = 0.
    shape_map: (B, 3, U, U) true S in the shape frame.
    attention: (B, 1, H / 8, H / 8) 1 where the face is seen.
    landmarks: (B, 68, 3) true landmarks, frame of ``pose_map``.
    pose: (B, 3, 4) f R and t, y-up frame of the crop, pixels.
    coefficients: (B, K) of the face model; only meaningful where not ``mirrored``.
    mirrored: (B,) bool.
    """

    images: Tensor
    pose_map: Tensor
    shape_map: Tensor
    attention: Tensor
    landmarks: Tensor
    pose: Tensor
    coefficients: Tensor
    mirrored: Tensor


class UVGrid:
    """The face model at a network's UV resolution, on the device.

    mean, basis: (3, U, U) and (3 U U, K), of the face model; template: (3, U, U) the network's
        mean template, S = template + D; weight: (U, U) loss weights (III-D); mask: (U, U).
    kpt: (68, 2) row, column at 256; kpt_grid: (68, 2) the same as grid_sample coordinates.
    """

    def __init__(
        self,
        model: FaceModel,
        size: int,
        device: torch.device,
        template: NDArray[np.float32] | None = None,
    ) -> None:
        """``template`` (V, 3): mean shape of the training faces; the model's own without it."""
        layout = model.layout
        self.size = size
        values = torch.from_numpy(model.basis).flatten(1)
        if template is None:
            template = layout.mean_shape
        fixed = torch.from_numpy(np.concatenate([layout.mean_shape, template], 1))
        fields = torch.cat([fixed, values], 1).numpy()
        maps = torch.from_numpy(fit_coarse(fields, layout.mask, size))
        self.mean, self.template = maps[:3].to(device), maps[3:6].to(device)
        k = model.basis.shape[2]
        self.basis = maps[6:].view(3, k, -1).transpose(1, 2).reshape(-1, k).to(device)
        weight = torch.from_numpy(region_weights(layout.region))[None, None]
        mask = torch.from_numpy(layout.mask.astype("float32"))[None, None]
        # Cells that only touch the mask matter too: their values are interpolated into it.
        self.mask = (F.adaptive_max_pool2d(mask, size)[0, 0] > 0).to(device)
        self.weight = F.adaptive_avg_pool2d(weight, size)[0, 0].to(device)
        self.kpt = torch.from_numpy(layout.kpt.astype("int64")).to(device)
        self.kpt_grid = ((self.kpt.float() + 0.5) * 2 / SIZE - 1).flip(1)
        self.kpt_cell = ((self.kpt.float() + 0.5) * size / SIZE).long()
        index = layout.landmark_indices
        self.kpt_mean = torch.from_numpy(layout.mean_shape[index]).to(device)
        self.kpt_basis = torch.from_numpy(model.basis[index]).to(device)
        self.mirror = torch.from_numpy(MIRROR_68).to(device)

    def shapes(self, coefficients: Tensor) -> Tensor:
        """S maps (B, 3, U, U)."""
        flat = coefficients @ self.basis.T
        return self.mean + flat.view(-1, 3, self.size, self.size)

    def landmark_shapes(self, coefficients: Tensor) -> Tensor:
        """S at the landmarks (B, 68, 3)."""
        return self.kpt_mean + torch.einsum("lck,bk->blc", self.kpt_basis, coefficients)

    def sample(self, uv_map: Tensor) -> Tensor:
        """Values of maps (B, C, U, U) at the landmarks: (B, 68, C)."""
        grid = self.kpt_grid.to(uv_map.dtype)[None, None].expand(len(uv_map), -1, -1, -1)
        out = F.grid_sample(uv_map, grid, padding_mode="border", align_corners=False)
        return out[:, :, 0].transpose(1, 2)


def mean_template(model: FaceModel, photos: PhotoSet) -> NDArray[np.float32]:
    """(V, 3) mean shape of the training faces, the template of Eq 3."""
    return model.decode(photos.coefficients.mean(0, keepdim=True).cpu().numpy())[0]


class SampleMaker:
    """Makes :class:`Batch` es from rows of a photo set.

    backgrounds: (M, 3, n, n) uint8 pictures without faces for fills and occluders, or None.
    """

    def __init__(
        self,
        photos: PhotoSet,
        grid: UVGrid,
        network: NetworkConfig,
        augment: AugmentConfig,
        backgrounds: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.photos, self.grid, self.network, self.augment = photos, grid, network, augment
        self.backgrounds = backgrounds
        self.generator = generator
        self.device = photos.images.device

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        u = torch.rand(*shape, generator=self.generator, device=self.device)
        return low + (high - low) * u

    def _chance(self, n: int, probability: float) -> Tensor:
        return self._uniform(n) < probability

    def __call__(self, index: Tensor, augment: bool = True) -> Batch:
        """Samples of rows ``index`` (B,); without ``augment`` exactly the truth crop."""
        a, n = self.augment, len(index)
        photos, grid = self.photos, self.grid
        side = photos.images.shape[-1]
        coefficients = photos.coefficients[index]
        scale, rotation = photos.scale[index], photos.rotation[index]
        shift = photos.translation[index]
        landmarks = grid.landmark_shapes(coefficients)
        mirror = self._chance(n, a.flip) if augment else torch.zeros(n, dtype=torch.bool)
        mirror = mirror.to(self.device)
        sign = torch.where(mirror, -1.0, 1.0)
        flip = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], 1)
        rotation = flip[:, :, None] * rotation * flip[:, None, :]
        shift = torch.stack([torch.where(mirror, side - 1 - shift[:, 0], shift[:, 0]),
                             shift[:, 1]], 1)  # fmt: skip
        mirrored_landmarks = landmarks[:, grid.mirror] * flip[:, None]
        landmarks = torch.where(mirror[:, None, None], mirrored_landmarks, landmarks)

        angle = torch.zeros(n, device=self.device)
        zoom, offset = torch.ones_like(angle), torch.zeros(n, 2, device=self.device)
        if augment:
            wide = self._chance(n, a.rotation_wide)
            reach = torch.where(wide, a.rotation, a.rotation / 3)
            angle = torch.deg2rad(reach * self._uniform(n, low=-1))
            zoom = self._uniform(n, low=1 - a.zoom, high=1 + a.zoom)
            offset = self._uniform(n, 2, low=-a.shift, high=a.shift)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        turn3 = torch.zeros(n, 3, 3, device=self.device)
        turn3[:, :2, :2], turn3[:, 2, 2] = turn, 1
        rotation = turn3 @ rotation
        shift = torch.einsum("bij,bj->bi", turn, shift)
        points = scale[:, None, None] * torch.einsum("bij,blj->bli", rotation, landmarks)
        points[..., :2] += shift[:, None]
        low, high = points[..., :2].amin(1), points[..., :2].amax(1)
        extent = (high - low).mean(1) * LANDMARK_BOX_MARGIN * zoom
        center = (low + high) / 2 + offset * extent[:, None]

        # Truth in pixels of a 256-pixel crop, y up, then flipped.
        factor = SIZE / extent
        matrix = (factor * scale)[:, None, None] * rotation
        middle = (SIZE - 1) / 2
        t = torch.zeros(n, 3, device=self.device)
        t[:, :2] = factor[:, None] * (shift - center)
        t[:, 0] += middle
        t[:, 1] -= middle
        shapes = grid.shapes(coefficients)
        mirrored_shapes = shapes.flip(3) * flip[:, :, None, None]
        shapes = torch.where(mirror[:, None, None, None], mirrored_shapes, shapes)
        pose_map = flip_y(torch.einsum("bij,bjhw->bihw", matrix, shapes) + t[:, :, None, None], 1)
        points = flip_y(torch.einsum("bij,blj->bli", matrix, landmarks) + t[:, None])

        # Crop [-1, 1]^2 -> stored picture [-1, 1]^2, through the y-up pixel frame.
        half = extent / 2
        to_stored = 2.0 / side
        theta = torch.zeros(n, 2, 3, device=self.device)
        back = turn.transpose(1, 2)
        origin = torch.einsum("bij,bj->bi", back, center)
        theta[:, 0, 0] = back[:, 0, 0] * half * to_stored
        theta[:, 0, 1] = -back[:, 0, 1] * half * to_stored
        theta[:, 0, 2] = (origin[:, 0] + 0.5) * to_stored - 1
        theta[:, 1, 0] = -back[:, 1, 0] * half * to_stored
        theta[:, 1, 1] = back[:, 1, 1] * half * to_stored
        theta[:, 1, 2] = (-origin[:, 1] + 0.5) * to_stored - 1
        theta[:, 0] *= sign[:, None]
        size = self.network.input_size
        affine = F.affine_grid(theta, [n, 4, size, size], align_corners=False)
        rgba = F.grid_sample(photos.images[index].float(), affine, align_corners=False)
        images, alpha = rgba[:, :3], rgba[:, 3:] / 255
        images = images * (alpha > 0.5)
        attention = self._project(pose_map)
        if augment:
            images = self._fill_border(images, alpha)
            images, occluder = self._occlude(images, points)
            seen = F.adaptive_avg_pool2d(1 - occluder, attention.shape[-1]) > 0.5
            attention = attention * seen
            images = self._degrade(images)
        pose = torch.cat([matrix, t[:, :, None]], 2)
        return Batch(images, pose_map, shapes, attention, points, pose, coefficients, mirror)

    def _project(self, pose_map: Tensor) -> Tensor:
        """Attention truth without occluders: cells the projected face falls into (Fig 4c)."""
        cells = self.network.input_size // 8
        n = len(pose_map)
        step = max(1, self.grid.size // 128)
        xy = pose_map[:, :2, ::step, ::step]
        cell = ((xy + 0.5) * (cells / SIZE)).floor().long()
        inside = ((cell >= 0) & (cell < cells)).all(1) & self.grid.mask[::step, ::step]
        flat = (cell[:, 1] * cells + cell[:, 0]).clamp(0, cells * cells - 1).flatten(1)
        out = torch.zeros(n, cells * cells, device=self.device)
        out.scatter_reduce_(1, flat, inside.flatten(1).float(), "amax")
        return out.view(n, 1, cells, cells)

    def _pictures(self, n: int, size: int) -> Tensor:
        """(n, 3, size, size) random pieces of backgrounds, else of the photos themselves."""
        source = self.backgrounds if self.backgrounds is not None else self.photos.images[:, :3]
        pick = torch.randint(len(source), (n,), generator=self.generator, device=self.device)
        zoom = self._uniform(n, low=0.3, high=1.0)
        theta = torch.zeros(n, 2, 3, device=self.device)
        theta[:, 0, 0] = zoom * torch.where(self._chance(n, 0.5), 1.0, -1.0)
        theta[:, 1, 1] = zoom
        theta[:, :, 2] = self._uniform(n, 2, low=-1) * (1 - zoom[:, None])
        grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
        return F.grid_sample(source[pick].float(), grid, padding_mode="reflection",
                             align_corners=False)  # fmt: skip

    def _fill_border(self, images: Tensor, alpha: Tensor) -> Tensor:
        """Black beyond the photo's edge becomes another picture or a colour, sometimes."""
        n, size = len(images), images.shape[-1]
        open_border = (alpha < 0.5).flatten(1).any(1)
        chosen = torch.nonzero(open_border & self._chance(n, self.augment.fill))[:, 0]
        if len(chosen) == 0:
            return images
        fill = self._pictures(len(chosen), size)
        plain = self._chance(len(chosen), 0.3)
        colour = self._uniform(len(chosen), 3, 1, 1, high=255.0)
        fill = torch.where(plain[:, None, None, None], colour, fill)
        images = images.clone()
        images[chosen] = torch.where(alpha[chosen] > 0.5, images[chosen], fill)
        return images

    def _occlude(self, images: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Paint random occluders; returns images and occluder masks (B, 1, H, H) in {0, 1}."""
        n, size = len(images), images.shape[-1]
        covered = torch.zeros(n, 1, size, size, device=self.device)
        images = images.clone()
        for share in (self.augment.occlusion, self.augment.occlusion * 0.4):
            chosen = torch.nonzero(self._chance(n, share))[:, 0]
            if len(chosen) == 0:
                continue
            polygon = self._occluder_polygons(landmarks[chosen, :, :2])
            mask = polygon_mask(polygon * (size / 2 / SIZE), size // 2)
            soft = F.interpolate(mask, size=size, mode="bilinear")  # soft edges come for free
            mask = soft.round()
            fill = self._occluder_fill(images[chosen], landmarks[chosen])
            images[chosen] = images[chosen] * (1 - soft) + fill * soft
            covered[chosen] = torch.maximum(covered[chosen], mask)
        return images, covered

    def _occluder_polygons(self, landmarks: Tensor) -> Tensor:
        """(m, E, 2) in pixels of a 256-pixel crop: blobs, strips, masks, glasses, half-planes."""
        m, corners = len(landmarks), 16
        low, high = landmarks.amin(1), landmarks.amax(1)
        extent = (high - low).mean(1)
        phase = torch.arange(corners, device=self.device) * (2 * math.pi / corners)
        # Blobs: a star-shaped polygon with a smooth random radius.
        order = torch.arange(1, 5, device=self.device, dtype=torch.float32)
        wave = torch.cos(phase[None, :, None] * order + self._uniform(m, 1, 4, high=2 * math.pi))
        radius = 1 + (self._uniform(m, 1, 4, high=0.5) / order * wave).sum(2)
        reach = extent[:, None] * self._uniform(m, 1, low=0.1, high=0.42)
        squeeze = self._uniform(m, 1, low=0.4, high=1.0)
        circle = torch.stack([phase.cos(), phase.sin()], 1)
        shape = circle * (radius * reach)[..., None]
        shape = shape * torch.stack([torch.ones_like(squeeze), squeeze], 2)
        # Strips (hands, straps): a long rounded rectangle, the same circle flattened.
        long = extent[:, None, None] * self._uniform(m, 1, 1, low=0.6, high=1.3)
        thin = extent[:, None, None] * self._uniform(m, 1, 1, low=0.06, high=0.22)
        square = circle / circle.abs().amax(1, keepdim=True)
        strip = square * torch.cat([long, thin], 2)
        kind = self._uniform(m)
        shape = torch.where((kind < 0.3)[:, None, None], strip, shape)
        angle = self._uniform(m, high=2 * math.pi)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        center = low + (high - low) * self._uniform(m, 2, low=-0.1, high=1.1)
        polygon = torch.einsum("mij,mej->mei", turn, shape) + center[:, None]
        # A mask over nose and mouth: jaw points and the bridge of the nose.
        jaw = landmarks[:, 2:15]
        bridge = landmarks[:, 28:29] + (landmarks[:, 29:30] - landmarks[:, 28:29]) * self._uniform(
            m, 1, 1
        )
        mask = torch.cat([jaw, bridge], 1)
        mask = mask[:, torch.linspace(0, 13, corners).round().long().to(self.device)]
        polygon = torch.where(((kind > 0.82) & (kind < 0.92))[:, None, None], mask, polygon)
        # Dark glasses: an ellipse around both eyes.
        eyes = landmarks[:, 36:48]
        middle, out = eyes.mean(1), landmarks[:, 45] - landmarks[:, 36]
        across = torch.stack([-out[:, 1], out[:, 0]], 1) * self._uniform(m, 1, low=0.2, high=0.35)
        along = out * self._uniform(m, 1, low=0.6, high=0.75)
        glasses = (middle[:, None] + circle[None, :, :1] * along[:, None]
                   + circle[None, :, 1:] * across[:, None])  # fmt: skip
        return torch.where((kind >= 0.92)[:, None, None], glasses, polygon)

    def _occluder_fill(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """(m, 3, H, H): pictures, colours, noise, or skin taken from the face itself."""
        m, size = len(images), images.shape[-1]
        fill = self._pictures(m, size)
        kind = self._uniform(m)[:, None, None, None]
        colour = self._uniform(m, 3, 1, 1, high=255.0)
        noise = self._uniform(*images.shape, high=255.0)
        nose = (landmarks[:, 30, :2] * (size / SIZE)).long().clamp(0, size - 1)
        skin = images[torch.arange(m, device=self.device), :, nose[:, 1], nose[:, 0]]
        light = 0.75 + 0.5 * fill.mean(1, keepdim=True) / 255
        skin_fill = (skin[:, :, None, None] * light).clamp(0, 255)
        fill = torch.where(kind < 0.35, colour.expand_as(fill), fill)
        fill = torch.where(kind < 0.2, skin_fill, fill)
        return torch.where(kind < 0.05, noise, fill)

    def _degrade(self, images: Tensor) -> Tensor:
        """Colour channels, grey, low resolution, noise."""
        a, n = self.augment, len(images)
        images = images * self._uniform(n, 3, 1, 1, low=1 - a.channel, high=1 + a.channel)
        grey = self._chance(n, a.grey)[:, None, None, None]
        images = torch.where(grey, images.mean(1, keepdim=True).expand_as(images), images)
        size = images.shape[-1]
        chosen = torch.nonzero(self._chance(n, a.blur))[:, 0]
        if len(chosen):
            pick = int(torch.randint(3, (1,), generator=self.generator, device=self.device))
            small = F.interpolate(images[chosen], size=int(size / (2.0, 3.0, 1.5)[pick]),
                                  mode="bilinear", antialias=True)  # fmt: skip
            images = images.clone()
            images[chosen] = F.interpolate(small, size=size, mode="bilinear")
        chosen = torch.nonzero(self._chance(n, a.noise))[:, 0]
        if len(chosen):
            strength = self._uniform(len(chosen), 1, 1, 1, high=12.0)
            shape = (len(chosen), *images.shape[1:])
            noise = torch.randn(shape, generator=self.generator, device=self.device)
            images = images.clone()
            images[chosen] += strength * noise
        return images.clamp(0, 255)


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
