"""Occlusion-aware self-alignment: P, S and A -> pose and the final face G (paper III-C).

Everything is batched, on the tensors' device, and differentiable in P and S. Positions come in
crop pixels, x right and **y down**; the similarity is fitted in the y-up frame, where it is a
proper rotation, and G is flipped back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.model.config import EPS_WEIGHT as EPS_WEIGHT
from sadr_cli.model.config import MODES as MODES
from sadr_cli.model.config import SELF_ALIGNMENTS as SELF_ALIGNMENTS
from sadr_cli.pixels import to_edge

# (B, 3, 3) matrices, whether the rotation must be proper -> (B, 3, 3)
NearestRotation = Callable[[Tensor, bool], Tensor]


class Alignment(NamedTuple):
    """Result of :func:`self_align`.

    face: (B, 3, H, W) G in the frame of P (y down).
    scale: (B,) f; rotation: (B, 3, 3) proper R; translation: (B, 3) t, of the y-up frame:
        G_up = f R S + t (Eq 2), then y is negated.
    weights: (B, K) landmark weights W (Eq 11).
    """

    face: Tensor
    scale: Tensor
    rotation: Tensor
    translation: Tensor
    weights: Tensor


def surface_normals(position: Tensor, mask: Tensor | None = None) -> Tensor:
    """Unit outward normals (B, 3, H, W) of a UV position map (B, 3, H, W) with y down.

    Cross product of the map's central differences along columns and rows. Neighbours outside
    ``mask`` (H, W), where the network's output is undefined, are not used: differences are
    one-sided there. Degenerate points get a zero normal.
    """
    near = _neighbours(F.pad(position, (1, 1, 1, 1), mode="replicate"))
    if mask is not None:
        inside = _neighbours(F.pad(mask, (1, 1, 1, 1), value=False))
        near = [torch.where(m, v, position) for m, v in zip(inside, near, strict=True)]
    east, west, south, north = near
    return F.normalize(torch.linalg.cross(east - west, south - north, dim=1), dim=1)


def _neighbours(padded: Tensor) -> list[Tensor]:
    """East, west, south and north neighbours of maps (..., H, W), padded by 1 on each side."""
    return [
        padded[..., 1:-1, 2:],
        padded[..., 1:-1, :-2],
        padded[..., 2:, 1:-1],
        padded[..., :-2, 1:-1],
    ]


class UVSurface:
    """Index tables of a UV mask (H, W) bool for inference, which needs only the normals' signs.

    Its pixels are the vertices, row by row. A missing neighbour is replaced by the vertex itself,
    as in :func:`surface_normals`; the results are the same at a tenth of the cost.
    """

    def __init__(self, mask: Tensor) -> None:
        height, width = mask.shape
        self.vertices = mask.flatten().nonzero()[:, 0]
        pixels = torch.full((height + 2, width + 2), -1, device=mask.device)
        numbers = torch.arange(height * width, device=mask.device).view(height, width)
        pixels[1:-1, 1:-1] = torch.where(mask, numbers, -1)
        own = self.vertices
        around = [torch.where(side[mask] < 0, own, side[mask]) for side in _neighbours(pixels)]
        self._around = torch.stack(around)  # (4, V) pixels east, west, south, north
        self._border = (self._around == own).any(0).nonzero()[:, 0]

    def gather(self, uv_map: Tensor) -> Tensor:
        """Vertices (B, C, V) of a map (B, C, H, W)."""
        return _columns(uv_map.flatten(2), self.vertices)

    def facing(self, xy: Tensor) -> Tensor:
        """(B, V) bool: normal z >= 0, for a position map's x and y (down) (B, 2, H, W)."""
        across = xy[:, :, 1:-1, 2:] - xy[:, :, 1:-1, :-2]
        down = xy[:, :, 2:, 1:-1] - xy[:, :, :-2, 1:-1]
        whole = F.pad(_turns_to_viewer(across, down), (1, 1, 1, 1))
        facing = _columns(whole.flatten(1), self.vertices)
        facing[:, self._border] = self.facing_at(xy, self._border)
        return facing

    def facing_at(self, xy: Tensor, chosen: Tensor) -> Tensor:
        """The same for the vertices ``chosen`` (K,) only."""
        around = self._around[:, chosen]
        near = xy.flatten(2).index_select(2, around.flatten()).unflatten(2, around.shape)
        east, west, south, north = near.unbind(2)
        return _turns_to_viewer(east - west, south - north)


