"""Contact sheets of a run: a small picture, the name and the angles of each face."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sadr_cli.files import atomic_write
from sadr_cli.marks import marked
from sadr_cli.render.labels import shortened

CELL = 200  # pixels of a picture's side
COLUMNS, ROWS = 6, 7  # of a sheet: about A4 portrait
_GAP, _LINES = 16, 40  # pixels between cells; for the two lines below a picture
_LETTERS, _SMALL = 15, 12
_PAPER, _INK, _GREY = (255, 255, 255), (24, 28, 36), (110, 116, 126)
_DPI = 170  # at which six columns fill the width of A4


@dataclass(frozen=True, eq=False)
class Cell:
    """picture: (CELL, CELL, 3) uint8 RGB; name, about: the two lines below it."""

    picture: NDArray[np.uint8]
    name: str
    about: str = ""


class ContactSheet:
    """Collects cells and writes them: ``contact_sheet.pdf``, or ``contact_sheet.png``,
    ``contact_sheet_2.png``... in ``folder``."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._cells: list[Cell] = []
        self._sheets: list[bytes] = []  # JPEG: a run may have thousands of faces

    def add(self, cell: Cell) -> None:
        self._cells.append(cell)
        if len(self._cells) == COLUMNS * ROWS:
            self._finish_sheet()

    def write(self) -> list[str]:
        """Write the sheets; returns the names of the files. Raises OutputError."""
        if self._cells:
            self._finish_sheet()
        if not self._sheets:
            return []
        if self._kind == "pdf":
            return [self._place("contact_sheet.pdf", self._pdf())]
        names = []
        for k, sheet in enumerate(self._sheets):
            name = "contact_sheet.png" if k == 0 else f"contact_sheet_{k + 1}.png"
            names.append(self._place(name, marked(sheet)))
        return names

    def _finish_sheet(self) -> None:
        picture = draw_sheet(self._cells)
        self._cells.clear()
        kind, quality = (".png", []) if self._kind == "png" else (".jpg", [1, 90])
        self._sheets.append(cv2.imencode(kind, picture[..., ::-1], quality)[1].tobytes())

    def _pdf(self) -> bytes:
        first, *others = (Image.open(io.BytesIO(sheet)) for sheet in self._sheets)
        data = io.BytesIO()
        first.save(data, "PDF", save_all=True, append_images=others, resolution=_DPI)
        return data.getvalue()

    def _place(self, name: str, data: bytes) -> str:
        atomic_write(self._folder / name, data)
        return name


def draw_sheet(cells: list[Cell]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB with up to COLUMNS x ROWS cells, only as large as necessary."""
    columns = min(len(cells), COLUMNS)
    rows = -(-len(cells) // COLUMNS)
    step, height = CELL + _GAP, CELL + _LINES + _GAP
    sheet = Image.new("RGB", (columns * step + _GAP, rows * height + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(_LETTERS), ImageFont.load_default(_SMALL)
    for k, cell in enumerate(cells):
        x, y = _GAP + k % COLUMNS * step, _GAP + k // COLUMNS * height
        sheet.paste(Image.fromarray(cell.picture), (x, y))
        pen.text((x, y + CELL + 4), shortened(cell.name, large, CELL), fill=_INK, font=large)
        pen.text((x, y + CELL + 23), shortened(cell.about, small, CELL), fill=_GREY, font=small)
    return np.asarray(sheet)
