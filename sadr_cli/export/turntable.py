"""Pictures of a face alone: from the front, and turning."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sadr_cli.errors import OutputError
from sadr_cli.faces import Face
from sadr_cli.files import Draft, atomic_write
from sadr_cli.marks import marked
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.frontal import View, on_background
from sadr_cli.render.overlay import edge_opacity
from sadr_cli.uv import MM_PER_UNIT, UVLayout, without_ears
from sadr_cli.video.writer import VideoWriter
from sadr_cli.writers.mesh import FOREIGN, Mesh
from sadr_cli.writers.rim import layout_rim

_BACKGROUND = (24, 28, 36)
_RATE = 20  # frames per second
_SECONDS = 4  # of a turn
_SWING = 70.0  # degrees to either side, as a face has no back


@dataclass(frozen=True)
class Pictures:
    """Pictures to make of every face.

    frontal: NAME.frontal.png, the face from the front on a transparent background; turntable: mp4,
    gif or webp for NAME.turntable.KIND, or None. side: of the pictures, in pixels.
    """

    frontal: bool = False
    turntable: str | None = None
    side: int = 400

    def __bool__(self) -> bool:
        return self.frontal or self.turntable is not None


def write_pictures(
    folder: Path, stem: str, mesh: Mesh, face: Face | None, pictures: Pictures, ears: bool = True
) -> list[str]:
    """Write the pictures of ``mesh``; returns their names.

    face: of the mesh, which is shown without its pose; None shows ``mesh`` as it is. ears: whether
    to show them, for meshes of sadr.
    """
    out = []
    if pictures.frontal:
        path = folder / f"{stem}.frontal.png"
        shown = view_of(mesh, face, ears).render(pictures.side, light=0.0)
        png = cv2.imencode(".png", cv2.cvtColor(shown, cv2.COLOR_RGBA2BGRA))[1].tobytes()
        atomic_write(path, marked(png))
        out.append(path.name)
    if pictures.turntable is not None:
        path = folder / f"{stem}.turntable.{pictures.turntable}"
        view = view_of(mesh, face, ears, turns=True)
        around = face is None and mesh.frame == FOREIGN
        _write_film(path, pictures.turntable, _turning(view, pictures.side, around))
        out.append(path.name)
    return out


def view_of(mesh: Mesh, face: Face | None, ears: bool = True, turns: bool = False) -> View:
    """The frontal view of ``mesh``; arguments as for :func:`write_pictures`."""
    if face is not None:
        shape = np.asarray(face.shape, np.float32) * np.float32(MM_PER_UNIT)
        if mesh.layout is not None:
            shape = layout_rim(mesh.layout).straighten(shape)
        mesh = replace(mesh, vertices=shape)
    uv, texture = (mesh.uv, mesh.texture) if mesh.textured else (None, None)
    edge = None if mesh.layout is None else _edge(mesh.layout, ears)
    return View(mesh.vertices, mesh.triangles, mesh.colors, uv, texture, edge, turns)


def _edge(uv: UVLayout, ears: bool) -> NDArray[np.float32]:
    edge = edge_opacity(uv)
    return edge if ears else edge * uv.from_map(without_ears(uv).astype(np.float32))


def _turning(view: View, side: int, around: bool) -> Iterator[NDArray[np.uint8]]:
    """Frames of one loop: all around, or to either side and back."""
    count = _RATE * _SECONDS
    known: dict[float, NDArray[np.uint8]] = {}  # the way back has the same angles
    for k in range(count):
        yaw = 360 * k / count if around else _SWING * math.sin(2 * math.pi * k / count)
        angle = round(yaw, 6)
        if angle not in known:
            turned = view.render(side, euler_to_matrix(angle, 0, 0))
            known[angle] = on_background(turned, _BACKGROUND)
        yield known[angle]


def _write_film(path: Path, kind: str, pictures: Iterator[NDArray[np.uint8]]) -> None:
    if kind != "mp4":
        atomic_write(path, marked(_encode(kind, pictures)))
        return
    draft = Draft(path)
    try:
        writer = VideoWriter(draft.temporary, _RATE)
        for k, picture in enumerate(pictures):
            writer.write(picture, k / _RATE)
        writer.close()
        if writer.problem is not None:
            raise OutputError(f"cannot write {path}: {writer.problem}")
        draft.place()
    finally:
        draft.discard()


def _encode(kind: str, pictures: Iterator[NDArray[np.uint8]]) -> bytes:
    """A looping animation as GIF or WebP."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    how: dict[str, Any] = {"quality": 85, "method": 3} if kind == "webp" else {"optimize": False}
    data = io.BytesIO()
    how |= {"duration": 1000 // _RATE, "loop": 0}
    first.save(data, kind.upper(), save_all=True, append_images=others, **how)
    return data.getvalue()


def frontal_on_ground(mesh: Mesh, face: Face | None, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) the face from the front, on the background of turntables."""
    return on_background(view_of(mesh, face).render(side, light=0.0), _BACKGROUND)
