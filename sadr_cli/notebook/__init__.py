"""Inline view of a face in a notebook: the self-contained viewer of pages, in a sandbox."""

from __future__ import annotations

import base64
import html
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import image_to_crop
from sadr_cli.faces import Crop, Face
from sadr_cli.pages import mesh_script, page_json, render_page
from sadr_cli.pixels import from_edge
from sadr_cli.render.coarse import encode_mesh, page_mesh
from sadr_cli.render.texture import color_map
from sadr_cli.uv import UVLayout

HEIGHT = 420  # pixels of the view
_TEXTURE, _QUALITY = 256, 85
_HERE = Path(__file__).parent


def face_html(face: Face, uv: UVLayout) -> str:
    """HTML of an interactive face for ``_repr_html_``.

    A sandboxed ``iframe`` that runs only its own script and loads nothing. It contains a coarse
    mesh and, if there is a :attr:`Face.picture`, its texture.
    """
    yaw, pitch, roll = face.euler
    about: dict[str, Any] = {
        **page_mesh(uv),
        "mesh": encode_mesh(face, uv),
        "texture": "-" if face.picture is None else _texture(face, face.picture, uv),
        "rotation": np.asarray(face.rotation).round(5).ravel().tolist(),
    }
    parts = render_page(
        _HERE / "face.html",
        title="Face",
        style=_read("face.css"),
        script=_read("head.js") + mesh_script() + _read("tail.js"),
        about=page_json(about),
        facts=f"yaw {yaw:.1f}°, pitch {pitch:.1f}°, roll {roll:.1f}°, "
        f"confidence {face.confidence:.2f}",
        warnings=face.warnings,
    )
    page = html.escape("".join(parts), quote=True)
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{page}" title="{html.escape(repr(face))}" '
        f'width="100%" height="{HEIGHT}" style="border: 0; max-width: 640px"></iframe>'
    )


def _texture(face: Face, picture: NDArray[np.uint8], uv: UVLayout) -> str:
    """JPEG of the face's colours over the UV map, from the network's crop."""
    side = len(picture)
    step = side / face.crop.size
    middle = from_edge(side / 2)
    local = replace(
        face,
        vertices=image_to_crop(face.vertices, face.crop, side),
        pose_face=image_to_crop(face.pose_face, face.crop, side),
        landmarks=image_to_crop(face.landmarks, face.crop, side),
        scale=face.scale * step,
        crop=Crop(middle, middle, side),
    )
    pixels = cv2.resize(color_map(picture, local, uv), (_TEXTURE, _TEXTURE))
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    data = cv2.imencode(".jpg", pixels[..., ::-1], quality)[1].tobytes()
    return base64.b64encode(data).decode("ascii")


@lru_cache
def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
