"""One face to a mesh file, for users of the library; the command line writes by ``pipeline``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.uv import UVLayout
from sadr_cli.writers import FRAMES, MESH_FORMATS
from sadr_cli.writers.atomic import make_folder
from sadr_cli.writers.compose import Look, check_texture_size, compose_mesh, write_formats


def save_mesh(
    path: str | os.PathLike[str],
    face: Face,
    uv: UVLayout,
    image: NDArray[np.uint8],
    frame: str = "image",
    texture_size: int | None = None,
) -> list[Path]:
    """Write a face as OBJ, PLY, GLB, USDZ, STL or NPZ, by the suffix of ``path``.

    uv: the layout of the mesh, ``Reconstructor.uv``.
    image: the photo, (H, W, 3) uint8 RGB; colours or texture are taken from it.
    frame: "image": photo pixels, y up, ``y = H - 1 - y of the photo``; "metric": millimetres of
        the model's prior, turned as in the photo; "canonical": frontal, without pose.
    texture_size: a texture of that many texels a side in GLB, USDZ and OBJ, 0 for vertex
        colours; None takes 512, and vertex colours in OBJ.

    Returns the files written (an OBJ with texture comes as three). Folders are made; a file
    appears whole or not at all. Raises UsageError for another suffix, frame or size, OutputError
    when the file cannot be written.
    """
    target = Path(path)
    name = target.suffix[1:].lower()
    if name not in MESH_FORMATS:
        raise UsageError(f"{target}: the suffix must be one of {', '.join(MESH_FORMATS)}")
    if frame not in FRAMES:
        raise UsageError(f"frame takes {', '.join(FRAMES)}, not {frame!r}")
    check_texture_size(texture_size)
    look = Look((name,), frame, texture_size)
    mesh = compose_mesh(face, uv, look, image.shape[:2], image)
    make_folder(target.parent)
    _, names = write_formats(target.parent, target.stem, mesh, face, look)
    return [target.parent / n for n in names]
