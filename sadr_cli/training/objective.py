"""The weighted losses of Eq 24 from a network's output, for every variant of Table IV."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.model import alignment
from sadr_cli.model.network import NetworkOutput
from sadr_cli.training import losses
from sadr_cli.training.config import POSITION_SCALE, TrainConfig
from sadr_cli.training.constants import constant
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.losses import LossWeights
from sadr_cli.training.synthesis import Batch


def compute_losses(
    config: TrainConfig,
    grid: UVGrid,
    batch: Batch,
    output: NetworkOutput | None,
    logits: Tensor | None,
    regressed: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """The weighted losses by name, as scalars on the device.

    output: of the network, or None while only the encoder is trained; logits: of the attention
    mask, or None without one; regressed: output of ``Regressor``.

    Each variant has only the losses of its outputs: "direct" has no S, "regressed" no P.
    """
    w = config.loss
    parts: dict[str, Tensor] = {}
    attention = None
    if logits is not None:
        logits = logits.float()
        entropy = F.binary_cross_entropy_with_logits(logits, batch.attention)
        parts["attention"] = w.attention * entropy
        attention = torch.sigmoid(logits.detach())
    if output is None:
        parts["regressor"] = regressor_loss(grid, batch, *regressed)
        return parts
    truth = batch.pose_map / POSITION_SCALE
    faces = []  # that enter the landmark loss
    pose_map = output.pose_map.float()
    if config.alignment != "regressed":
        parts["pose_face"] = w.pose_face * losses.position_loss(pose_map, truth, grid.weight)
        faces.append(pose_map)
    if config.alignment != "direct":
        shape = output.shape_map.float()
        if config.network.deformation:
            shape = shape + grid.template
        if output.pose is not None:
            face = place(output.pose.float(), shape)
        else:
            face = align(grid, pose_map * POSITION_SCALE, shape, attention) / POSITION_SCALE
        faces.append(face)
        parts["deformation"] = w.deformation * losses.position_loss(
            shape, batch.shape_map, grid.weight
        )
        parts["face"] = w.face * losses.position_loss(face, truth, grid.weight)
        parts["edge"] = w.edge * losses.edge_loss(shape, batch.shape_map, grid.mask)
        parts["normal"] = w.normal * losses.normal_loss(shape, batch.shape_map, grid.mask)
    if w.landmarks:
        points = [grid.sample(face) for face in faces]
        parts["landmarks"] = w.landmarks * landmark_loss(w, grid, batch, points)
    if w.human:
        parts["human"] = w.human * human_loss(grid.sample(faces[-1]), batch.points)
    if w.regressor:
        parts["regressor"] = w.regressor * regressor_loss(grid, batch, *regressed)
    return parts


def landmark_loss(w: LossWeights, grid: UVGrid, batch: Batch, points: list[Tensor]) -> Tensor:
    """Mean distance of the landmarks (B, 68, 3) of each face from the truth, summed over faces.

    Visible ones count 1 + ``w.visible`` times as much as hidden ones.
    """
    weight = torch.ones_like(batch.landmarks[..., 0])
    if w.visible:
        normals = alignment.surface_normals(batch.pose_map, grid.mask)
        normals = alignment.gather_points(normals, grid.kpt_cell)
        seen = alignment.visibility(batch.landmarks, normals, batch.attention, 256)
        weight = weight + w.visible * seen
    weight = weight / weight.mean()
    target = batch.landmarks / POSITION_SCALE
    gaps = torch.stack([(p - target).pow(2).sum(-1) for p in points])
    return (torch.sqrt(gaps + 1e-8) * weight).mean((1, 2)).sum()


def human_loss(landmarks: Tensor, marked: Tensor) -> Tensor:
    """Mean distance in x, y of G's landmarks from annotated ones.

    landmarks: (B, 68, 3) over the position scale; marked: (B, 68, 3) of ``Batch.points``.
    Self-occluded points, whose annotations are guesses, are left out.
    """
    there = marked[..., 2] >= 0  # not where NaN
    target = torch.where(there[..., None], marked[..., :2], 0.0) / POSITION_SCALE
    gap = (landmarks[..., :2] - target).pow(2).sum(-1).add(1e-8).sqrt()
    return (gap * there).sum() / there.sum().clamp_min(1)


def regressor_loss(grid: UVGrid, batch: Batch, pose: Tensor, coefficients: Tensor) -> Tensor:
    """Landmark error of the regressed pose with the true shape, and of the regressed shape."""
    shape = grid.sample(batch.shape_map)
    placed = torch.einsum("bij,blj->bli", pose[:, :, :3], shape) + pose[:, None, :, 3]
    truth = torch.einsum("bij,blj->bli", batch.pose[:, :, :3], shape)
    truth = (truth + batch.pose[:, None, :, 3] - _center(truth)) / POSITION_SCALE
    position = (placed - truth).pow(2).sum(-1).add(1e-8).sqrt().mean()
    plain = ~batch.mirrored
    own = grid.landmark_shapes(coefficients)
    # A mirrored face has no coefficients: the regressed shape is mirrored instead.
    sign = constant((-1.0, 1.0, 1.0), own.device)
    own = torch.where(plain[:, None, None], own, own[:, grid.mirror] * sign)
    form = (own - shape).pow(2).sum(-1).add(1e-8).sqrt().mean()
    spread = ((coefficients - batch.coefficients).pow(2).mean(1) * plain).mean()
    return position + 0.2 * form + 0.01 * spread


def place(pose: Tensor, shape: Tensor) -> Tensor:
    """G / position scale (B, 3, U, U), y down, of a regressed pose (B, 3, 4) and S."""
    up = torch.einsum("bij,bjhw->bihw", pose[:, :, :3], shape) + pose[:, :, 3, None, None]
    up = up + _center(up)[None, :, None, None] / POSITION_SCALE
    return alignment.flip_y(up, 1)


def align(grid: UVGrid, pose_face: Tensor, shape: Tensor, attention: Tensor | None) -> Tensor:
    """G (B, 3, U, U) in crop pixels by self-alignment at the network's UV resolution."""
    normals = alignment.surface_normals(pose_face.detach(), grid.mask)
    points_p, points_s = grid.sample(pose_face), grid.sample(shape)
    normals = alignment.gather_points(normals, grid.kpt_cell)
    weights = alignment.visibility(points_p, normals, attention, 256) + alignment.EPS_WEIGHT
    scale, rotation, translation = alignment.weighted_similarity(
        points_s, alignment.flip_y(points_p), weights
    )
    return alignment.transform_map(shape, scale, rotation, translation)


def _center(like: Tensor) -> Tensor:
    """The centre of a 256-pixel crop in its y-up frame."""
    return constant((127.5, -127.5, 0.0), like.device)