def _columns(values: Tensor, index: Tensor) -> Tensor:
    """``values[..., index]``; on the CPU without gradients by NumPy, in a quarter of the time."""
    if values.device.type != "cpu" or values.requires_grad:
        return values.index_select(-1, index)
    return torch.from_numpy(np.take(values.numpy(), index.numpy(), axis=-1))


def _turns_to_viewer(across: Tensor, down: Tensor) -> Tensor:
    """Sign of the z of across x down, both (B, 2, ...)."""
    return across[:, 0] * down[:, 1] >= across[:, 1] * down[:, 0]


def gather_points(uv_map: Tensor, kpt: Tensor) -> Tensor:
    """Map values (B, K, C) at pixels ``kpt`` (K, 2) row, column of (B, C, H, W)."""
    return uv_map[:, :, kpt[:, 0], kpt[:, 1]].transpose(1, 2)


def sample_attention(attention: Tensor, xy: Tensor, size: int) -> Tensor:
    """Attention (B, K) at points ``xy`` (B, K, 2) in pixels of a crop of ``size``.

    Attention (B, 1, h, w) is read at the cell that contains the point (the floor in Eq 10);
    points outside the crop are invisible: 0.
    """
    height, width = attention.shape[-2:]
    cell = torch.floor(to_edge(xy.detach()) * (width / size)).long()
    x, y = cell[..., 0], cell[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return attention.flatten(1).gather(1, index) * inside


def visibility(position: Tensor, normals: Tensor, attention: Tensor | None, size: int) -> Tensor:
    """Vis of Eq 10 for points: 0 where the normal points away, else the attention there.

    position, normals: (B, K, 3), pixels of a crop of ``size`` with y down;
    attention: (B, 1, h, w) in [0, 1], or None to use the normals alone. Returns (B, K).
    """
    return seen_where_facing(position, normals[..., 2] >= 0, attention, size)


def seen_where_facing(
    position: Tensor, facing: Tensor, attention: Tensor | None, size: int
) -> Tensor:
    """:func:`visibility` from the signs of the normals: ``facing`` (B, K) bool."""
    facing = facing.to(position.dtype)
    if attention is None:
        return facing
    return facing * sample_attention(attention, position[..., :2], size)


def weighted_similarity(
    source: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    mode: str = "paper",
    nearest: NearestRotation | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """f, R, t with target ~ f R source + t (Eqs 12-18), for points (B, K, 3), weights (B, K).

    ``paper``: weighted centroids, f as the ratio of weighted summed distances to them, weighted
    SVD, t = M_P - f R M_S (Eq 18 omits the f). Unlike in the paper, the sums of Eq 14 are weighted,
    so that a wrong hidden landmark cannot change the scale. R is always proper, det R = +1.
    ``official``: as in the public code; weighted centroids and unweighted sums for f, plain means
    for H and t; R may be a reflection.

    nearest: finds the rotation nearest to a matrix; None: by SVD. Returns (B,), (B, 3, 3), (B, 3).
    """
    if mode not in ("paper", "official"):
        raise ValueError(f"alignment mode must be paper or official: {mode}")
    w = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    mean_s = (w[..., None] * source).sum(1)  # Eq 12
    mean_p = (w[..., None] * target).sum(1)  # Eq 13
    distance_weights = w if mode == "paper" else torch.ones_like(w)
    reach_s = (distance_weights * _norm(source - mean_s[:, None])).sum(1)
    reach_p = (distance_weights * _norm(target - mean_p[:, None])).sum(1)
    scale = reach_p / reach_s.clamp_min(1e-12)  # Eq 14
    if mode == "official":
        mean_s, mean_p = source.mean(1), target.mean(1)
    centred_s = scale[:, None, None] * (source - mean_s[:, None])  # Eq 15
    centred_p = target - mean_p[:, None]  # Eq 16
    h = torch.einsum("bki,bk,bkj->bij", centred_s, w, centred_p)
    solve = nearest or _nearest_rotation
    rotation = solve(h.transpose(1, 2), mode == "paper")  # Eq 17
    translation = mean_p - scale[:, None] * torch.einsum("bij,bj->bi", rotation, mean_s)  # Eq 18
    return scale, rotation, translation


def flip_y(points: Tensor, dim: int = -1) -> Tensor:
    """Negate the second of three coordinates along ``dim``: y down <-> y up."""
    x, y, z = points.unbind(dim)
    return torch.stack([x, -y, z], dim)


def self_align(
    pose_face: Tensor,
    shape: Tensor,
    attention: Tensor | None,
    kpt: Tensor,
    *,
    size: int,
    mask: Tensor | None = None,
    mode: str = "paper",
    nearest: NearestRotation | None = None,
) -> Alignment:
    """Align the shape S to the pose-dependent face P by the visible landmarks (Eqs 10-18).

    pose_face: (B, 3, H, W) P in pixels of a crop of side ``size``, y down.
    shape: (B, 3, H, W) S in the shape frame, y up.
    attention: (B, 1, h, w) in [0, 1] or None.
    kpt: (K, 2) row, column of the landmarks in the maps.
    mask: (H, W) bool, the face pixels of the maps, for the normals.
    nearest: as in :func:`weighted_similarity`.
    """
    landmarks_p = gather_points(pose_face, kpt)
    landmarks_s = gather_points(shape, kpt)
    if mode == "official":
        weights = official_weights(pose_face, landmarks_p, attention, kpt, size)
    else:
        normals = gather_points(surface_normals(pose_face.detach(), mask), kpt)
        weights = visibility(landmarks_p, normals, attention, size) + EPS_WEIGHT  # Eq 11
    scale, rotation, translation = weighted_similarity(
        landmarks_s, flip_y(landmarks_p), weights, mode=mode, nearest=nearest
    )
    return Alignment(
        transform_map(shape, scale, rotation, translation), scale, rotation, translation, weights
    )


def self_align_vertices(
    pose_face: Tensor,
    shape: Tensor,
    attention: Tensor | None,
    landmarks: Tensor,
    surface: UVSurface,
    *,
    size: int,
    weights: Tensor | None = None,
    mode: str = "paper",
) -> tuple[Alignment, Tensor]:
    """:func:`self_align` for inference: the same results, and which vertices of G face the viewer.

    Arguments as there, with ``landmarks`` (K,) as vertex numbers; weights: (B, K), or None for
    Eq 11. ``face`` of the result is (B, 3, V); the second result is (B, V) bool.
    """
    pixels = surface.vertices[landmarks]
    source = shape.flatten(2).index_select(2, pixels).transpose(1, 2)
    target = pose_face.flatten(2).index_select(2, pixels).transpose(1, 2)
    if weights is None:
        facing = surface.facing_at(pose_face[:, :2], landmarks)
        weights = seen_where_facing(target, facing, attention, size) + EPS_WEIGHT
    scale, rotation, translation = weighted_similarity(source, flip_y(target), weights, mode=mode)
    down = scale.new_tensor([1.0, -1.0, 1.0])[:, None]
    matrix, shift = down * scale[:, None, None] * rotation, down * translation[:, :, None]
    face = torch.baddbmm(shift, matrix, surface.gather(shape))
    xy = torch.bmm(matrix[:, :2], shape.flatten(2)).unflatten(2, shape.shape[2:])
    return Alignment(face, scale, rotation, translation, weights), surface.facing(xy)


def take_direct(
    pose_face: Tensor,
    template: Tensor,
    attention: Tensor | None,
    kpt: Tensor,
    *,
    size: int,
    mask: Tensor | None = None,
) -> tuple[Alignment, Tensor]:
    """P as the result (Figs. 9a, 9d): G = P, its pose against the template, and S (B, 3, H, W).

    Arguments as of :func:`self_align`, with the mean template (1, 3, H, W) for S.
    """
    template = template.expand(len(pose_face), -1, -1, -1)
    found = self_align(pose_face, template, attention, kpt, size=size, mask=mask)
    up = flip_y(pose_face, 1) - found.translation[:, :, None, None]
    shape = torch.einsum("bji,bjhw->bihw", found.rotation, up) / found.scale[:, None, None, None]
    return found._replace(face=pose_face), shape


def take_regressed(pose: Tensor, shape: Tensor) -> Alignment:
    """The regressed pose (B, 3, 4), approximately f R | t, applied to S (Fig. 9b); weights 1."""
    matrix = pose[:, :, :3]
    rotation = _nearest_rotation(matrix, proper=True)
    scale = torch.einsum("bij,bij->b", rotation, matrix) / 3  # least squares, given R
    translation = pose[:, :, 3]
    face = transform_map(shape, scale, rotation, translation)
    return Alignment(face, scale, rotation, translation, torch.ones_like(pose[:, 0]))


def official_weights(
    pose_face: Tensor, landmarks: Tensor, attention: Tensor | None, kpt: Tensor, size: int
) -> Tensor:
    """Weights of the public code: 1 or 0.1 by one corner's normal, times the attention."""
    here = pose_face.detach()
    before = (kpt - 1).clamp_min(0)
    west = gather_points(here, torch.stack([kpt[:, 0], before[:, 1]], 1)) - landmarks.detach()
    north = gather_points(here, torch.stack([before[:, 0], kpt[:, 1]], 1)) - landmarks.detach()
    facing = west[..., 0] * north[..., 1] - west[..., 1] * north[..., 0] >= 0
    weights = facing.to(landmarks.dtype).clamp_min(EPS_WEIGHT)
    if attention is None:
        return weights
    height, width = attention.shape[-2:]
    x = (landmarks[..., 0].detach() * width / size).long().clamp(0, width - 1)
    y = (landmarks[..., 1].detach() * height / size).long().clamp(0, height - 1)
    return weights * attention.flatten(1).gather(1, y * width + x)


def transform_map(shape: Tensor, scale: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
    """G = f R S + t (Eq 2) on maps (B, 3, H, W), returned with y down."""
    up = torch.einsum("bij,bjhw->bihw", scale[:, None, None] * rotation, shape)
    return flip_y(up + translation[:, :, None, None], dim=1)


def _norm(x: Tensor) -> Tensor:
    """Length along the last axis with a finite gradient at zero."""
    return torch.sqrt((x * x).sum(-1) + 1e-12)


class _NearestRotation(torch.autograd.Function):
    """The rotation nearest to M in the Frobenius norm, with a stable derivative.

    With M = U diag(s) V', signs d such that det R = +1 (``proper``) and R = U diag(d) V', the
    derivative is dR = U' Omega V with Omega = (U' dM V - V' dM' U) / (s_i + s_j), signed singular
    values; the denominator vanishes only where R is not unique, and has a lower bound there.
    """

    @staticmethod
    def forward(ctx, m: Tensor, proper: bool) -> Tensor:  # type: ignore[no-untyped-def, override]
        u, s, vh = torch.linalg.svd(m.double())
        d = torch.ones_like(s)
        if proper:
            d[..., 2] = torch.where(torch.det(u @ vh) < 0, -1.0, 1.0)
        v = vh.transpose(-1, -2)
        ctx.save_for_backward(u, s * d, v * d[..., None, :])
        return ((u * d[..., None, :]) @ vh).to(m.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        u, s, v = ctx.saved_tensors  # M = u diag(s) v', R = u v'
        g = u.transpose(-1, -2) @ grad.double() @ v
        total = s[..., :, None] + s[..., None, :]
        floor = 1e-6 * s.abs().amax(-1)[..., None, None].clamp_min(1e-12)
        omega = (g - g.transpose(-1, -2)) / torch.maximum(total, floor)
        return (u @ omega @ v.transpose(-1, -2)).to(grad.dtype), None


def _nearest_rotation(m: Tensor, proper: bool) -> Tensor:
    return _NearestRotation.apply(m, proper)
