"""Labels and photos of a made-up face, see ``conftest``."""

from __future__ import annotations

import numpy as np

from sadr_cli.model.face_model import FaceModel
from sadr_cli.pose import euler_to_matrix


def labels(model: FaceModel, count: int) -> list[dict[str, np.ndarray]]:
    """Poses and coefficients, and the 68 landmarks they put into a 200-pixel photo."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(count):
        c = rng.standard_normal(50).astype(np.float32)
        r = euler_to_matrix(*(rng.uniform(-1, 1, 3) * (60, 15, 15)))
        t = np.array([100 + rng.uniform(-9, 9), -100 + rng.uniform(-9, 9), 0])
        points = 50 * model.decode(c)[0][model.layout.landmark_indices] @ r.T + t
        rows.append({"c": c, "r": r, "t": t, "landmarks": points * (1, -1, 1)})
    return rows


def spots(landmarks: np.ndarray, side: int = 200) -> np.ndarray:
    """A dark BGR photo with a bright spot on landmark 30."""
    image = np.full((side, side, 3), 40, np.uint8)
    x, y = landmarks[30, :2]
    yy, xx = np.mgrid[:side, :side]
    glow = 200 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 18)
    return (image + glow[:, :, None]).astype(np.uint8)
