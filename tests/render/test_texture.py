from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic import posed_face

from sadr_cli.render.texture import sample, seen_weight, vertex_colors

SKIN = np.array([200, 150, 120])


def portrait(uv, face, background=(0, 255, 0), size=(200, 220)):
    """A photo that shows ``face`` in one skin colour before a loud background."""
    from sadr_cli.render.rasterize import rasterize

    index, _, _ = rasterize(face.vertices, uv.triangles[:, ::-1], *size)
    image = np.empty((*size, 3), np.uint8)
    image[:] = background
    image[index >= 0] = SKIN
    return image


@pytest.mark.parametrize("yaw", [0, -35, 70])
def test_background_never_gets_on_the_face(uv, yaw):
    face = posed_face(uv, yaw=yaw)
    colors = vertex_colors(portrait(uv, face), face, uv)
    assert colors.shape == (uv.vertex_count, 3) and colors.dtype == np.uint8
    assert np.abs(colors.astype(int) - SKIN).max() < 40
    assert np.abs(colors.astype(int) - SKIN).mean() < 2


def test_what_is_seen_keeps_the_photos_colour(uv):
    face = posed_face(uv, yaw=20)
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (20, 22, 3)), 10, 0), 10, 1).astype(np.uint8)
    weight = seen_weight(face, uv, *image.shape[:2])
    colors = vertex_colors(image, face, uv)
    expected = sample(image, face.vertices)
    deep = uv.from_map(_eroded(uv.to_map(weight) > 0.99, 9))
    assert deep.mean() > 0.2
    np.testing.assert_allclose(colors[deep], expected[deep], atol=3)


def test_hidden_side_takes_the_mirrored_pattern(uv):
    face = posed_face(uv, yaw=60)  # turned to the image's left: its right side is seen
    image = portrait(uv, face)
    vertices = face.vertices
    shape = uv.mean_shape
    mark = (np.abs(shape[:, 0] - 0.55) < 0.12) & (np.abs(shape[:, 1] + 0.3) < 0.12)
    seen = seen_weight(face, uv, *image.shape[:2])
    assert seen[mark].mean() > 0.9
    x, y = np.rint(vertices[mark][:, :2]).astype(int).T
    image[y, x] = (90, 60, 50)
    colors = vertex_colors(image, face, uv).astype(int)
    mirrored = (np.abs(shape[:, 0] + 0.55) < 0.06) & (np.abs(shape[:, 1] + 0.3) < 0.06)
    assert seen[mirrored].mean() < 0.1
    assert colors[mirrored].mean() < SKIN.mean() - 15


def test_occluders_are_not_painted_on(uv):
    face = posed_face(uv)
    image = portrait(uv, face)
    covered = (face.vertices[:, 0] > 105) & (face.vertices[:, 1] > 90)
    visibility = np.where(covered, 0.05, face.visibility)
    image[92:, 107:] = (0, 0, 255)  # a blue hand over the lower right quarter
    face = dataclasses.replace(face, visibility=visibility)
    colors = vertex_colors(image, face, uv).astype(int)
    inside = (face.vertices[:, 0] > 112) & (face.vertices[:, 1] > 97)
    assert np.abs(colors[inside] - SKIN).mean() < 15


def test_faces_partly_and_wholly_outside_the_photo(uv):
    for center in ((0.0, 90.0), (219.0, 199.0), (-900.0, 90.0), (100.0, 4000.0)):
        face = posed_face(uv, center=center)
        colors = vertex_colors(np.full((200, 220, 3), 90, np.uint8), face, uv)
        assert np.isfinite(colors).all() and np.abs(colors.astype(int) - 90).max() < 60


def test_sampling_uses_pixel_centres_and_does_not_alias(uv):
    y, x = np.mgrid[0:40, 0:50]
    image = np.stack([x * 4, y * 4, 0 * x], -1).astype(np.uint8)
    points = np.array([[3.0, 7.0, 0], [10.5, 20.25, 0], [-5, -5, 0], [80, 80, 0]])
    np.testing.assert_allclose(
        sample(image, points), [[12, 28, 0], [42, 81, 0], [0, 0, 0], [196, 156, 0]], atol=0.6
    )
    stripes = np.zeros((3000, 3000, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the mesh: must average to grey
    face = posed_face(uv, scale=1000, center=(1500, 1500))
    assert np.abs(sample(stripes, face.vertices) - 127.5).mean() < 10


def _eroded(mask, size):
    import cv2

    return cv2.erode(mask.astype(np.uint8), np.ones((size, size), np.uint8)).astype(bool)
