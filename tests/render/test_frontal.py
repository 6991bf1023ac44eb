"""A mesh by itself: where it is, which side is seen, and in which colours."""

from __future__ import annotations

import numpy as np

from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.frontal import View, on_background

# A square plate that faces the viewer: left half red, right half blue, above a green strip.
CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
TEXTURE = np.zeros((64, 64, 3), np.uint8)
TEXTURE[:, :32, 0] = TEXTURE[:, 32:, 2] = 200
TEXTURE[:8] = (0, 200, 0)
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def plate(**more):
    return View(CORNERS, TRIANGLES, uv=UV, texture=TEXTURE, **more)


def test_from_the_front_it_lies_as_it_is():
    picture = plate().render(100, light=0.0)
    assert picture.shape == (100, 100, 4)
    assert tuple(picture[50, 20]) == (*RED, 255) and tuple(picture[50, 80]) == (*BLUE, 255)
    assert tuple(picture[6, 50]) == (*GREEN, 255)  # v = 1, up, is the texture's first row
    assert picture[0, 0, 3] == 0  # transparent around
    seen = np.argwhere(picture[..., 3] > 127)
    assert tuple(seen.min(0) + seen.max(0)) == (99, 99)  # in the middle
    assert 92 <= np.ptp(seen[:, 0]) + 1 <= 95


def test_turned_as_the_angles_say():
    picture = plate(turns=True).render(100, euler_to_matrix(60, 0, 0), light=0.0)
    columns = np.flatnonzero((picture[..., 3] > 127).any(0))
    assert abs(len(columns) - 94 * np.cos(np.radians(60))) <= 2
    back = plate(turns=True).render(100, euler_to_matrix(180, 0, 0), light=0.0)
    assert tuple(back[50, 20, :3]) == (20, 20, 70)  # from behind: darker, and sides changed
    assert tuple(back[50, 80, :3]) == (70, 20, 20)


def test_what_is_nearer_hides_what_is_behind():
    behind = CORNERS * 0.5 + (0, 0, -1)
    colors = np.array([RED] * 4 + [BLUE] * 4, np.uint8)
    triangles = np.concatenate([TRIANGLES, TRIANGLES + 4])
    view = View(np.concatenate([CORNERS, behind]), triangles, colors=colors)
    assert (view.render(60, light=0.0)[30, 30, :3] == RED).all()
    assert (view.render(60, euler_to_matrix(180, 0, 0), light=0.0)[30, 30, 2] > 60).all()


def test_light_and_clay():
    left, right = (euler_to_matrix(yaw, 0, 0) for yaw in (-60, 60))
    for light, differ in ((0.0, False), (0.5, True)):
        sides = [plate().render(60, turn, light)[30, 35:40, 2].mean() for turn in (left, right)]
        assert (abs(sides[0] - sides[1]) > 10) == differ
    clay = View(CORNERS, TRIANGLES).render(60)
    assert clay[30, 30, 2] > clay[30, 30, 0] > 60


def test_edges_fade_and_lie_on_a_ground():
    picture = plate(edge=np.array([0, 1, 1, 0])).render(100, light=0.0)
    assert picture[50, 5, 3] < 40 < 200 < picture[50, 94, 3]
    assert abs(int(picture[50, 30, 0]) - 200) <= 1  # the colour is not darkened by it
    laid = on_background(picture, (10, 20, 30))
    assert tuple(laid[0, 0]) == (10, 20, 30) and laid.shape == (100, 100, 3)
