"""Pixel coordinates agree with what OpenCV and PyTorch do to pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sadr_cli.pixels import from_edge, from_unit, image_box, resized, to_edge, to_unit

RAMP = np.tile(np.arange(48, dtype=np.float32), (8, 1))  # every pixel holds its own x


@pytest.mark.parametrize("width", (12, 16, 24))
def test_resized_is_where_opencv_puts_a_point(width):
    small = cv2.resize(RAMP, (width, 8), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(resized(small[0], width / 48), np.arange(width), atol=1e-5)


def test_unit_coordinates_are_those_of_grid_sample():
    x = torch.tensor([0.0, 0.25, 7.0, 46.5, 47.0])
    grid = torch.stack([to_unit(x, 48), to_unit(torch.full_like(x, 3.0), 8)], -1)[None, None]
    sampled = F.grid_sample(torch.from_numpy(RAMP)[None, None], grid, align_corners=False)
    torch.testing.assert_close(sampled.flatten(), x, atol=1e-4, rtol=0)
    torch.testing.assert_close(from_unit(to_unit(x, 48), 48), x)


def test_a_picture_reaches_half_a_pixel_beyond_its_centres():
    x0, y0, x1, y1 = image_box(8, 48)
    assert (x0, y0, x1, y1) == (-0.5, -0.5, 47.5, 7.5)
    assert to_edge(x0) == 0 and to_edge(x1) == 48 and from_edge(to_edge(3.25)) == 3.25
    assert to_unit(x0, 48) == -1 and to_unit(x1, 48) == 1
