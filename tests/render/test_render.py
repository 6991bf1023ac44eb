from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic import posed_face

from sadr_cli.render.overlay import LAYERS, draw_landmarks, render_overlay
from sadr_cli.render.rasterize import rasterize


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(60, 120, (200, 220, 3), dtype=np.uint8)


def changed(a, b):
    return np.abs(a.astype(int) - b).max(-1) > 2


def test_mesh_covers_the_face_and_nothing_else(uv, photo):
    face = posed_face(uv, yaw=30, roll=10)
    picture = render_overlay(photo, [face], uv, layers=["mesh"])
    assert picture.shape == photo.shape and picture.dtype == np.uint8
    index = rasterize(face.vertices, uv.triangles[:, ::-1], 200, 220, cull_backfaces=True)[0]
    touched = changed(picture, photo)
    from cv2 import dilate, erode

    inside = erode((index >= 0).astype(np.uint8), np.ones((11, 11))) > 0
    outside = dilate((index >= 0).astype(np.uint8), np.ones((5, 5))) == 0
    assert touched[inside].mean() > 0.95 and not touched[outside].any()


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_draws_by_itself_and_leaves_the_photo_alone(uv, photo, layer):
    before = photo.copy()
    picture = render_overlay(photo, [posed_face(uv, yaw=30)], uv, layers=[layer], labels=["0"])
    assert changed(picture, photo).any()
    np.testing.assert_array_equal(photo, before)


def test_silhouette_is_antialiased(uv):
    black = np.zeros((200, 220, 3), np.uint8)
    edge = posed_face(uv, yaw=60)
    picture = render_overlay(black, [edge], uv, layers=["mesh"]).max(-1)
    values = np.unique(picture[picture > 0])
    assert len(values) > 60  # levels between nothing and full, not a stair


def test_hidden_landmarks_are_hollow():
    canvas = np.zeros((60, 120, 3), np.uint8)
    points = np.zeros((68, 3)) - 1000
    points[0, :2], points[1, :2] = (30, 30), (90, 30)
    visible = np.ones(68, bool)
    visible[1] = False
    draw_landmarks(canvas, points, visible, unit=500)
    assert canvas[30, 30].max() > 200  # solid
    assert canvas[30, 90].max() == 0 and canvas[20:40, 80:100].max() > 200  # a ring


def test_large_photos_are_shrunk_and_positions_follow(uv):
    face = posed_face(uv, scale=900, center=(2000, 1500))
    photo = np.zeros((3000, 4000, 3), np.uint8)
    picture = render_overlay(photo, [face], uv, layers=["mesh"], max_side=1000)
    assert picture.shape == (750, 1000, 3)
    y, x = np.nonzero(picture.max(-1) > 40)
    low, high = face.vertices[:, :2].min(0) / 4, face.vertices[:, :2].max(0) / 4
    np.testing.assert_allclose([x.min(), y.min()], low, atol=12)
    np.testing.assert_allclose([x.max(), y.max()], high, atol=12)
    assert render_overlay(photo[:10], [], uv, max_side=None).shape == (10, 4000, 3)


def test_faces_beyond_the_edge_and_broken_numbers_do_not_crash(uv, photo):
    faces = [posed_face(uv, center=c) for c in ((0, 0), (219, 100), (-500, 90), (100, 1e6))]
    faces.append(dataclasses.replace(faces[0], vertices=faces[0].vertices * np.nan))
    faces.append(dataclasses.replace(faces[0], landmarks=faces[0].landmarks * np.nan))
    faces.append(posed_face(uv, scale=0.01))
    assert render_overlay(photo, faces, uv).shape == photo.shape
