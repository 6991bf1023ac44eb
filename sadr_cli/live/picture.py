"""What the window shows: faces drawn in by layers that keys switch, the frame rate, the keys."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sadr_cli.faces import Face
from sadr_cli.render.labels import draw_label
from sadr_cli.render.overlay import LAYERS, OPACITY, draw_quickly, reach, render_overlay
from sadr_cli.uv import UVLayout

SHOWN = ("mesh", "contours", "landmarks", "axes", "number")  # at first
KEYS = {layer[0]: layer for layer in LAYERS}  # m, c, l, a, b, n, p
_PLATE = (24, 28, 36)
_LETTERS, _LINE = 13, 22  # pixels
_WINDOW = 30  # frames over which the rate is taken


class Picture:
    """Draws frames. layers: of ``render.overlay.LAYERS``, switched by :meth:`switch`."""

    def __init__(self, uv: UVLayout, layers: Sequence[str] = SHOWN) -> None:
        self._uv = uv
        self.layers = set(layers)
        self.rate, self.keys = True, True

    def switch(self, key: str) -> bool:
        """Do what ``key`` stands for; False when it stands for nothing here."""
        if key in KEYS:
            self.layers ^= {KEYS[key]}
        elif key == "f":
            self.rate = not self.rate
        elif key == "h":
            self.keys = not self.keys
        else:
            return False
        return True

    def draw(self, image: NDArray[np.uint8], faces: Mapping[int, Face]) -> NDArray[np.uint8]:
        """A copy of the frame (H, W, 3) uint8 RGB with its faces, by track."""
        canvas = image.copy()
        if "mesh" in self.layers:
            for face in sorted(faces.values(), key=lambda f: f.scale):
                _draw_mesh(canvas, face, self._uv)
        others = [layer for layer in LAYERS if layer in self.layers and layer != "mesh"]
        labels = [str(track) for track in faces]
        return render_overlay(canvas, list(faces.values()), self._uv, others, labels=labels)

    def dress(self, picture: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
        """A copy of a drawn frame with the ``lines`` at its top and the keys at its bottom, as far
        as they are switched on."""
        out = picture.copy()
        for k, line in enumerate(lines if self.rate else ()):
            draw_label(out, line, (8, 8 + (k + 1) * _LINE), _LETTERS, _PLATE)
        if self.keys:
            text = "  ".join([*(f"{key} {name}" for key, name in KEYS.items()), "f rate", "h keys"])
            bottom = out.shape[0] - 8
            draw_label(out, text, (8, bottom - _LINE), _LETTERS, _PLATE)
            draw_label(out, "space stop and go   q or escape end", (8, bottom), _LETTERS, _PLATE)
        return out


def _draw_mesh(canvas: NDArray[np.uint8], face: Face, uv: UVLayout) -> None:
    """Blend the face into ``canvas``, whose part around it alone is worked on."""
    if not np.isfinite(face.vertices).all():
        return
    (x0, y0), (x1, y1) = (np.clip(end, 0, canvas.shape[1::-1]) for end in reach(face.vertices))
    part = canvas[y0:y1, x0:x1]
    if part.size:
        draw_quickly(part, face, uv, np.array([x0, y0], float), 1.0, OPACITY)


class Rate:
    """Frames a second, over the last frames."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_WINDOW)

    def tick(self) -> None:
        self._times.append(time.perf_counter())

    def __call__(self) -> float:
        """0 before the second frame."""
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)
