"""The records passed between modules: Frame -> Detection -> Crop -> Face.

Pixel coordinates everywhere: x to the right, y down, **the centre of the top-left pixel is
(0, 0)**; the picture covers [-0.5, width - 0.5] x [-0.5, height - 0.5]. z points towards the
viewer in the same scale; only its differences are meaningful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.expression import eye_lengths, measure_expression
from sadr_cli.pixels import from_edge
from sadr_cli.pose import (
    in_plane_angle,
    matrix_to_euler,
    matrix_to_quaternion,
    matrix_to_yxz,
    turn,
    without_pose,
)

FloatArray = NDArray[np.floating[Any]]

# Distance of P and G, as a share of the crop size, at which the confidence is 1/e.
AGREEMENT = 0.03
# Faces below it get a warning: 3 % of AFLW2000-3D (benchmarks/passes.py), and all tested crops
# without a face.
LOW_CONFIDENCE = 0.75
PROFILE_YAW = 60.0  # degrees beyond which the far side of a face is inferred


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Frame:
    """One picture: a photo, or one frame of a video.

    image: (H, W, 3) uint8 RGB, upright (EXIF orientation applied).
    source: the input as the user named it, for messages and manifests.
    name: stem for output files; unique in a run, never contains a path separator.
    path: the file, if any.
    index, time: frame number and time in seconds, for video frames.
    notes: for the user, about how it was read.
    """

    image: NDArray[np.uint8]
    source: str
    name: str
    path: Path | None = None
    index: int | None = None
    time: float | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        number = "" if self.index is None else f", frame {self.index}"
        return f"Frame({self.source!r}{number}, {self.width} x {self.height})"

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.image.shape[0])


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Detection:
    """One detected face of a frame.

    box: (4,) float x0, y0, x1, y1 in pixels of the frame.
    score: confidence in [0, 1].
    points: (5, 2) eyes, nose tip, mouth corners (left before right on an upright face), or None.
    detector: the name whose calibration turns this box into the network's crop;
        "landmarks" means that the box is the box of the 68 landmarks itself.
    angle: clockwise in-plane rotation of the face in degrees; None: determined by ``points``.
    """

    box: FloatArray
    score: float = 1.0
    points: FloatArray | None = None
    detector: str = "landmarks"
    angle: float | None = None

    def __repr__(self) -> str:
        x0, y0, x1, y1 = (round(float(v), 1) for v in self.box)
        return f"Detection({self.detector}, box {x0} {y0} {x1} {y1}, score {self.score:.2f})"

    @property
    def size(self) -> float:
        """Square root of the box's area, in pixels."""
        x0, y0, x1, y1 = (float(v) for v in self.box)
        return float(np.sqrt(max(x1 - x0, 0.0) * max(y1 - y0, 0.0)))


