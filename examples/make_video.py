"""Makes ``faces.mp4``: four seconds with the two portraits of ``photos/`` in motion.

    python examples/make_video.py

The portraits sway and turn in the plane; for a second one leaves the picture, and once the other
is far away. Needs OpenCV, which comes with sadr.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
RATE, SECONDS = 15, 4
WIDTH, HEIGHT = 480, 270
# Left, top and side of the square that is shown of each, in pixels.
HEADS = {"astronaut": (90, 0, 260), "hopper": (56, 20, 420)}


def placed(portrait: np.ndarray, x: float, y: float, side: float, roll: float) -> np.ndarray:
    """(2, 3) from portrait to frame: centred at x, y, ``side`` pixels wide, turned by degrees."""
    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), roll, side / width)
    turn[:, 2] += (x - width / 2, y - height / 2)
    return turn


def frame(portraits: list[np.ndarray], t: float) -> np.ndarray:
    """The picture at ``t`` in [0, 1), (HEIGHT, WIDTH, 3) uint8 BGR."""
    wave = 2 * np.pi * t
    canvas = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    away = 320 * np.exp(-(((t - 0.55) / 0.1) ** 2))  # the right one leaves and comes back
    far = 90 * np.exp(-(((t - 0.25) / 0.1) ** 2))  # the left one gets smaller
    places = [
        (120 + 10 * np.sin(2 * wave), 135, 210 - far, 14 * np.sin(2 * wave)),
        (360 + away, 135 + 6 * np.sin(3 * wave), 210, -8 * np.sin(wave)),
    ]
    for portrait, place in zip(portraits, places, strict=True):
        matrix = placed(portrait, *place)
        size = (WIDTH, HEIGHT)
        picture = cv2.warpAffine(portrait, matrix, size, flags=cv2.INTER_AREA)
        inside = cv2.warpAffine(np.full(portrait.shape[:2], 255, np.uint8), matrix, size)
        canvas[inside > 127] = picture[inside > 127]
    return canvas


def main(target: Path) -> None:
    portraits = []
    for name, (left, top, side) in HEADS.items():
        photo = cv2.imread(str(HERE / "photos" / f"{name}.jpg"))
        if photo is None:
            sys.exit(f"no {name}.jpg in {HERE / 'photos'}")
        head = photo[top : top + side, left : left + side]
        # Reduced first: the frames then need no anti-aliasing.
        portraits.append(cv2.resize(head, (240, 240), interpolation=cv2.INTER_AREA))
    writer = cv2.VideoWriter(
        str(target), cv2.VideoWriter_fourcc(*"mp4v"), float(RATE), (WIDTH, HEIGHT)
    )
    if not writer.isOpened():
        sys.exit(f"cannot write {target}")
    for i in range(RATE * SECONDS):
        writer.write(frame(portraits, i / (RATE * SECONDS)))
    writer.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "faces.mp4")
