"""Animated faces, and their glTF form: morph targets, a node for the head, a camera.

glTF 2.0, sections 3.7.2.2 (morph targets), 3.10 (cameras) and 3.11 (animations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sadr_cli.pixels import from_edge

FOCAL = 1.2  # focal length in multiples of the frame's longer side: a field of view of 45 degrees
METRES_PER_MM = 1e-3
_VERTICES = 34962  # ARRAY_BUFFER of glTF


class Accessors(Protocol):
    """The binary part of a glTF file."""

    def accessor(
        self, values: NDArray[Any], kind: str, target: int | None = None, bounds: bool = False
    ) -> int:
        """Add ``values``; returns the index of their accessor."""
        ...


@dataclass(frozen=True, eq=False)
class Path:
    """Motion of a head in front of a camera at the origin that looks along -z, y up.

    rotations: (N, 4) quaternions w, x, y, z of the shape frame; places: (N, 3) position of its
    origin in millimetres. size: (height, width) of the frames in pixels.
    """

    rotations: NDArray[np.float64]
    places: NDArray[np.float64]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Motion:
    """A track: at ``times[k]`` the pose-free face is ``base + sum_j weights[k, j] targets[j]``.

    times: (N,) seconds in the video, N at least 2, increasing. base: (V, 3), targets: (K, V, 3)
    millimetres; weights: (N, K) in [0, 1]. path: motion of the head, None for a fixed head.
    still: index of the frame for viewers without animation; to_photo: (4, 4) takes ``base`` to
    photo pixels in that frame. error: root mean square over frames and vertices of the shape's
    deviation, in millimetres, due to the limited number of targets.
    """

    times: NDArray[np.float64]
    base: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    path: Path | None
    still: int
    to_photo: NDArray[np.float64]
    error: float

    def describe(self) -> dict[str, Any]:
        """For ``asset.extras``."""
        about: dict[str, Any] = {
            "frames": len(self.times),
            "times": "seconds of the video",
            "targets": len(self.targets),
            "target_error_mm": round(self.error, 4),
        }
        if self.path is not None:
            about["camera"] = f"assumed: focal length {FOCAL} times the frame's longer side"
        return about


def place_of(
    center: NDArray[Any], offset: NDArray[Any], px_per_mm: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """(3,) position of a head in the camera's frame, in millimetres.

    Weak perspective has one depth for the whole face: that of its centre, given by the scale.
    center: (x, y, z) of the face's centre in the photo, pixels, y up from the top-left pixel.
    offset: (3,) millimetres from the shape frame's origin to that centre, in the head's rotation.
    size: (height, width) of the photo.
    """
    height, width = size
    middle = from_edge(np.array([width, height]) / 2) * (1, -1)
    across = (np.asarray(center)[:2] - middle) / px_per_mm
    depth = FOCAL * max(size) / px_per_mm
    return np.append(across, -depth) - offset


def animate(document: dict[str, Any], chunks: Accessors, motion: Motion) -> None:
    """Add ``motion`` to a glTF ``document`` whose node 0 has mesh 0, made of ``motion.base``."""
    mesh = document["meshes"][0]
    head: dict[str, Any] = document["nodes"][0]
    chosen = increasing(motion.times)
    times = motion.times.astype(np.float32)[chosen]
    clock = chunks.accessor(times.reshape(-1, 1), "SCALAR", bounds=True)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def channel(path: str, values: NDArray[Any], kind: str) -> None:
        output = chunks.accessor(values.astype(np.float32), kind)
        samplers.append({"input": clock, "output": output, "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": 0, "path": path}})

    if len(motion.targets):
        moved = motion.targets * np.float32(METRES_PER_MM)
        mesh["primitives"][0]["targets"] = [
            {"POSITION": chunks.accessor(target, "VEC3", _VERTICES, bounds=True)}
            for target in moved
        ]
        mesh["weights"] = motion.weights[motion.still].tolist()
        mesh["extras"] = {"targetNames": [f"shape {k + 1}" for k in range(len(moved))]}
        channel("weights", motion.weights[chosen].reshape(-1, 1), "SCALAR")
    if motion.path is not None:
        rotations = to_xyzw(motion.path.rotations)
        places = motion.path.places * METRES_PER_MM
        head["rotation"] = rotations[motion.still].tolist()
        head["translation"] = places[motion.still].tolist()
        channel("rotation", rotations[chosen], "VEC4")
        channel("translation", places[chosen], "VEC3")
        _add_camera(document, motion.path.size)
    if channels:
        document["animations"] = [{"name": "track", "samplers": samplers, "channels": channels}]


def _add_camera(document: dict[str, Any], size: tuple[int, int]) -> None:
    height, width = size
    lens = {
        "yfov": 2 * math.atan(0.5 * height / (FOCAL * max(size))),
        "aspectRatio": width / height,
        "znear": 0.01,
    }
    document["cameras"] = [{"name": "camera", "type": "perspective", "perspective": lens}]
    document["nodes"].append({"name": "camera", "camera": 0})
    document["scenes"][0]["nodes"].append(len(document["nodes"]) - 1)


def increasing(times: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the frames whose times are increasing even in single precision."""
    single = times.astype(np.float32)
    return np.flatnonzero(np.diff(single, prepend=-np.inf) > 0)


def to_xyzw(rotations: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 4) in glTF's order, with signs chosen for the shortest path from frame to frame."""
    out = np.asarray(rotations, float)[:, [1, 2, 3, 0]]
    turns = np.cumprod(np.where((out[1:] * out[:-1]).sum(1) < 0, -1.0, 1.0))
    out[1:] *= turns[:, None]
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)
