from __future__ import annotations

import numpy as np
import pytest
import torch

from sadr_cli.landmarks import MIRROR_68
from sadr_cli.model.uvgrid import fit_coarse, upsample
from sadr_cli.uv import UVLayout, region_weights


def test_landmarks_are_vertices(uv: UVLayout) -> None:
    rows, columns = uv.rows_columns
    found = np.stack([rows, columns], 1)[uv.landmark_indices]
    assert (found == uv.kpt).all()


def test_triangles_cover_the_mask_once_and_face_outwards(uv: UVLayout) -> None:
    t = uv.triangles
    assert t.min() == 0
    assert t.max() == uv.vertex_count - 1
    # A disc: V - E + T = 1.
    edges = np.sort(t[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    used = len(np.unique(t))
    assert used - len(unique) + len(t) == 1
    assert count.max() == 2
    # Outwards: the made-up face is a graph over x and y, so every normal has z > 0.
    a, b, c = (uv.mean_shape[t[:, k]].astype(float) for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_maps_round_trip(uv: UVLayout) -> None:
    maps = uv.to_map(uv.mean_shape, fill=np.nan)
    assert maps.shape == (256, 256, 3)
    assert np.isnan(maps[~uv.mask]).all()
    assert (uv.from_map(maps) == uv.mean_shape).all()


def test_texture_coordinates_point_at_pixel_centres(uv: UVLayout) -> None:
    rows, columns = uv.rows_columns
    assert np.allclose(uv.uv_coordinates[:, 0] * 256 - 0.5, columns)
    assert np.allclose((1 - uv.uv_coordinates[:, 1]) * 256 - 0.5, rows, atol=1e-4)


def test_mirror_is_an_involution_that_keeps_the_middle() -> None:
    assert (MIRROR_68[MIRROR_68] == np.arange(68)).all()
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert (np.flatnonzero(np.arange(68) == MIRROR_68) == middle).all()
    assert MIRROR_68[36] == 45
    assert MIRROR_68[48] == 54


def test_region_weights_are_the_papers() -> None:
    region = np.array([[0, 1], [2, 3]], np.uint8)
    assert (region_weights(region) == [[0, 16], [12, 3]]).all()


@pytest.mark.parametrize("size", [64, 128])
def test_coarse_maps_come_back_by_upsampling(uv: UVLayout, size: int) -> None:
    """The mean shape survives a map of 64 pixels to a thousandth of the face's width."""
    coarse = torch.from_numpy(fit_coarse(uv.mean_shape, uv.mask, size))[None]
    assert torch.isfinite(coarse).all()
    fine = upsample(coarse)[0].permute(1, 2, 0).numpy()[uv.mask]
    error = np.linalg.norm(fine - uv.mean_shape, axis=1)
    width = np.ptp(uv.mean_shape[:, 0])
    assert error.mean() < 1e-3 * width
    assert error.max() < 2e-2 * width


def test_layouts_that_contradict_themselves_are_refused(uv: UVLayout) -> None:
    with pytest.raises(ValueError, match="one point per face pixel"):
        UVLayout(uv.mask, uv.kpt, uv.region, uv.mean_shape[:-1])
    outside = uv.kpt.copy()
    outside[3] = 0
    with pytest.raises(ValueError, match="inside the face mask"):
        UVLayout(uv.mask, outside, uv.region, uv.mean_shape)
