from __future__ import annotations

import numpy as np
import pytest

from sadr_cli.render.rasterize import interpolate, rasterize, vertex_normals


def brute_force(vertices, triangles, height, width):
    """The definition, one triangle and one pixel at a time."""
    index = np.full((height, width), -1)
    depth = np.full((height, width), -np.inf)
    for t, (i, j, k) in enumerate(triangles):
        a, b, c = vertices[i], vertices[j], vertices[k]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if not np.isfinite(area) or abs(area) < 1e-12:
            continue
        for y in range(height):
            for x in range(width):
                w1 = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
                w2 = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
                if min(w1, w2, 1 - w1 - w2) < -1e-9:
                    continue
                z = (1 - w1 - w2) * a[2] + w1 * b[2] + w2 * c[2]
                if z > depth[y, x] + 1e-9:
                    index[y, x], depth[y, x] = t, z
    return index, depth


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1.5, 12.0, 80.0])
def test_equals_the_definition_for_small_and_large_triangles(seed, size):
    rng = np.random.default_rng(seed)
    height, width = 19, 27
    n = 40
    centers = rng.uniform(-5, 32, (n, 1, 3))
    vertices = (centers + rng.normal(size=(n, 3, 3)) * size).reshape(-1, 3)
    triangles = rng.permutation(3 * n).reshape(n, 3) if size < 2 else np.arange(3 * n).reshape(n, 3)
    expected, expected_depth = brute_force(vertices, triangles, height, width)
    index, barycentric, depth = rasterize(vertices, triangles, height, width)
    assert index.dtype == np.int32 and barycentric.dtype == np.float32
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(depth, expected_depth, rtol=1e-4, atol=1e-4)
    # Barycentric weights bring back the pixel itself.
    covered = index >= 0
    points = np.einsum("nk,nkc->nc", barycentric[covered], vertices[triangles[index[covered]]])
    y, x = np.nonzero(covered)
    np.testing.assert_allclose(points[:, :2], np.stack([x, y], 1), atol=2e-4 * max(size, 1))


def test_vertices_on_pixel_centres_and_edges_leave_no_crack():
    # A grid whose vertices, edges and diagonals all pass through pixel centres.
    y, x = np.mgrid[0:9, 0:9] * 2.0
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(81)], 1)
    i = np.arange(81).reshape(9, 9)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]
    triangles = np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )
    for angle in (0.0, 0.3, 0.7853981633974483):
        r = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = vertices.copy()
        turned[:, :2] = (vertices[:, :2] - 8) @ r.T + 15
        index, _, _ = rasterize(turned, triangles, 31, 31)
        inside = np.zeros((31, 31), bool)
        py, px = np.mgrid[0:31, 0:31]
        back = np.stack([px - 15, py - 15], -1) @ r
        inside = (np.abs(back) < 8 - 1e-6).all(-1)
        assert (index[inside] >= 0).all()


def test_nearer_triangle_wins_and_ties_go_to_the_lower_index():
    square = np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0]], float)
    nearer = square + np.array([0, 0, 5])
    vertices = np.concatenate([square, nearer, nearer])
    index, _, depth = rasterize(vertices, np.arange(9).reshape(3, 3), 8, 8)
    assert (index == 1).all() and np.allclose(depth, 5)


def test_outside_empty_degenerate_and_not_finite():
    vertices = np.array(
        [
            [-1e9, -1e9, 0],
            [1e9, -1e9, 0],
            [0, 1e9, 0],
            [np.nan, 0, 0],
            [1, 1, 0],
            [3, 3, 0],
            [5, 5, 0],
        ]
    )
    index, barycentric, depth = rasterize(vertices, np.array([[3, 4, 5], [4, 5, 6]]), 6, 7)
    assert (index == -1).all() and not barycentric.any() and np.isneginf(depth).all()
    index, _, _ = rasterize(vertices, np.array([[0, 1, 2]]), 6, 7)
    assert (index == 0).all()  # a triangle far larger than the picture
    index, _, _ = rasterize(vertices, np.zeros((0, 3), int), 6, 7)
    assert index.shape == (6, 7) and (index == -1).all()
    index, _, _ = rasterize(vertices + 100, np.array([[4, 5, 6]]), 6, 7)
    assert (index == -1).all()


def test_chunks_do_not_change_the_picture(monkeypatch):
    rng = np.random.default_rng(3)
    vertices = rng.uniform(-10, 70, (150, 3))
    triangles = np.arange(150).reshape(50, 3)
    whole = rasterize(vertices, triangles, 60, 50)
    monkeypatch.setattr("sadr_cli.render.rasterize._CHUNK", 500)
    for a, b in zip(whole, rasterize(vertices, triangles, 60, 50), strict=True):
        np.testing.assert_array_equal(a, b)


def test_culling_keeps_the_winding_of_the_image_frame():
    front = np.array([[0, 1, 2]])
    vertices = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0]], float)  # clockwise to the eye, y down
    assert (rasterize(vertices, front, 9, 9, cull_backfaces=True)[0] >= 0).any()
    assert (rasterize(vertices, front[:, ::-1], 9, 9, cull_backfaces=True)[0] == -1).all()
    normals = vertex_normals(vertices, front)
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 3, atol=1e-12)  # towards the viewer


def test_interpolate_linear_field_is_exact():
    vertices = np.array([[-1, -1, 0], [40, 0, 3], [0, 40, 9]], float)
    triangles = np.array([[0, 1, 2]])
    index, barycentric, depth = rasterize(vertices, triangles, 10, 12)
    field = interpolate(vertices, triangles, index, barycentric)
    y, x = np.mgrid[0:10, 0:12]
    np.testing.assert_allclose(field[..., 0], x, atol=1e-4)
    np.testing.assert_allclose(field[..., 1], y, atol=1e-4)
    np.testing.assert_allclose(field[..., 2], depth, atol=1e-4)
    assert interpolate(vertices[:, 2], triangles, index, barycentric).shape == (10, 12)


def test_normals_of_a_sphere_point_outwards():
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=3)
    normals = vertex_normals(np.asarray(sphere.vertices), np.asarray(sphere.faces))
    assert ((normals * sphere.vertices).sum(1) > 0.999).all()
