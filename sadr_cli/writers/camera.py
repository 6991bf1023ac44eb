"""The pose as 4 x 4 camera matrices, in plain text that ``numpy.loadtxt`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.files import atomic_write
from sadr_cli.pixels import to_unit
from sadr_cli.uv import MM_PER_UNIT
from sadr_cli.writers.mesh import Mesh

_HEAD = """\
sadr camera: scaled orthographic (weak perspective); homogeneous columns, three 4 x 4 blocks
block 1  canonical millimetres (x right, y up, z to the viewer) -> photo pixels (y down)
block 2  model to view: canonical millimetres -> the same turned as in the photo (OpenGL axes)
block 3  projection of the view's millimetres -> OpenGL clip space of the whole photo
scale is the model's prior, not measured; z is relative
"""


class CameraWriter:
    """Three 4 x 4 matrices; in x and y, ``block 1 = viewport @ block 3 @ block 2``."""

    format = "camera"
    suffix = ".camera.txt"

    def write(self, path: Path, mesh: Mesh, face: Face | None = None) -> list[Path]:
        if face is None or mesh.photo_size is None:
            raise UsageError("a camera needs the face's record: its JSON file or an npz mesh")
        head = "".join(f"# {line}\n" for line in _HEAD.splitlines())
        blocks = (
            "\n".join(" ".join(f"{v:.9g}" for v in row) for row in matrix)
            for matrix in camera_matrices(face, *mesh.photo_size)
        )
        atomic_write(path, (head + "\n\n".join(blocks) + "\n").encode())
        return [path]


def camera_matrices(
    face: Face, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(4, 4) each: canonical millimetres to photo pixels, model to view, view to clip space."""
    scale = face.scale / MM_PER_UNIT
    x, y, z = (float(v) for v in face.translation)
    view = np.eye(4)
    view[:3, :3] = face.rotation
    to_photo: NDArray[Any] = np.diag([scale, -scale, scale, 1.0])
    to_photo[:3, 3] = x, -y, z
    # The photo covers clip space from -1 to 1; its top edge is y = 1.
    clip = np.diag([2 * scale / width, 2 * scale / height, -2 * scale / max(width, height), 1.0])
    clip[0, 3] = to_unit(x, width)
    clip[1, 3] = -to_unit(-y, height)
    return to_photo @ view, view, clip
