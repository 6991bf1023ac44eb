"""From a detector's box to the square the network was trained on.

The network's crop is 1.5 times the box of the 68 landmarks (see :mod:`sadr_cli.crop`); every
detector draws another box. A calibration says where the landmark box lies relative to the
detector's: centre and size, in units of the detector's box size sqrt(w h).

CenterFace, fitted on 400 AFLW2000-3D photos (not part of any test set of this project), each
also turned in the plane by angles within +-90 degrees, and tried on 165 HELEN photos that took no
part in the fit. Standard deviation of the error of the landmark box's centre (in its own size) and
size. The columns "640" are those of the fit (ten-fold by photo for AFLW2000-3D), with the photo
first looked at with 640 pixels per side; "320" has the same calibration with today's first look:

=====================  ========  ========  ========  ========  ========  =======  =======  =======
..                     upright   upright   upright   turned    turned    turned   HELEN    HELEN
..                     shift     5 points  5 points  shift     5 points  points   points   points
first look             640       640       320       640       640       320      640      320
=====================  ========  ========  ========  ========  ========  =======  =======  =======
sideways               .053      .041      .038      .118      .075      .060     .020     .023
up and down            .048      .039      .037      .106      .064      .072     .029     .025
size                   8.1 %     7.6 %     6.3 %     13.2 %    12.6 %    10.2 %   4.8 %    4.2 %
centre off by > 0.1    11.5 %    6.3 %     4.5 %     60.8 %    24.1 %    22.4 %   0.6 %    0.0 %
=====================  ========  ========  ========  ========  ========  =======  =======  =======
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sadr_cli.crop import LANDMARK_BOX_MARGIN, UPRIGHT, turn
from sadr_cli.errors import InputError, UsageError
from sadr_cli.faces import Crop, Detection, FloatArray
from sadr_cli.pose import wrapped


@dataclass(frozen=True)
class BoxCalibration:
    """The landmark box from a detector's box alone.

    down: how much lower its centre lies, in detector box sizes sqrt(w h).
    scale: its size (w + h) / 2, in detector box sizes.
    """

    down: float
    scale: float


CALIBRATIONS = {
    "landmarks": BoxCalibration(0.0, 1.0),
    "centerface": BoxCalibration(0.158, 0.899),
    # 16 AFLW2000-3D photos: 1.24 times the landmark box, 0.16 of that higher.
    "yunet": BoxCalibration(0.129, 0.806),
    # Learned from the same annotation as CenterFace (WIDER FACE), not measured by themselves.
    "sfd": BoxCalibration(0.158, 0.899),
    "retinaface": BoxCalibration(0.158, 0.899),
    # Its box runs from the brows to the chin, as the landmarks' does; not measured.
    "blazeface": BoxCalibration(0.0, 1.0),
}
WHOLE_CROP = "crop"  # the box is the network's crop itself
_LEAST_LENGTH = 0.3  # of the box's size: shorter points say nothing of a face's angle

# Least absolute deviations on products of the variables of _point_variables; the terms were
# chosen by cross-validation, sideways only odd ones (they change sign in the mirror), the
# others even.
_CENTERFACE_RIGHT = {"vx": 0.183, "nx*kx": -1.382, "dy*a": -0.489, "vx*ey": 0.388}
_CENTERFACE_DOWN = {
    "1": 0.066,
    "a": -0.218,
    "ny*a": -1.774,
    "vy*dx": 0.631,
    "kx*a": 0.536,
    "ny": -0.784,
    "ey*ey": -1.304,
}
_CENTERFACE_LOG_SCALE = {"1": -0.146, "ey*ey": 2.327, "vx*nx": -1.676}
# The range seen in the measurement: wrong points cannot move the crop further.
_MAX_SHIFT = 0.35
_MAX_LOG_SCALE = 0.5


def crop_for_detection(detection: Detection) -> Crop:
    """The network's crop for ``detection``, by the calibration of its detector.

    The crop is turned with a face that is more than 30 degrees from upright, see
    :func:`face_angle`. Raises InputError when the box has no extent, UsageError for an unknown
    detector.
    """
    angle = face_angle(detection) or 0.0
    if abs(angle) <= UPRIGHT:
        return _upright_crop(detection)
    quarter = 90.0 * round(angle / 90)
    crop = _upright_crop(turned_detection(detection, -quarter))
    x, y = turn(quarter) @ (crop.center_x, crop.center_y)
    return Crop(float(x), float(y), crop.size, angle)


def face_angle(detection: Detection) -> float | None:
    """How far the face is turned in the picture, degrees clockwise in (-180, 180].

    What the detection says, else what its five points do; None where neither is known or the
    points are no face's: see :func:`uprightness`.
    """
    if detection.angle is not None or detection.points is None:
        return detection.angle
    down = _downward(detection)
    if not abs(down) >= _LEAST_LENGTH:
        return None
    return float(np.rad2deg(np.angle(down)))


def uprightness(detection: Detection) -> float:
    """Length in [0, 1] that the five points have along an upright face, in sizes of the box.

    About 0.75 of a frontal face, 0.55 of a profile, less where the face is turned or where the
    points contradict each other; negative upside down, NaN without points.
    """
    return float(_downward(detection).real) if detection.points is not None else float("nan")


def turned_detection(detection: Detection, quarter: float) -> Detection:
    """``detection`` in the picture turned by ``quarter``, a multiple of 90 degrees, about (0, 0);
    its points keep their order, that of the face."""
    matrix = turn(quarter)
    corners = np.asarray(detection.box, float).reshape(2, 2) @ matrix.T
    box = np.concatenate([corners.min(0), corners.max(0)])
    points = detection.points if detection.points is None else detection.points @ matrix.T
    angle = None if detection.angle is None else wrapped(detection.angle + quarter)
    return replace(detection, box=box, points=points, angle=angle)


def _downward(detection: Detection) -> complex:
    """From the eyes to the mouth as down + right i, and from left to right as right - down i, their
    mean, in sizes of the box: the best similarity of an upright face to the five points."""
    p = np.asarray(detection.points, float) / max(detection.size, 1e-9)
    down = (p[3] + p[4] - p[0] - p[1]) / 2
    right = (p[1] - p[0] + p[4] - p[3]) / 2
    return complex((down[1] + right[0]) / 1.5, (right[1] - down[0]) / 1.5)


def _upright_crop(detection: Detection) -> Crop:
    """The crop for a face that is upright in the picture."""
    x0, y0, x1, y1 = (float(v) for v in detection.box)
    size = detection.size
    if not np.isfinite([x0, y0, x1, y1]).all() or size <= 0:
        raise InputError(f"a face box needs x0 < x1 and y0 < y1, not {[x0, y0, x1, y1]}")
    center = np.array([x0 + x1, y0 + y1]) / 2
    if detection.detector == WHOLE_CROP:
        return Crop(float(center[0]), float(center[1]), max(x1 - x0, y1 - y0))
    if detection.detector == "landmarks":
        side = (x1 - x0 + y1 - y0) / 2
        return Crop(float(center[0]), float(center[1]), LANDMARK_BOX_MARGIN * side)
    if detection.detector == "centerface" and detection.points is not None:
        right, down, scale = _from_points(detection.box, detection.points, size)
    else:
        calibration = CALIBRATIONS.get(detection.detector)
        if calibration is None:
            known = ", ".join([*CALIBRATIONS, WHOLE_CROP])
            raise UsageError(f"no calibration for detector {detection.detector!r}, only {known}")
        right, down, scale = 0.0, calibration.down, calibration.scale
    x, y = center + np.array([right, down]) * size
    return Crop(float(x), float(y), LANDMARK_BOX_MARGIN * scale * size)


def _from_points(box: FloatArray, points: FloatArray, size: float) -> tuple[float, float, float]:
    """Shift to the right and down, and scale of the landmark box, in box sizes."""
    values = _point_variables(box, points, size)
    right, down, log_scale = (
        sum(weight * _product(term, values) for term, weight in terms.items())
        for terms in (_CENTERFACE_RIGHT, _CENTERFACE_DOWN, _CENTERFACE_LOG_SCALE)
    )
    right, down = np.clip([right, down], -_MAX_SHIFT, _MAX_SHIFT)
    scale = np.exp(np.clip(log_scale, -_MAX_LOG_SCALE, _MAX_LOG_SCALE))
    return float(right), float(down), float(scale)


def _product(term: str, values: dict[str, float]) -> float:
    return float(np.prod([values[name] for name in term.split("*")]))


def _point_variables(box: FloatArray, points: FloatArray, size: float) -> dict[str, float]:
    """e: middle of the eyes from the box's centre; v: eyes to mouth; d: left to right eye;
    k: left to right mouth corner; n: nose tip from the middle of eyes and mouth (turns with
    yaw and pitch); a: log of the box's aspect. All in box sizes."""
    x0, y0, x1, y1 = (float(v) for v in box)
    p = (np.asarray(points, float) - [(x0 + x1) / 2, (y0 + y1) / 2]) / size
    eyes, mouth = (p[0] + p[1]) / 2, (p[3] + p[4]) / 2
    v, d, k, n = mouth - eyes, p[1] - p[0], p[4] - p[3], p[2] - (eyes + mouth) / 2
    vectors = {"e": eyes, "v": v, "d": d, "k": k, "n": n}
    values = {
        f"{name}{axis}": float(vec[i])
        for name, vec in vectors.items()
        for i, axis in enumerate("xy")
    }
    return {"1": 1.0, "a": float(np.log((x1 - x0) / (y1 - y0))), **values}
