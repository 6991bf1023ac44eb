from __future__ import annotations

import numpy as np
import pytest

from sadr_cli.crop import LANDMARK_BOX_MARGIN, crop_from_landmarks
from sadr_cli.detection import crop_for_detection
from sadr_cli.detection.calibration import CALIBRATIONS
from sadr_cli.errors import InputError, UsageError
from sadr_cli.faces import Detection

BOX = np.array([100.0, 50.0, 180.0, 160.0])
POINTS = np.array([[120, 95], [160, 97], [141, 118], [123, 135], [156, 136]], float)


def test_box_of_the_landmarks_gives_the_crop_of_the_landmarks() -> None:
    landmarks = np.random.default_rng(0).uniform(0, 99, (68, 3))
    box = np.concatenate([landmarks[:, :2].min(0), landmarks[:, :2].max(0)])
    assert crop_for_detection(Detection(box)) == crop_from_landmarks(landmarks)


def test_crop_is_taken_as_it_is() -> None:
    crop = crop_for_detection(Detection(BOX, detector="crop"))
    assert (crop.center_x, crop.center_y, crop.size) == (140, 105, 110)


@pytest.mark.parametrize("detector", CALIBRATIONS)
@pytest.mark.parametrize("points", [None, POINTS])
def test_calibration_follows_shift_and_scale(detector: str, points) -> None:
    base = crop_for_detection(Detection(BOX, 1.0, points, detector))
    shift = np.array([37.5, -81.25])
    moved = Detection(
        np.concatenate([BOX[:2] * 3 + shift, BOX[2:] * 3 + shift]),
        1.0,
        None if points is None else points * 3 + shift,
        detector,
    )
    crop = crop_for_detection(moved)
    assert crop.size == pytest.approx(3 * base.size)
    assert crop.center_x == pytest.approx(3 * base.center_x + shift[0])
    assert crop.center_y == pytest.approx(3 * base.center_y + shift[1])


def test_mirrored_photo_gives_the_mirrored_crop() -> None:
    base = crop_for_detection(Detection(BOX, 1.0, POINTS, "centerface"))
    box = np.array([-BOX[2], BOX[1], -BOX[0], BOX[3]])
    points = (POINTS * (-1, 1))[[1, 0, 2, 4, 3]]
    crop = crop_for_detection(Detection(box, 1.0, points, "centerface"))
    assert crop.center_x == pytest.approx(-base.center_x)
    assert (crop.center_y, crop.size) == pytest.approx((base.center_y, base.size))


def test_stray_points_cannot_throw_the_crop_away() -> None:
    crop = crop_for_detection(Detection(BOX, 1.0, POINTS * 50, "centerface"))
    size = np.sqrt(80 * 110)
    assert abs(crop.center_x - 140) < 0.4 * size
    assert abs(crop.center_y - 105) < 0.4 * size
    assert 0.5 * size < crop.size < 3 * size


def test_faces_are_lower_than_the_boxes_of_wider_face_detectors() -> None:
    for detector in ("centerface", "sfd", "retinaface", "yunet"):
        crop = crop_for_detection(Detection(BOX, 1.0, None, detector))
        assert crop.center_y > 105 + 5
        assert crop.size < LANDMARK_BOX_MARGIN * np.sqrt(80 * 110)


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 9, 1, 1], [0, 0, np.nan, 1], [0, 0, np.inf, 1]])
def test_box_without_extent(box) -> None:
    with pytest.raises(InputError, match="face box"):
        crop_for_detection(Detection(np.array(box, float), detector="centerface"))


def test_unknown_detector() -> None:
    with pytest.raises(UsageError, match="no calibration for detector 'magic'"):
        crop_for_detection(Detection(BOX, detector="magic"))


@pytest.mark.slow
def test_measured_spread_holds(shared_data) -> None:
    """On every tenth of the photos the calibration was measured on."""
    import cv2
    from scipy.io import loadmat

    from sadr_cli.detection import create_detector

    detector = create_detector("centerface")
    errors = []
    for path in sorted((shared_data / "eval" / "aflw2000_dev").glob("*.jpg"))[::10]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        truth = crop_from_landmarks(loadmat(path.with_suffix(".mat"))["pt3d_68"].T)
        crops = [crop_for_detection(d) for d in detector.detect(image)]
        assert crops, path.name
        side = truth.size / LANDMARK_BOX_MARGIN
        off = [
            (
                np.hypot(c.center_x - truth.center_x, c.center_y - truth.center_y) / side,
                abs(np.log(c.size / truth.size)),
            )
            for c in crops
        ]
        errors.append(min(off))
    center, size = np.median(errors, axis=0)
    assert center < 0.06
    assert size < 0.07
