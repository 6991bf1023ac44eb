"""The data of a face in index.html: a small overlay picture, a coarse mesh, a small texture.

Cards are stored in one file per photo in a hidden folder of the run, so that a resumed run has
those of skipped faces.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import crop_to_image, extract_crop, image_to_crop
from sadr_cli.documents import parse
from sadr_cli.faces import Crop, Face
from sadr_cli.files import atomic_write
from sadr_cli.folder import file_size, read_file
from sadr_cli.render.coarse import encode_mesh
from sadr_cli.render.overlay import draw_quickly, render_overlay
from sadr_cli.render.texture import color_map
from sadr_cli.results.fields import Damaged, Fields, count, matrix, text
from sadr_cli.uv import UVLayout
from sadr_cli.writers.mesh import Mesh

FOLDER = ".cards"
THUMBNAIL, TEXTURE = 176, 128  # pixels
_STRIP, _STRIP_SIDE = 12, 96  # pictures of a video's strip, pixels
_LARGEST, _LARGEST_PICTURE = 1 << 28, 1 << 18  # bytes of a photo's cards, of a picture's base64
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_JPEG_START = base64.b64encode(b"\xff\xd8\xff").decode()
_WIDER = 1.15  # size of thumbnails, as a multiple of the network's crop
_QUALITY = 72


@dataclass(frozen=True)
class Card:
    """The page's data of a face; text is base64.

    face: its number. thumbnail, texture: JPEG. mesh: see ``render.coarse.encode_mesh``.
    rotation: (9,) rows of the rotation matrix. strip: of a track, see :meth:`Strip.text`; motion:
    of a track, see ``render.coarse.encode_motion``.
    """

    face: int
    thumbnail: str
    texture: str
    mesh: str
    rotation: tuple[float, ...]
    strip: str = ""
    motion: str = ""

    @classmethod
    def from_json(cls, document: Any) -> Card:
        """Read a card; Damaged if it is invalid."""
        read = Fields(document, "a card")
        return cls(
            face=read("face", count),
            thumbnail=read("thumbnail", _picture),
            texture=read("texture", _picture),
            mesh=read("mesh", _base64),
            rotation=tuple(read("rotation", matrix(9))),
            strip=read("strip", _strip, ""),
            motion=read("motion", _base64_or_nothing, ""),
        )


def face_card(
    number: int, image: NDArray[np.uint8], face: Face, uv: UVLayout, mesh: Mesh | None = None
) -> Card:
    """The card of face ``number`` in its photo (H, W, 3).

    mesh: the face's mesh, whose texture or colours are used if available.
    """
    return Card(
        face=number,
        thumbnail=_jpeg(thumbnail(image, face, uv)),
        texture=_jpeg(_texture(image, face, uv, mesh)),
        mesh=encode_mesh(face, uv),
        rotation=tuple(np.asarray(face.rotation).round(5).ravel().tolist()),
    )


class Strip:
    """Small pictures of a track, evenly distributed over its whole duration."""

    def __init__(self) -> None:
        self._every, self._seen = 8, 0
        self._pictures: list[tuple[float, str]] = []

    def see(self, image: NDArray[np.uint8], face: Face, uv: UVLayout, seconds: float) -> None:
        """Add the face in the track's next frame; most are dropped."""
        if self._seen % self._every == 0:
            picture = _jpeg(thumbnail(image, face, uv, _STRIP_SIDE))
            self._pictures.append((seconds, picture))
            if len(self._pictures) == 2 * _STRIP:
                self._pictures, self._every = self._pictures[::2], 2 * self._every
        self._seen += 1

    def text(self) -> str:
        """``seconds:base64,seconds:base64...``, at most 12."""
        step = -(-len(self._pictures) // _STRIP) if self._pictures else 1
        return ",".join(f"{t:.2f}:{p}" for t, p in self._pictures[::step])


def write_cards(folder: Path, name: str, cards: Sequence[Card]) -> None:
    """Keep the cards of the photo ``name`` in the run ``folder``."""
    data = json.dumps([vars(card) for card in cards], separators=(",", ":")).encode()
    atomic_write(cards_path(folder, name), data, root=folder)


def read_cards(folder: Path, name: str) -> dict[int, Card]:
    """Face number -> card; damaged or missing cards are left out."""
    path = cards_path(folder, name)
    if file_size(path, folder) > _LARGEST:
        return {}
    try:
        documents = parse(read_file(path, folder))
    except (OSError, ValueError):
        return {}
    cards = {}
    for document in documents if isinstance(documents, list) else ():
        with suppress(Damaged):
            card = Card.from_json(document)
            cards[card.face] = card
    return cards


def cards_path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.json"


def thumbnail(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, side: int = THUMBNAIL
) -> NDArray[np.uint8]:
    """(side, side, 3) the face in its photo (H, W, 3), with mesh, landmarks and axes drawn on."""
    crop = Crop(face.crop.center_x, face.crop.center_y, face.crop.size * _WIDER)
    part = extract_crop(image, crop, side)
    origin = crop_to_image(np.zeros(2), crop, side)
    draw_quickly(part, face, uv, origin, crop.size / side, 0.5)
    local = replace(
        face,
        vertices=face.vertices[:0],
        landmarks=image_to_crop(face.landmarks, crop, side),
        contour=None if face.contour is None else image_to_crop(face.contour, crop, side),
        scale=face.scale * side / crop.size,
    )
    return render_overlay(part, [local], uv, ("contours", "landmarks", "axes"))


def _texture(
    image: NDArray[np.uint8], face: Face, uv: UVLayout, mesh: Mesh | None
) -> NDArray[np.uint8]:
    texture = None if mesh is None else mesh.texture
    pixels = color_map(image, face, uv) if texture is None else texture
    return cv2.resize(pixels, (TEXTURE, TEXTURE), interpolation=cv2.INTER_AREA)


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return _text(cv2.imencode(".jpg", pixels[..., ::-1], quality)[1].tobytes())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _base64(value: Any) -> str:
    if not _BASE64.fullmatch(text(value)):
        raise ValueError
    return text(value)


def _base64_or_nothing(value: Any) -> str:
    return _base64(value) if value != "" else ""


def _picture(value: Any) -> str:
    """A JPEG no larger than those made here."""
    if not _base64(value).startswith(_JPEG_START) or len(value) > _LARGEST_PICTURE:
        raise ValueError
    return text(value)


def _strip(value: Any) -> str:
    for part in filter(None, text(value).split(",")):
        seconds, _, picture = part.partition(":")
        float(seconds)
        _picture(picture)
    return text(value)
