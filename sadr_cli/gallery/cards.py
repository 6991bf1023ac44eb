"""A face's share of index.html: a small overlay picture, a coarse mesh, a small texture.

Cards are kept in one file per photo, in a hidden folder of the run, so that a resumed run still has
those of the faces it skips.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import extract_crop, image_to_crop
from sadr_cli.faces import Crop, Face
from sadr_cli.files import atomic_write, make_folder
from sadr_cli.render.overlay import draw_surface, edge_opacity, render_overlay
from sadr_cli.render.texture import bake_texture
from sadr_cli.uv import MM_PER_UNIT, UVLayout, extend_map, grid_triangles, without_ears
from sadr_cli.writers.mesh import Mesh

FOLDER = ".cards"
THUMBNAIL, TEXTURE = 176, 128  # pixels
_STRIP, _STRIP_SIDE = 12, 96  # pictures of a video's strip, pixels
STEP = 4  # pixels of the UV map between vertices of the page's meshes
QUANTUM_MM = 0.05  # step of their coordinates
_WIDER = 1.15  # of the network's crop: what a thumbnail shows
_QUALITY = 72


@dataclass(frozen=True, eq=False)
class Grid:
    """The coarse mesh that all faces of a page share.

    vertices: (K,) vertex of the layout; triangles: (T, 3); uv: (K, 2) texture coordinates,
    v down; mean: (K, 3) mean shape in millimetres.
    """

    vertices: NDArray[np.int32]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]
    mean: NDArray[np.float32]


@lru_cache(maxsize=2)
def page_grid(uv: UVLayout) -> Grid:
    """Every fourth row and column of the UV layout, without the ears, whose rim would be ragged."""
    index = np.where(without_ears(uv), uv.index_map, -1)
    index = index[STEP // 2 - 1 :: STEP, STEP // 2 - 1 :: STEP]
    ids, triangles = np.unique(grid_triangles(index), return_inverse=True)
    coordinates = uv.uv_coordinates[ids] * (1, -1) + (0, 1)
    mean = uv.mean_shape[ids] * np.float32(MM_PER_UNIT)
    return Grid(
        ids.astype(np.int32),
        triangles.reshape(-1, 3).astype(np.int32),
        coordinates.astype(np.float32),
        mean.astype(np.float32),
    )


def face_card(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, mesh: Mesh | None = None
) -> dict[str, Any]:
    """thumbnail, mesh and texture of a face in its photo (H, W, 3), as base64 text.

    mesh: the face's mesh, whose texture or colours are used where it has some.
    """
    return {
        "thumbnail": _jpeg(_thumbnail(image, face, uv)),
        "mesh": encode_mesh(face, uv),
        "texture": _jpeg(_texture(image, face, uv, mesh)),
        "rotation": np.asarray(face.rotation).round(5).ravel().tolist(),
    }


def encode_mesh(face: Face, uv: UVLayout) -> str:
    """The pose-free face on the page's grid: deflated differences from the mean, base64.

    Whole steps of QUANTUM_MM, each vertex less the one before it, all x, then y, then z; low
    bytes before high bytes.
    """
    grid = page_grid(uv)
    shape = np.asarray(face.shape)[grid.vertices] * MM_PER_UNIT - grid.mean
    steps = np.clip(np.rint(shape / QUANTUM_MM), -32768, 32767).astype(np.int16)
    delta = np.diff(steps.T, axis=1, prepend=np.int16(0)).astype("<i2")
    planes = delta.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return _text(zlib.compress(planes.tobytes(), 9))


class Strip:
    """Small pictures of a track, spread evenly over its time, however long it gets."""

    def __init__(self) -> None:
        self._every, self._seen = 8, 0
        self._pictures: list[tuple[float, str]] = []

    def see(self, image: NDArray[np.uint8], face: Face, uv: UVLayout, seconds: float) -> None:
        """The face in the track's next frame; most are not kept."""
        if self._seen % self._every == 0:
            picture = _jpeg(_thumbnail(image, face, uv, _STRIP_SIDE))
            self._pictures.append((seconds, picture))
            if len(self._pictures) == 2 * _STRIP:
                self._pictures, self._every = self._pictures[::2], 2 * self._every
        self._seen += 1

    def text(self) -> str:
        """``seconds:base64,seconds:base64...``, at most 12."""
        step = -(-len(self._pictures) // _STRIP) if self._pictures else 1
        return ",".join(f"{t:.2f}:{p}" for t, p in self._pictures[::step])


def write_cards(folder: Path, name: str, cards: list[dict[str, Any]]) -> None:
    """Keep the cards of the photo ``name`` in the run ``folder``; each has its ``face`` number."""
    path = cards_path(folder, name)
    make_folder(path.parent)
    atomic_write(path, json.dumps(cards, separators=(",", ":")).encode())


def read_cards(folder: Path, name: str) -> dict[int, dict[str, Any]]:
    """Face number -> card; empty when there are none, or they are damaged."""
    try:
        cards = json.loads(cards_path(folder, name).read_bytes())
        return {int(card["face"]): card for card in cards}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def cards_path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.json"


def _thumbnail(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, side: int = THUMBNAIL
) -> NDArray[np.uint8]:
    crop = Crop(face.crop.center_x, face.crop.center_y, face.crop.size * _WIDER)
    part = extract_crop(image, crop, side)
    local = replace(
        face,
        vertices=image_to_crop(face.vertices, crop, side),
        landmarks=image_to_crop(face.landmarks, crop, side),
        scale=face.scale * side / crop.size,
    )
    grid = page_grid(uv)
    edge = edge_opacity(uv)[grid.vertices]
    draw_surface(part, local.vertices[grid.vertices], grid.triangles, edge, 0.5)
    return render_overlay(part, [local], uv, ("contours", "landmarks", "axes"))


def _texture(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, mesh: Mesh | None
) -> NDArray[np.uint8]:
    size = (TEXTURE, TEXTURE)
    if mesh is not None and mesh.texture is not None:
        return cv2.resize(mesh.texture, size, interpolation=cv2.INTER_AREA)
    if mesh is not None and mesh.colors is not None:
        colors = extend_map(uv.to_map(mesh.colors), uv.mask)
        return cv2.resize(colors, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return bake_texture(image, face, uv, TEXTURE).pixels


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return _text(cv2.imencode(".jpg", pixels[..., ::-1], quality)[1].tobytes())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
