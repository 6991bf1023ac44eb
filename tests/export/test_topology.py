"""Meshes cut open between the lips."""

from __future__ import annotations

import numpy as np
import pytest

from sadr_cli import Reconstructor
from sadr_cli.export.topology import make_topology
from sadr_cli.writers.rim import _loops


@pytest.mark.parametrize("triangles", [None, 6000])
def test_the_mouth_is_the_only_opening(triangles):
    uv = Reconstructor().uv
    topology = make_topology(uv, triangles, ears=True, mouth=False)
    loops = sorted(_loops(topology.triangles), key=len)
    assert len(loops) == 2
    place = uv.mean_shape[topology.vertices][loops[0]]
    inner = uv.mean_shape[uv.landmark_indices[60:68]]
    low, high = inner.min(0) - 0.05, inner.max(0) + 0.05
    assert ((place > low) & (place < high))[:, :2].all()  # between the inner lips
    assert np.ptp(place[:, 0]) > 0.5 * np.ptp(inner[:, 0])
    assert set(uv.landmark_indices) <= set(topology.vertices)
    if triangles is None:
        assert len(topology.vertices) == uv.vertex_count
        assert 20 < len(uv.triangles) - len(topology.triangles) < 120
