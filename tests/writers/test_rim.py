"""The rim of meshes: straight where the layout's pixels make steps."""

from __future__ import annotations

import numpy as np
import pytest

from sadr_cli import Reconstructor
from sadr_cli.export.topology import apply_topology, make_topology
from sadr_cli.writers import face_mesh
from sadr_cli.writers.rim import _loops, layout_rim


@pytest.fixture(scope="module")
def shipped():
    """The layout of the shipped weights."""
    return Reconstructor().uv


def turns(shape, loop):
    """Degrees by which a closed line turns at each of its points."""
    edges = np.diff(shape[[*loop, loop[0]]], axis=0)
    edges = edges[np.linalg.norm(edges, axis=1) > 1e-6]
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    cosine = (edges * np.roll(edges, 1, 0)).sum(1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_the_rim_has_no_teeth(shipped):
    shape = shipped.mean_shape.astype(float)
    (loop,) = _loops(shipped.triangles)
    straight = layout_rim(shipped).straighten(shape)
    assert (turns(shape, loop) > 60).sum() > 80
    assert (turns(straight, loop) > 60).sum() < 10


def test_straightening_again_changes_nothing_and_landmarks_stay(shipped):
    rim = layout_rim(shipped)
    shape = shipped.mean_shape.astype(float)
    straight = rim.straighten(shape)
    np.testing.assert_array_equal(rim.straighten(straight), straight)
    assert not set(rim.moved) & set(shipped.landmark_indices)
    assert len(rim.moved) < 0.01 * shipped.vertex_count
    apart = np.linalg.norm(straight - shape, axis=1)[rim.moved] * 66.67
    assert 0.2 < apart.mean() < 1.5 and apart.max() < 5  # millimetres


def test_no_triangle_turns_over(shipped):
    def normals(shape):
        a, b, c = (shape[shipped.triangles[:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    shape = shipped.mean_shape.astype(float)
    before, after = normals(shape), normals(layout_rim(shipped).straighten(shape))
    assert (before * after).sum(1).min() >= 0


def test_a_rim_without_ears_is_straight_too(shipped):
    from synthetic import posed_face

    mesh = face_mesh(posed_face(shipped), shipped, 200, "canonical")
    whole = mesh.vertices.astype(float)
    topology = make_topology(shipped, None, ears=False)
    cropped = apply_topology(mesh, topology)
    (loop,) = _loops(topology.triangles)
    before = (turns(whole[topology.vertices], loop) > 60).sum()
    assert (turns(cropped.vertices.astype(float), loop) > 60).sum() < min(before, 20)
