"""The face model at a network's UV resolution, on the device, and the mean template."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sadr_cli.landmarks import MIRROR_68
from sadr_cli.model.face_model import FaceModel
from sadr_cli.model.uvgrid import fit_coarse
from sadr_cli.pixels import to_edge, to_unit
from sadr_cli.training.dataset import PhotoSet
from sadr_cli.uv import SIZE, region_weights


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
        # Includes cells that only touch the mask: their values are interpolated into it.
        self.mask = (F.adaptive_max_pool2d(mask, size)[0, 0] > 0).to(device)
        self.weight = F.adaptive_avg_pool2d(weight, size)[0, 0].to(device)
        self.kpt = torch.from_numpy(layout.kpt.astype("int64")).to(device)
        self.kpt_grid = to_unit(self.kpt.float(), SIZE).flip(1)
        self.kpt_cell = (to_edge(self.kpt.float()) * size / SIZE).long()
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