@dataclass(frozen=True)
class Crop:
    """A square of the frame: what the network sees.

    center_x, center_y: centre of the square, in pixels of the frame.
    size: side of the square, in pixels of the frame.
    angle: rotation of the square about its centre in degrees, clockwise in the picture like roll;
        0: its sides are parallel to those of the frame.
    """

    center_x: float
    center_y: float
    size: float
    angle: float = 0.0

    def place(self, points: FloatArray, resolution: int) -> NDArray[np.float64]:
        """Points ``(..., 2 or 3)`` of the frame -> pixels of the square in ``resolution``."""
        p = np.asarray(points, float).copy()
        step = self.size / resolution
        p[..., :2] = (p[..., :2] - (self.center_x, self.center_y)) @ turn(self.angle)
        p[..., :2] = from_edge((p[..., :2] + self.size / 2) / step)
        p[..., 2:] /= step
        return p


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Face:
    """One reconstructed face, in the frame of its photo.

    vertices: (V, 3) final face G in image pixels (y down, z towards the viewer).
    landmarks: (68, 3) landmarks of G, same frame, 300-W order.
    shape: (V, 3) pose-independent face S in the shape frame (y up, 1 unit = 66.67 mm).
    visibility: (V,) in [0, 1]: attention where the surface faces the viewer, else 0 (Eq 10).
    landmark_visibility: (68,) the same at the landmarks.
    landmark_confidence: (68,) in [0, 1]: agreement of P and G at the landmark, times
        (0.5 + 0.5 visibility): exp(-|P - G| / (AGREEMENT crop size)).
    attention: (A, A) attention mask over the crop, in [0, 1].
    scale, rotation, translation: pose of the photo in the y-up image frame,
        p = scale * rotation @ S + translation, then x = p.x, y = -p.y, z = p.z (Eq 2).
    pose_face: (V, 3) pose-dependent face P in image pixels, the network's direct regression.
    crop: the square it was computed from.
    detection: the detection it came from.
    confidence: one number in [0, 1] for the face, the agreement over all landmarks.
    contour: (68, 3) landmarks whose jaw follows the visible outline, if computed
        (``sadr_cli.contour_landmarks``); else None.
    picture: (n, n, 3) uint8 RGB, the pixels of ``crop`` as seen by the network, or None.
    viewer: makes the HTML of the face for notebooks, or None.
    """

    vertices: FloatArray
    landmarks: FloatArray
    shape: FloatArray
    visibility: FloatArray
    landmark_visibility: FloatArray
    landmark_confidence: FloatArray
    attention: FloatArray
    scale: float
    rotation: FloatArray
    translation: FloatArray
    pose_face: FloatArray
    crop: Crop
    detection: Detection | None = None
    confidence: float = 1.0
    warnings: tuple[str, ...] = field(default=())
    contour: FloatArray | None = None
    picture: NDArray[np.uint8] | None = None
    viewer: Callable[[Face], str] | None = None

    def _repr_html_(self) -> str | None:
        """The face as an interactive mesh for notebooks; None, which shows the text, if there is no
        viewer."""
        if self.viewer is None or not len(self.shape):
            return None
        return self.viewer(self)

    @property
    def shown_landmarks(self) -> FloatArray:
        """(68, 3) landmarks for pictures and 2-D formats: :attr:`contour` if there is one."""
        return self.landmarks if self.contour is None else self.contour

    def __repr__(self) -> str:
        yaw, pitch, roll = self.euler_yxz
        about = "".join(f", {text.split(':')[0]}" for text in self.warnings)
        return (
            f"Face({len(self.vertices)} vertices, yaw {yaw:.1f}, pitch {pitch:.1f}, "
            f"roll {roll:.1f}, confidence {self.confidence:.2f}{about})"
        )

    @property
    def euler(self) -> tuple[float, float, float]:
        """Yaw, pitch, roll in degrees, AFLW2000-3D convention; |yaw| > 90 beyond the profile.

        Near the profile pitch and roll are unreliable: use :attr:`euler_yxz` there.
        """
        yaw, pitch, roll = matrix_to_euler(self.rotation, beyond_profile=True)
        return float(yaw), float(pitch), float(roll)

    @property
    def expression(self) -> dict[str, float]:
        """Named measures from 0 to 1, free of the head's pose: ``jawOpen``, ``mouthWide``,
        ``mouthSmile``, ``eyeOpenLeft``, ``eyeOpenRight``, ``browRaiseLeft``, ``browRaiseRight``.

        Left and right are the person's own; the eyes are measured in :attr:`picture` where they are
        visible. docs/expression.md defines all measures.
        """
        place = self.scale, self.rotation, self.translation
        eyes = {}
        if self.picture is not None:
            marks = self.crop.place(self.landmarks, len(self.picture))
            eyes = eye_lengths(self.picture, marks, self.landmark_visibility)
        return measure_expression(without_pose(self.landmarks, *place), eyes)

    @property
    def euler_yxz(self) -> tuple[float, float, float]:
        """Yaw, pitch, roll in degrees in the order y-x-z, which is stable at profiles: yaw within
        +-180 about the picture's vertical axis, pitch within +-90; see ``matrix_to_yxz``."""
        yaw, pitch, roll = matrix_to_yxz(self.rotation)
        return float(yaw), float(pitch), float(roll)

    @property
    def turn(self) -> float:
        """Clockwise in-plane rotation of the face in degrees; see ``in_plane_angle``."""
        return float(in_plane_angle(self.rotation))

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """Unit quaternion (w, x, y, z) of :attr:`rotation`, w >= 0."""
        w, x, y, z = matrix_to_quaternion(self.rotation)
        return float(w), float(x), float(y), float(z)

    @property
    def box(self) -> FloatArray:
        """(4,) x0, y0, x1, y1: box of the 68 landmarks in pixels."""
        xy = self.landmarks[:, :2]
        return np.concatenate([xy.min(0), xy.max(0)])
