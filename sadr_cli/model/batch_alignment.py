"""From a network's output to faces, in PyTorch, a whole batch at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.errors import UsageError
from sadr_cli.model import alignment
from sadr_cli.model.alignment import SELF_ALIGNMENTS, UVSurface
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.config import NetworkOutput
from sadr_cli.model.uvgrid import upsample
from sadr_cli.pixels import from_edge
from sadr_cli.uv import SIZE


class Maps(NamedTuple):
    """A network's output in pixels of a 256-pixel crop and shape units, at 256 x 256.

    pose_face, shape: (B, 3, 256, 256) P and S; attention: (B, 1, a, a) in [0, 1] or None;
    pose: (B, 3, 4) f R and t of the y-up crop frame, if the network regresses it.
    """

    pose_face: Tensor
    shape: Tensor
    attention: Tensor | None
    pose: Tensor | None


class BatchAligner:
    """mode: of ``alignment.MODES``; device: that of the outputs."""

    def __init__(self, checkpoint: Checkpoint, mode: str, device: str) -> None:
        self._checkpoint, self._mode = checkpoint, mode
        uv = checkpoint.uv
        mean = np.moveaxis(uv.to_map(uv.mean_shape), 2, 0)[None]
        self._mean = torch.from_numpy(np.ascontiguousarray(mean)).to(device)
        self._kpt = torch.from_numpy(uv.kpt.astype(np.int64)).to(device)
        self._mask = torch.from_numpy(uv.mask).to(device)
        self._surface = UVSurface(self._mask)
        index = uv.landmark_indices.astype(np.int64)
        self._landmarks = torch.from_numpy(index).to(device)

    def __call__(
        self, output: NetworkOutput, mirrored: NetworkOutput | None = None
    ) -> dict[str, Tensor]:
        """Self-alignment of a network's output; see the keys below.

        vertices, pose_face, shape: (B, V, 3); landmarks_p: (B, 68, 3); visibility: (B, V);
        attention: (B, a, a); scale, rotation, translation: pose in the y-up crop frame.
        Positions are pixels of a 256-pixel crop, y down. ``mirrored``: the output for the
        mirrored crops, averaged with the other before the alignment.
        """
        maps = self._maps(output)
        if mirrored is not None:
            maps = mean_of_mirrored(maps, self._maps(mirrored))
        pose_map, shape_map, attention, pose = maps
        if self._mode == "direct":
            placed, shape_map = alignment.take_direct(
                pose_map, self._mean, attention, self._kpt, size=SIZE, mask=self._mask
            )
        elif self._mode == "regressed":
            if pose is None:
                raise UsageError(f"{self._checkpoint.name} regresses no pose: its alignment is off")
            placed = alignment.take_regressed(pose, shape_map)
            pose_map = placed.face
        surface = self._surface
        if self._mode in SELF_ALIGNMENTS:
            weights = None
            if self._mode == "official":
                there = alignment.gather_points(pose_map, self._kpt)
                weights = alignment.official_weights(pose_map, there, attention, self._kpt, SIZE)
            placed, facing = alignment.self_align_vertices(
                pose_map, shape_map, attention, self._landmarks, surface,
                size=SIZE, weights=weights, mode=self._mode,
            )  # fmt: skip
        else:
            facing = surface.facing(placed.face[:, :2])
            placed = placed._replace(face=surface.gather(placed.face))
        vertices = placed.face.transpose(1, 2)
        seen = alignment.seen_where_facing(vertices, facing, attention, SIZE)
        if attention is None:
            attention = torch.ones(len(vertices), 1, 1, 1, device=self._mask.device)
        return {
            "vertices": vertices,
            "pose_face": surface.gather(pose_map).transpose(1, 2),
            "shape": surface.gather(shape_map).transpose(1, 2),
            "visibility": seen,
            "attention": attention[:, 0],
            "scale": placed.scale,
            "rotation": placed.rotation,
            "translation": placed.translation,
        }

    def _maps(self, output: NetworkOutput) -> Maps:
        """P and S at 256 x 256, attention and pose, in crop pixels and shape units."""
        scaling = self._checkpoint.scaling
        device = self._mask.device
        known = (None if v is None else torch.as_tensor(v, device=device) for v in output)
        output = NetworkOutput(*known)  # type: ignore[arg-type]
        pose_face = upsample(output.pose_map.float() * scaling.position)
        shape = upsample(output.shape_map.float() * scaling.shape)
        if self._checkpoint.config.deformation:
            shape = shape + self._mean
        attention = None
        if output.attention is not None:
            attention = torch.sigmoid(output.attention.float())
        pose = None
        if output.pose is not None:
            pose = output.pose.float() * scaling.position
            middle = from_edge(SIZE / 2)
            pose = torch.cat(
                [pose[:, :, :3], pose[:, :, 3:] + pose.new_tensor([[middle], [-middle], [0]])], 2
            )
        return Maps(pose_face, shape, attention, pose)


def mean_of_mirrored(maps: Maps, mirrored: Maps) -> Maps:
    """The mean of the outputs for a crop and for its mirror image.

    Mirroring swaps the two halves of the UV map and inverts x: 255 - x in the crop's pixels, -x in
    the shape frame.
    """
    sign = maps.pose_face.new_tensor([-1.0, 1.0, 1.0])
    there = maps.pose_face.new_tensor([SIZE - 1.0, 0.0, 0.0])
    across = sign[:, None, None]
    face = mirrored.pose_face.flip(3) * across + there[:, None, None]
    shape = mirrored.shape.flip(3) * across
    attention, pose = maps.attention, maps.pose
    if attention is not None and mirrored.attention is not None:
        attention = (attention + mirrored.attention.flip(3)) / 2
    if pose is not None and mirrored.pose is not None:
        flipped = mirrored.pose * sign[:, None] * torch.cat([sign, sign.new_ones(1)])
        pose = (pose + flipped + F.pad(there[:, None], (3, 0))) / 2
    return Maps((maps.pose_face + face) / 2, (maps.shape + shape) / 2, attention, pose)
