"""The mesh that every format writes, and the frames it can be written in.

==========  ===========  ==================================================================
frame       units        meaning (all: y up, z towards the viewer, right-handed)
==========  ===========  ==================================================================
image       pixels       the final face G over its photo, x right from the photo's left
                         edge, ``y = height - 1 - y of the photo``
metric      millimetres  the same face rotated as in the photo, moved to the model's origin
                         (inside the head) and scaled by the model's prior
canonical   millimetres  the pose-free face S: frontal, whatever the pose in the photo
==========  ===========  ==================================================================

A single photo does not determine the real size: millimetres are those of the model's prior
(1 unit of the shape frame = 66.67 mm, mean outer-eye distance 85.4 mm).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.faces import AGREEMENT, Face
from sadr_cli.render.rasterize import vertex_normals
from sadr_cli.uv import MM_PER_UNIT, UVLayout
from sadr_cli.writers.animation import Motion

FRAMES = ("image", "metric", "canonical")
FOREIGN = "file"  # frame of a mesh from another program: the file's own axes and units
UNITS = {
    "image": "pixels",
    "metric": "millimetres",
    "canonical": "millimetres",
    FOREIGN: "as in the source file",
}
AXES = "x right, y up, z towards the viewer"
DESCRIPTIONS = {
    "image": "photo pixels, y_file = photo height - 1 - y_photo",
    "metric": "turned as in the photo; scale is the model's prior, not measured",
    "canonical": "pose-free frontal face; scale is the model's prior, not measured",
    FOREIGN: "converted from another program's mesh, coordinates unchanged",
}


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in one of :data:`FRAMES`, ready for any writer.

    vertices: (V, 3) float32; triangles: (T, 3) int32, counter-clockwise from outside.
    colors: (V, 3) uint8 sRGB, or None.
    uv: (V, 2) texture coordinates, v up; texture: (H, W, 3) uint8 sRGB, top row v = 1; or None.
    visibility, confidence: (V,) in [0, 1], or None.
    landmarks: (68,) vertex index of each landmark, 300-W order, or None.
    to_photo: (4, 4) takes homogeneous file coordinates to photo pixels (y down), or None.
    metric_origin: for frame ``image``: the model's origin in the file's pixels (3,) and
        pixels per millimetre, which lead to ``metric``; None if unknown.
    real: (N, N) in [0, 1], the share of each texel of ``texture`` taken from the photo, or None.
    layout: the UV layout, if the mesh has all its vertices in order; else None.
    photo_size: (height, width) of the photo in pixels, or None.
    motion: of a track, written by formats that can be animated; or None.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    frame: str
    colors: NDArray[np.uint8] | None = None
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    visibility: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    landmarks: NDArray[np.int32] | None = None
    to_photo: NDArray[np.float64] | None = None
    metric_origin: tuple[NDArray[np.float64], float] | None = None
    real: NDArray[np.float32] | None = None
    layout: UVLayout | None = None
    photo_size: tuple[int, int] | None = None
    motion: Motion | None = None
    name: str = "face"

    def without_motion(self) -> Mesh:
        """The pose-free base mesh of :attr:`motion`; the mesh itself if there is none."""
        motion = self.motion
        if motion is None:
            return self
        return replace(self, vertices=motion.base, frame="canonical", to_photo=motion.to_photo)

    @property
    def textured(self) -> bool:
        return self.texture is not None and self.uv is not None

    @property
    def units(self) -> str:
        return UNITS[self.frame]

    @cached_property
    def normals(self) -> NDArray[np.float32]:
        """(V, 3) unit normals, outwards."""
        return vertex_normals(self.vertices, self.triangles).astype(np.float32)

    @property
    def comments(self) -> list[str]:
        """Header lines for text formats."""
        axes = AXES if self.frame != FOREIGN else "axes as in the source file"
        return [
            f"sadr face mesh: frame {self.frame}, units {self.units}, {axes}",
            DESCRIPTIONS[self.frame],
        ]

    def describe(self) -> dict[str, Any]:
        """Frame, units and the transformation to the photo, for JSON."""
        out: dict[str, Any] = {
            "frame": self.frame,
            "units": self.units,
            "axes": AXES if self.frame != FOREIGN else "as in the source file",
            "note": DESCRIPTIONS[self.frame],
            "vertices": len(self.vertices),
            "triangles": len(self.triangles),
        }
        if self.to_photo is not None:
            out["to_photo"] = self.to_photo.round(9).tolist()
        return out


def face_mesh(
    face: Face,
    uv: UVLayout,
    image_height: int,
    frame: str = "image",
    colors: NDArray[np.uint8] | None = None,
    texture: NDArray[np.uint8] | None = None,
    image_width: int | None = None,
    confidence: bool = True,
) -> Mesh:
    """The mesh of ``face`` in ``frame``; ``image_height``: of its photo in pixels.

    confidence: whether to compute it for every vertex.
    """
    if frame not in FRAMES:
        raise UsageError(f"unknown frame {frame!r}: choose one of {', '.join(FRAMES)}")
    # From the y-up frame, whose origin is the top-left pixel, to photo pixels: y -> -y (Eq 2).
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    to_photo = np.eye(4)
    metric_origin = None
    if frame == "image":
        vertices = np.array(face.vertices)
        np.subtract(image_height - 1, vertices[:, 1], out=vertices[:, 1])
        to_photo[1, 1], to_photo[1, 3] = -1, image_height - 1
        x, y, z = (float(c) for c in face.translation)  # y-up, zero at the top-left pixel
        metric_origin = (np.array([x, y + image_height - 1, z]), face.scale / MM_PER_UNIT)
    else:
        vertices = np.asarray(face.shape, np.float64) * MM_PER_UNIT
        to_photo[:3, :3] *= face.scale / MM_PER_UNIT
        if frame == "metric":
            vertices = vertices @ np.asarray(face.rotation, np.float64).T
        else:
            to_photo[:3, :3] = to_photo[:3, :3] @ face.rotation
        to_photo[:3, 3] = face.translation
        to_photo = flip @ to_photo
    return Mesh(
        vertices=vertices.astype(np.float32, copy=False),
        triangles=uv.triangles,
        frame=frame,
        colors=colors,
        uv=uv.uv_coordinates,
        texture=texture,
        visibility=np.asarray(face.visibility, np.float32),
        confidence=vertex_confidence(face) if confidence else None,
        landmarks=uv.landmark_indices,
        to_photo=to_photo,
        metric_origin=metric_origin,
        layout=uv,
        photo_size=None if image_width is None else (image_height, image_width),
    )


def vertex_confidence(face: Face) -> NDArray[np.float32]:
    """(V,) in [0, 1]: agreement of P and G at each vertex, times (0.5 + 0.5 visibility).

    The measure of :attr:`Face.landmark_confidence`, at every vertex.
    """
    apart = face.vertices - face.pose_face
    gap = np.sqrt(np.einsum("vk,vk->v", apart, apart)) / face.crop.size
    return (np.exp(-gap / AGREEMENT) * (0.5 + 0.5 * face.visibility)).astype(np.float32)
