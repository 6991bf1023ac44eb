"""Distillation: a trained network as the teacher of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.model.batch_alignment import BatchAligner
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.synthesis import Batch
from sadr_cli.uv import SIZE


class Teacher:
    """Predictions of a checkpoint for the same images, at the student's UV resolution."""

    def __init__(self, checkpoint: Checkpoint, grid: UVGrid, device: torch.device) -> None:
        network: Any = checkpoint.network.to(device).eval()
        self.network = network.to(memory_format=torch.channels_last)
        self.align = BatchAligner(checkpoint, checkpoint.alignment, str(device))
        self.grid = grid
        uv = checkpoint.uv
        self.vertices = torch.nonzero(torch.from_numpy(uv.mask).flatten())[:, 0].to(device)
        self.mask = torch.from_numpy(uv.mask).to(device)[None, None].float()

    @property
    def image_size(self) -> int:
        return self.network.config.input_size

    @torch.no_grad()
    def __call__(self, batch: Batch, share: float, student_size: int) -> Batch:
        """The batch with its truth blended with ``share`` of the predictions, images resized."""
        x = self.network.normalize(batch.images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
            output = self.network(x)
        found = self.align(output)
        face = self._to_map(found["vertices"], batch.pose_map)
        shape = self._to_map(found["shape"], batch.shape_map)
        images = batch.images
        if student_size != images.shape[-1]:
            images = F.interpolate(images, size=student_size, mode="bilinear", antialias=True)
        return replace(
            batch,
            images=images,
            pose_map=torch.lerp(batch.pose_map, face, share),
            shape_map=torch.lerp(batch.shape_map, shape, share),
            landmarks=torch.lerp(batch.landmarks, self.grid.sample(face), share),
        )

    def _to_map(self, values: Tensor, otherwise: Tensor) -> Tensor:
        """(B, V, 3) -> (B, 3, U, U): means over each cell's face pixels, else ``otherwise``."""
        full = values.new_zeros(len(values), 3, SIZE * SIZE)
        full[:, :, self.vertices] = values.transpose(1, 2)
        full = full.view(-1, 3, SIZE, SIZE)
        share = F.adaptive_avg_pool2d(self.mask, self.grid.size)
        means = F.adaptive_avg_pool2d(full, self.grid.size) / share.clamp_min(1e-6)
        return torch.where(share > 0, means, otherwise)
