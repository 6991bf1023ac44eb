"""The six losses of the paper (III-D, Eqs 19-24) and the weights of additional ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-8


@dataclass(frozen=True)
class LossWeights:
    """Factors beta of Eq 24; the last four are additions, zero in the paper.

    landmarks: mean error of the 68 landmarks of P and G, in units of the position scale.
    visible: additional weight of a visible landmark in that error.
    human: error of G's landmarks against annotated ones, see ``human_loss``.
    regressor: error of the training-only pose and shape regressor.
    """

    face: float = 0.1
    deformation: float = 0.5
    pose_face: float = 1.0
    attention: float = 0.05
    edge: float = 1.0
    normal: float = 0.1
    landmarks: float = 0.0
    regressor: float = 0.0
    visible: float = 0.0
    human: float = 0.0


def position_loss(predicted: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Eq 19 as a weighted mean: ||N - N^||_2 over maps (B, 3, U, U), weight (U, U)."""
    distance = torch.sqrt(((predicted - truth) ** 2).sum(1) + _EPS)
    return (distance * weight).sum((1, 2)).mean() / weight.sum()


def edge_loss(shape: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Eqs 20-21 as a mean: difference of edge lengths along rows and columns of S.

    shape, truth: (B, 3, U, U); mask: (U, U) bool, edges count where both ends are face.
    """
    total, count = shape.new_zeros(()), shape.new_zeros(())
    for dim in (2, 3):
        lengths = [torch.sqrt((torch.diff(x, dim=dim) ** 2).sum(1) + _EPS) for x in (shape, truth)]
        n = mask.shape[0] - 1
        both = mask.narrow(dim - 2, 0, n) & mask.narrow(dim - 2, 1, n)
        total = total + ((lengths[0] - lengths[1]).abs() * both).sum()
        count = count + both.sum() * len(shape)
    return total / count.clamp_min(1)


def normal_loss(shape: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Eqs 22-23 as a mean over triangles: predicted unit edges along the true normals.

    Uses the true normal where Eq 22 has the triangle's own, to which its edges are orthogonal by
    construction. shape, truth: (B, 3, U, U); mask: (U, U) bool.
    """

    def unit(v: Tensor) -> Tensor:  # F.normalize is several times slower on strided maps
        return v * torch.rsqrt((v * v).sum(1, keepdim=True).clamp_min(1e-12))

    def edges(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        right = x[:, :, :-1, 1:] - x[:, :, :-1, :-1]
        down = x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
        return right, down, down - right

    face = mask[:-1, :-1] & mask[:-1, 1:] & mask[1:, :-1]
    right, down, _ = edges(truth)
    normal = unit(torch.linalg.cross(right, down, dim=1))
    total = shape.new_zeros(())
    for edge in edges(shape):
        total = total + ((unit(edge) * normal).sum(1).abs() * face).sum()
    return total / (face.sum() * len(shape)).clamp_min(1)
