"""Labels, photos and trainings of a made-up face, see ``conftest``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sadr_cli.model.face_model import FaceModel
from sadr_cli.pose import euler_to_matrix
from sadr_cli.training import session
from sadr_cli.training.config import RunOptions, TrainConfig
from sadr_cli.training.dataset import PhotoSet, load_shards
from sadr_cli.training.grid import UVGrid, mean_template
from sadr_cli.training.settings import DataSettings, Settings
from sadr_cli.training.trainer import Trainer

CPU = torch.device("cpu")


def train(
    shards: list[Path],
    model: Path,
    out: Path,
    config: TrainConfig,
    *,
    name: str = "trained",
    run: RunOptions | None = None,
    resume: bool = True,
    observe: Any = lambda progress: None,
    stop: Any = lambda: False,
    **data: Path,
) -> Path:
    """A training on the CPU; data: other fields of DataSettings."""
    files = {key: str(path) for key, path in data.items()}
    inputs = DataSettings(tuple(map(str, shards)), str(model), **files)
    settings = Settings(name=name, data=inputs, config=config, run=run or RunOptions())
    return session.train(settings, out, device="cpu", resume=resume, observe=observe, stop=stop)


def load(model: FaceModel, shard: Path, size: int) -> tuple[PhotoSet, UVGrid]:
    """The photos at 96 pixels, and the face model with their mean shape in maps of ``size``."""
    photos = load_shards([shard], 96)
    return photos, UVGrid(model, size, CPU, mean_template(model, photos))


def make_trainer(model: FaceModel, shard: Path, config: TrainConfig, **more: Any) -> Trainer:
    photos, grid = load(model, shard, config.network.uv_size)
    return Trainer(config, photos, grid, CPU, **more)


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
