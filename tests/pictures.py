"""The photographs that come with the project, see ``examples/README.md``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def photo(name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a photo of ``examples/photos``."""
    return np.asarray(Image.open(PHOTOS / f"{name}.jpg").convert("RGB"))
