"""Settings of the augmentation, random numbers, and image degradations: colour, blur, JPEG.

Everything is batched on the images' device. The number of samples that are changed is drawn on the
host, the samples themselves on the device, so that the host never waits for the device.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

T = TypeVar("T")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of samples; values are shares of the batch unless noted. Paper: III-E.

    rotation: in-plane, degrees in either direction; ``rotation_wide``: share of samples that use
        the full range, the others a third of it.
    shift: share of the crop's side, in either direction; zoom: crop size in [1 - zoom, 1 + zoom].
    channel: factor of each colour channel in [1 - channel, 1 + channel].
    grey, blur, low_resolution, noise, jpeg: see :func:`degrade`.
    occlusion: samples with an occluder; ``fill``: with random content beyond the photo's edge.
    profiling: samples rotated in 3-D to a larger yaw; ``beyond``: the share of those rotated to
        90 to 105 degrees; ``pitch``: additional pitch, degrees in either direction.
    cut: samples cut by an edge of the photo, by up to ``cut_depth`` of the crop's side.
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
    low_resolution: float = 0.0
    jpeg: float = 0.0
    profiling: float = 0.0
    beyond: float = 0.15
    pitch: float = 10.0
    cut: float = 0.0
    cut_depth: float = 0.45


class Draws:
    """Random tensors from the device's generator, random counts and choices from the host's."""

    def __init__(self, device: torch.device, generator: torch.Generator | None = None) -> None:
        self.device = device
        self.generator = generator
        self.host = random.Random(generator.initial_seed() if generator is not None else None)

    def seed(self, seed: int) -> None:
        """Seed both generators."""
        self.host.seed(seed)
        if self.generator is not None:
            self.generator.manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        u = torch.rand(*shape, generator=self.generator, device=self.device)
        return low + (high - low) * u

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def chance(self, n: int, probability: float) -> Tensor:
        """(n,) bool."""
        return self.uniform(n) < probability

    def integers(self, n: int, below: int) -> Tensor:
        return torch.randint(below, (n,), generator=self.generator, device=self.device)

    def some(self, n: int, share: float) -> Tensor:
        """Distinct random rows of ``n``, ``share`` of them on average, in random order."""
        count = min(n, int(n * share + self.host.random()))
        return torch.randperm(n, generator=self.generator, device=self.device)[:count]

    def choice(self, options: Sequence[T]) -> T:
        return self.host.choice(options)

    def weighted(self, cumulative: Tensor, n: int) -> Tensor:
        """(n,) rows drawn with replacement; ``cumulative`` (N,) sums of the rows' weights."""
        at = self.uniform(n).to(cumulative.dtype) * cumulative[-1]
        return torch.searchsorted(cumulative, at, right=True).clamp_max(len(cumulative) - 1)


def degrade(images: Tensor, config: AugmentConfig, draws: Draws) -> Tensor:
    """Random colour gain, grey, blur, low resolution, noise and JPEG on images (B, 3, H, H).

    In the order of a camera: light, lens, sensor, file. Values stay in [0, 255].
    """
    n, size = len(images), images.shape[-1]
    gain = draws.uniform(n, 3, 1, 1, low=1 - config.channel, high=1 + config.channel)
    images = images * gain
    grey = draws.chance(n, config.grey)[:, None, None, None]
    images = torch.where(grey, images.mean(1, keepdim=True), images)
    rows = draws.some(n, config.blur)
    if len(rows):
        chosen = images[rows]
        images[rows] = blurred(chosen, draws.uniform(len(rows), low=0.3, high=size / 100))
    rows = draws.some(n, config.low_resolution)
    if len(rows):
        small = int(size / draws.choice((1.5, 2.0, 3.0, 4.5)))
        low = F.interpolate(images[rows], size=small, mode="bilinear", antialias=True)
        images[rows] = F.interpolate(low, size=size, mode=draws.choice(("bilinear", "bicubic")))
    rows = draws.some(n, config.noise)
    if len(rows):
        strength = draws.uniform(len(rows), 1, 1, 1, high=12.0)
        images[rows] += strength * draws.normal(len(rows), *images.shape[1:])
    images = images.clamp(0, 255)
    rows = draws.some(n, config.jpeg)
    if len(rows):
        images[rows] = jpeg(images[rows], draws.uniform(len(rows), low=15, high=80))
    return images


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of images (B, C, H, W) with ``sigma`` (B,) pixels; borders are replicated.

    One matrix per sample and axis: grouped convolutions with different kernels are slow on GPUs.
    """
    height, width = images.shape[2:]
    rows, columns = _blur_matrix(height, sigma), _blur_matrix(width, sigma)
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _blur_matrix(n: int, sigma: Tensor) -> Tensor:
    """(B, n, n): rows of the weights of a pixel's neighbours; the border takes those beyond it."""
    at = torch.arange(n, device=sigma.device, dtype=sigma.dtype)
    reach = 6
    source = torch.arange(-reach, n + reach, device=sigma.device, dtype=sigma.dtype)
    gap = (source[None, :] - at[:, None])[None]
    weight = torch.exp(-0.5 * (gap / sigma[:, None, None]) ** 2) * (gap.abs() <= reach)
    weight = weight / weight.sum(2, keepdim=True)
    inner = weight[:, :, reach : reach + n].clone()
    inner[:, :, 0] += weight[:, :, :reach].sum(2)
    inner[:, :, -1] += weight[:, :, reach + n :].sum(2)
    return inner


# Luminance table of the JPEG standard (ITU-T T.81, table K.1), and the top left corner of the
# chrominance table (K.2), which is 99 elsewhere.
# fmt: off
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
_CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
# fmt: on


@lru_cache(maxsize=4)
def _jpeg_tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """DCT matrix (8, 8), quantisation tables (3, 8, 8), RGB -> YCbCr (3, 3)."""
    k = np.arange(8)
    dct = np.sqrt(2 / 8) * np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 16)
    dct[0] /= np.sqrt(2)
    chroma = np.full((8, 8), 99.0)
    chroma[:4, :4] = _CHROMA_CORNER
    tables = np.stack([np.array(_LUMA, float).reshape(8, 8), chroma, chroma])
    ycc = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    dct_t, tables_t, ycc_t = (
        torch.tensor(x, dtype=torch.float32, device=device) for x in (dct, tables, ycc)
    )
    return dct_t, tables_t, ycc_t


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 255] after JPEG compression with ``quality`` (B,) in [1, 100].

    8 x 8 blocks, no chroma subsampling; sides must be multiples of 8.
    """
    dct, tables, ycc = _jpeg_tables(images.device)
    b, _, height, width = images.shape
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    step = (tables * factor[:, None, None, None]).round().clamp(1, 255)[:, :, None, :, None, :]
    x = torch.einsum("ij,bjhw->bihw", ycc, images - 128)
    blocks = x.view(b, 3, height // 8, 8, width // 8, 8)
    coded = torch.einsum("ui,bchiwj,vj->bchuwv", dct, blocks, dct)
    coded = (coded / step).round() * step
    x = torch.einsum("ui,bchuwv,vj->bchiwj", dct, coded, dct).reshape(b, 3, height, width)
    # (R - 128, G - 128, B - 128) from YCbCr without its offsets.
    y, cb, cr = x.unbind(1)
    rgb = torch.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 1)
    return (rgb + 128).clamp(0, 255)
