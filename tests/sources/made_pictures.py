"""Pictures for tests of reading."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# Four quarters that tell every orientation apart.
QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:] = (250, 10, 10), (10, 250, 10)
QUARTERS[20:, :30], QUARTERS[20:, 30:] = (10, 10, 250), (240, 240, 10)

STORED = {  # how the pixels of an upright photo lie in a file of each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def encode(image: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(height: int, width: int) -> np.ndarray:
    """Something like a photo: smooth, of many colours, nowhere blank."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + k) + k) * np.cos(y / (7 - k)) for k in range(3)]
    return np.rint(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)
