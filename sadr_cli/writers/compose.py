"""Files of one face in all requested formats, with colours and texture where supported."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import UsageError
from sadr_cli.faces import Face
from sadr_cli.files import make_folder
from sadr_cli.render.texture import (
    MAX_TEXTURE,
    MIN_TEXTURE,
    TEXTURE_SIZE,
    bake_texture,
    vertex_colors,
)
from sadr_cli.uv import UVLayout
from sadr_cli.writers import FRAMES, MESH_FORMATS, create_writer
from sadr_cli.writers.mesh import Mesh, face_mesh
from sadr_cli.writers.rim import layout_rim

_COLORED = frozenset(("obj", "ply", "glb", "usdz", "npz"))
_CONFIDENT = frozenset(("ply", "npz"))
_TEXTURED = ("glb", "usdz", "obj", "texture")


@dataclass(frozen=True)
class Look:
    """Formats and appearance of the files of a face.

    formats: of ``writers.FORMATS``; frame: of ``writers.FRAMES``.
    texture_size: side of the texture in texels; 0: vertex colours instead; None: a texture of
        512 in GLB and USDZ, vertex colours in OBJ.
    face_model: npz of the linear model for coefficients.
    """

    formats: tuple[str, ...]
    frame: str = "image"
    texture_size: int | None = None
    face_model: Path | None = None

    def textures(self, name: str) -> bool:
        """Whether the format ``name`` gets a texture."""
        if name == "texture":
            return True
        if self.texture_size is None:
            return name in ("glb", "usdz")
        return self.texture_size > 0

    @property
    def wants_texture(self) -> bool:
        return any(name in _TEXTURED and self.textures(name) for name in self.formats)

    @property
    def wants_colors(self) -> bool:
        able = _COLORED.intersection(self.formats)
        return any(not (name in _TEXTURED and self.textures(name)) for name in able)


def check_texture_size(size: int | None) -> None:
    """UsageError for an invalid texture size."""
    if size is not None and size != 0 and not MIN_TEXTURE <= size <= MAX_TEXTURE:
        raise UsageError(
            f"--texture-size takes {MIN_TEXTURE} to {MAX_TEXTURE}, or 0 for vertex colours: {size}"
        )


def compose_mesh(
    face: Face, uv: UVLayout, look: Look, size: tuple[int, int], image: NDArray[np.uint8] | None
) -> Mesh:
    """The mesh of ``face`` with the data for ``look``; ``size``: (height, width) of its photo.

    Its rim is smoothed, see :mod:`sadr_cli.writers.rim`.
    """
    colors = texture = None
    if image is not None and look.wants_colors:
        colors = vertex_colors(image, face, uv)
    if image is not None and look.wants_texture:
        texture = bake_texture(image, face, uv, look.texture_size or TEXTURE_SIZE)
    sure = not _CONFIDENT.isdisjoint(look.formats)
    mesh = face_mesh(face, uv, size[0], look.frame, colors, image_width=size[1], confidence=sure)
    if texture is not None:
        mesh = replace(mesh, texture=texture.pixels, real=texture.real)
    return replace(mesh, vertices=layout_rim(uv).straighten(mesh.vertices))


def write_formats(
    folder: Path, stem: str, mesh: Mesh, face: Face | None, look: Look
) -> tuple[dict[str, str], list[str]]:
    """Write ``mesh`` in every format; returns format -> main file's name, and all names."""
    plain = replace(mesh, texture=None, real=None) if mesh.textured else mesh
    files: dict[str, str] = {}
    outputs: dict[str, None] = {}
    for name in look.formats:
        writer = create_writer(name, look.face_model)
        shown = mesh if look.textures(name) else plain
        written = writer.write(folder / (stem + writer.suffix), shown, face)
        files[name] = written[0].name
        outputs.update((path.name, None) for path in written)
    return files, list(outputs)


def save_mesh(
    path: str | os.PathLike[str],
    face: Face,
    uv: UVLayout,
    image: NDArray[np.uint8],
    frame: str = "image",
    texture_size: int | None = None,
) -> list[Path]:
    """Write a face as OBJ, PLY, GLB, USDZ, STL or NPZ, according to the suffix of ``path``.

    uv: the layout of the mesh, ``Reconstructor.uv``.
    image: the photo, (H, W, 3) uint8 RGB; colours or texture are taken from it.
    frame: "image": photo pixels, y up, ``y = H - 1 - y of the photo``; "metric": millimetres of
        the model's prior, turned as in the photo; "canonical": frontal, without pose.
    texture_size: side in texels of the texture in GLB, USDZ and OBJ, 0 for vertex
        colours; None takes 512, and vertex colours in OBJ.

    Returns the files written (three for an OBJ with texture). Missing folders are created, and a
    file is written completely or not at all. Raises UsageError for an invalid suffix, frame or
    size, OutputError if a file cannot be written.
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
