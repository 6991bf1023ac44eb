from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from synthetic import posed_face

from sadr_cli import Reconstructor, read_image
from sadr_cli.render.hollows import hollows
from sadr_cli.render.sampling import sample
from sadr_cli.render.seen import seen_map
from sadr_cli.render.texture import bake_texture, vertex_colors

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
    weight = uv.from_map(seen_map(image, face, uv))
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
    seen = uv.from_map(seen_map(image, face, uv))
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


def test_a_gap_in_what_covers_the_face_does_not_colour_it(uv):
    face = posed_face(uv)
    image = portrait(uv, face)
    x, y = face.vertices[:, :2].T
    image[92:] = (0, 0, 255)
    visibility = np.where(y > 92, 0.05, face.visibility)
    visibility[np.hypot(x - 100, y - 125) < 4] = 0.9  # the attention is wrong there
    colors = vertex_colors(image, dataclasses.replace(face, visibility=visibility), uv)
    assert (colors[..., 0].astype(int) - colors[..., 2]).min() > 20  # no vertex is blue


@pytest.mark.parametrize("beside", [-7, 7])
def test_colours_decide_along_the_border_of_the_attention(uv, beside):
    """Its squares are as wide as a mouth: what covers the face may reach beyond, or not as far."""
    face = posed_face(uv, scale=120, center=(220.0, 190.0))
    image = portrait(uv, face, size=(400, 440))
    image[200:] = (0, 0, 255)
    y = face.vertices[:, 1]
    visibility = np.where(y > 200 + beside, 0.05, face.visibility)
    face = dataclasses.replace(face, visibility=visibility)
    colors = vertex_colors(image, face, uv).astype(int)
    assert np.abs(colors - SKIN)[y < 240].max() < 25
    weight = uv.from_map(seen_map(image, face, uv))
    inside = (np.abs(face.vertices[:, 0] - 220) < 60) & (y > 150)
    assert weight[inside & (y < 188)].min() > 0.9 and weight[inside & (y > 202)].max() < 0.1


def test_the_mouth_of_a_profile_reaches_the_middle(uv):
    """Neither side of the middle is seen, and yet lips are not cut off there."""
    face = posed_face(uv, yaw=88)
    image = portrait(uv, face)
    shape = uv.mean_shape
    lips = np.abs(shape[:, 1] + 0.4) < 0.08
    x, y = np.rint(face.vertices[lips & (shape[:, 0] > 0)][:, :2]).astype(int).T
    image[y, x] = (150, 40, 40)
    colors = vertex_colors(image, face, uv).astype(int)
    middle = np.abs(shape[:, 0]) < 0.1
    red = colors[:, 0] - colors[:, 1]
    assert uv.from_map(seen_map(image, face, uv))[middle & lips].mean() < 0.5
    assert red[middle & lips].mean() > red[middle & (shape[:, 1] < -0.7)].mean() + 25


def test_nostrils_are_dark_where_the_photo_does_not_show_their_inside(photos):
    reconstructor = Reconstructor()
    image = read_image(photos / "astronaut.jpg")
    face = reconstructor.reconstruct(image)[0]
    uv = reconstructor.uv
    inside = hollows(uv) > 3
    rows, columns = uv.kpt[[30, 33], 0], uv.kpt[[31, 35], 1]
    inside[: rows[0]] = inside[rows[1] :] = False
    inside[:, : columns[0]] = inside[:, columns[1] :] = False
    texture = bake_texture(image, face, uv, 256)
    around = cv2.dilate(inside.astype(np.uint8), np.ones((15, 15))).astype(bool) & ~inside
    assert inside.sum() > 10
    assert texture.pixels[inside].mean() < 0.75 * texture.pixels[around].mean()
    assert texture.real[inside].max() < 0.2 and texture.real[around].mean() > 0.6


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
