from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadr_cli.crop import (
    crop_corners,
    crop_from_landmarks,
    crop_matrix,
    crop_to_image,
    cut_window,
    extract_crop,
    image_to_crop,
    shrink,
)
from sadr_cli.errors import InputError
from sadr_cli.faces import Crop


def blobs(points: np.ndarray, height: int, width: int, sigma: float) -> np.ndarray:
    """A photo with one bright Gaussian spot at each point."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width))
    for px, py in points:
        image += 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return np.dstack([image.clip(0, 255).astype(np.uint8)] * 3)


def centroid(image: np.ndarray) -> np.ndarray:
    weight = image[:, :, 0].astype(float)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@given(
    st.floats(-500, 500),
    st.floats(-500, 500),
    st.floats(5, 3000),
    st.sampled_from([64, 128, 256]),
    st.one_of(st.just(0.0), st.floats(-180, 180)),
)
def test_way_back_is_the_inverse(
    x: float, y: float, size: float, resolution: int, angle: float
) -> None:
    crop = Crop(x, y, size, angle)
    points = np.array([[0, 0, 0], [resolution - 1, 3, -7], [12.25, 100, 4]])
    there = crop_to_image(points, crop, resolution)
    assert np.allclose(image_to_crop(there, crop, resolution), points, atol=1e-6)


@pytest.mark.parametrize("size", [60.0, 128.0, 300.0, 777.0])
@pytest.mark.parametrize("resolution", [128, 256])
@pytest.mark.parametrize("angle", [0.0, 37.0, -90.0, 180.0])
def test_a_spot_lands_where_the_way_back_says(size: float, resolution: int, angle: float) -> None:
    """Pixels of the crop and coordinates agree to a small part of a pixel, at every scale."""
    spot = np.array([[410.3, 371.8]])
    photo = blobs(spot, 800, 900, sigma=size / 30)
    crop = Crop(400.6, 380.1, size, angle)
    cut = extract_crop(photo, crop, resolution)
    assert cut.shape == (resolution, resolution, 3)
    found = crop_to_image(centroid(cut)[None], crop, resolution)
    assert np.abs(found - spot).max() < 0.06 * size / resolution + 0.02


def test_beyond_the_photo_is_black() -> None:
    photo = np.full((50, 60, 3), 200, np.uint8)
    cut = extract_crop(photo, Crop(0, 0, 40), 128)
    assert (cut[:60, :60] == 0).all()
    assert (cut[70:, 70:] == 200).all()
    far = extract_crop(photo, Crop(-900, 4000, 90), 64)
    assert not far.any()


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    cut = extract_crop(stripes, Crop(511.5, 511.5, 1000), 128)[5:-5, 5:-5]
    assert cut.std() < 5
    assert abs(float(cut.mean()) - 127.5) < 3


def test_crop_is_the_papers() -> None:
    landmarks = np.array([[10.0, 20, 3], [110, 20, 9], [60, 80, -4]])
    crop = crop_from_landmarks(landmarks)
    assert (crop.center_x, crop.center_y) == (60, 50)
    assert crop.size == pytest.approx(1.5 * (100 + 60) / 2)


@pytest.mark.parametrize("bad", [np.zeros((68, 2)), np.full((68, 2), np.nan)])
def test_landmarks_without_extent_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="68 points"):
        crop_from_landmarks(bad)


def test_window_keeps_pixels() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert (cut_window(image, 2, 1, 2) == image[1:3, 2:4]).all()
    outside = cut_window(image, -1, -1, 3)
    assert (outside[1:, 1:] == image[:2, :2]).all()
    assert not outside[0].any()
    assert not outside[:, 0].any()


@pytest.mark.parametrize("step", [1.2, 1.6, 2.0, 4.7])
def test_shrunk_crops_are_whole_to_their_edges(step: float) -> None:
    """A ramp stays a ramp up to the outermost pixels, whatever the scale."""
    photo = np.zeros((900, 900, 3), np.float32)
    photo[..., 0], photo[..., 1] = np.arange(900)[None], np.arange(900)[:, None]
    crop = Crop(430.3, 460.8, 128 * step)
    cut = extract_crop(photo, crop, 128)
    columns, rows = np.meshgrid(np.arange(128), np.arange(128))
    expected = crop_to_image(np.stack([columns, rows], -1), crop, 128)
    assert np.abs(cut[..., :2] - expected).max() < 0.1 * step


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("size", [70.0, 128.0, 400.0])
def test_a_quarter_turned_photo_gives_the_same_pixels(turns: int, size: float) -> None:
    """The crop turned with its photo, in whatever direction: what the network sees is the same."""
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (640, 480))
    turned = np.ascontiguousarray(np.rot90(photo, -turns))  # clockwise
    crop = Crop(300.0, 220.0, size)
    x, y = {1: (479 - 220.0, 300.0), 2: (639 - 300.0, 479 - 220.0), 3: (220.0, 639 - 300.0)}[turns]
    same = extract_crop(turned, Crop(x, y, size, 90.0 * turns), 128).astype(int)
    apart = np.abs(same - extract_crop(photo, crop, 128))
    assert (
        np.percentile(apart, 99) <= 12 and apart.mean() < 1.5
    )  # shrinking begins at whole pixels of the photo
    points = np.array([[0.0, 0, 5], [127, 20, -3]])
    there = crop_to_image(points, Crop(x, y, size, 90.0 * turns), 128)
    before = crop_to_image(points, crop, 128)
    back = {
        1: np.stack([there[:, 1], 479 - there[:, 0]], 1),
        2: np.stack([639 - there[:, 0], 479 - there[:, 1]], 1),
        3: np.stack([639 - there[:, 1], there[:, 0]], 1),
    }[turns]
    assert np.allclose(back, before[:, :2], atol=1e-9)
    assert np.allclose(there[:, 2], before[:, 2])


@pytest.mark.parametrize("angle", [0.0, 25.0, 135.0])
def test_matrix_corners_and_landmarks_agree_about_a_turned_crop(angle: float) -> None:
    crop = Crop(40.0, 70.0, 64.0, angle)
    pixels = np.array([[-0.5, -0.5], [63.5, -0.5], [63.5, 63.5], [-0.5, 63.5]])
    corners = crop_corners(crop)
    assert np.allclose(crop_to_image(pixels, crop, 64), corners)
    assert np.allclose(cv2.transform(pixels[None], crop_matrix(crop, 64))[0], corners)
    again = crop_from_landmarks(corners, margin=1.0, angle=angle)
    assert np.allclose(
        (again.center_x, again.center_y, again.size, again.angle), (40, 70, 64, angle)
    )


def test_integer_points_are_not_cut_off() -> None:
    crop = Crop(10.25, 20.75, 77.0)
    points = np.array([[3, 5, 7], [100, 200, -9]])
    there = image_to_crop(points, crop, 128)
    assert np.allclose(there, image_to_crop(points.astype(float), crop, 128))
    assert np.allclose(crop_to_image(points, crop, 128)[..., 2], points[..., 2] * 77 / 128)
    assert np.allclose(crop_to_image(there, crop, 128), points)


@pytest.mark.parametrize(("left", "top"), [(6, 0), (0, 4), (-3, 0), (0, -3), (99, -99)])
def test_windows_beside_the_photo_are_black(left: int, top: int) -> None:
    image = np.full((4, 6, 3), 7, np.uint8)
    window = cut_window(image, left, top, 3)
    assert window.shape == (3, 3, 3) and window.dtype == np.uint8
    assert not window.any()


def test_tiny_faces_have_crops_too() -> None:
    landmarks = np.array([[0.0, 0.0], [0.2, 0.3]])
    assert crop_from_landmarks(landmarks).size == pytest.approx(1.5 * 0.25)


def test_twice_the_size_is_averaged_as_well() -> None:
    """Stripes a pixel wide, every second of which falls on a sample."""
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = Crop(39.5, 39.5, 40)
    for center in (39.0, 39.5, 40.0):
        out = extract_crop(stripes, Crop(center, center, crop.size), 20)
        assert np.abs(out.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("shape", [(1200, 1600), (1201, 1600), (1500, 1100), (90, 120)])
@pytest.mark.parametrize("size", [(128, 96), (33, 40), (100, 75)])
def test_large_photos_shrink_to_the_mean_of_their_pixels(shape, size) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    photo = cv2.normalize(cv2.GaussianBlur(photo, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX)
    mean = cv2.resize(photo.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    apart = shrink(photo, size) - mean
    assert np.sqrt((apart**2).mean()) < 1 and np.abs(apart).max() < 4


def test_a_crop_of_a_large_photo_lies_where_that_of_a_small_one_does() -> None:
    """To a tenth of a pixel, whether its window could be halved or not."""
    places = np.array([[1200.0, 900.0], [1900.0, 1500.0]])
    photo = blobs(places, 2400, 3200, 60)
    for size in (1500.0, 1501.3, 2000.0):
        crop = Crop(1500, 1200, size)
        cut = extract_crop(photo, crop, 128)
        for place in places:
            x, y = image_to_crop(place[None], crop, 128)[0]
            near = cut[int(y) - 12 : int(y) + 14, int(x) - 12 : int(x) + 14]
            centre = centroid(near) + (int(x) - 12, int(y) - 12)
            np.testing.assert_allclose(centre, (x, y), atol=0.1)
