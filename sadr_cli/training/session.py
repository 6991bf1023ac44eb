"""A training run from folders to a checkpoint: what ``sadr train`` does.

The run's folder holds ``log.jsonl`` (losses, validation), ``state.pt`` (everything to continue)
and, after every save, ``NAME.safetensors`` with the averaged weights.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadr_cli.checkpoint import Checkpoint, Scaling, save_checkpoint
from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.evaluation import metrics
from sadr_cli.face_model import FaceModel, load_face_model
from sadr_cli.faces import Crop
from sadr_cli.reconstructor import Reconstructor, select_device
from sadr_cli.training.dataset import PhotoSet, load_300wlp, load_shards
from sadr_cli.training.synthesis import UVGrid, mean_template
from sadr_cli.training.trainer import POSITION_SCALE, TrainConfig, Trainer
from sadr_cli.uv import UVLayout
from sadr_cli.writers.atomic import check_writable

STATE, LOG = "state.pt", "log.jsonl"
LICENSE = "research only: computed from research data, see weights/README.md"


@dataclass
class Progress:
    """Passed to the observer after every step."""

    step: int
    samples: int
    done: float
    losses: dict[str, float]
    validation: dict[str, float] | None = None


class Validation:
    """NME of P and G on an AFLW2000-3D-style folder with the truth crop."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        from scipy.io import loadmat

        files = sorted(p for p in folder.glob("*.mat") if p.with_suffix(".jpg").is_file())
        if not files:
            raise MissingDataError(
                f"no .jpg with a .mat beside it in {folder}: give an AFLW2000-3D-style folder"
            )
        if limit is not None and len(files) > limit:
            files = files[:: -(-len(files) // limit)]
        self.crops: list[Crop] = []
        self.photos: list[NDArray[np.uint8]] = []
        landmarks, yaw = [], []
        for path in files:
            data = loadmat(path)
            photo = cv2.imread(str(path.with_suffix(".jpg")), cv2.IMREAD_COLOR)
            if photo is None or "pt3d_68" not in data or "Pose_Para" not in data:
                raise MissingDataError(f"{path} or its photo is damaged: copy them again")
            landmarks.append(data["pt3d_68"].T.astype(np.float64))
            yaw.append(np.rad2deg(data["Pose_Para"].ravel()[1]))
            self.crops.append(crop_from_landmarks(landmarks[-1]))
            self.photos.append(np.ascontiguousarray(photo[:, :, ::-1]))
        self.landmarks, self.yaw = np.stack(landmarks), np.array(yaw)

    def __call__(self, checkpoint: Checkpoint, device: str) -> dict[str, float]:
        """Balanced and mean 2-D NME (percent) of P and of G."""
        reconstructor = Reconstructor(checkpoint, device=device, batch_size=32)
        side = reconstructor.crop_resolution
        index = checkpoint.uv.landmark_indices
        points: dict[str, list[NDArray[Any]]] = {"P": [], "G": []}
        for start in range(0, len(self.crops), 32):
            crops = self.crops[start : start + 32]
            photos = self.photos[start : start + 32]
            cut = [extract_crop(p, c, side) for p, c in zip(photos, crops, strict=True)]
            for face in reconstructor.reconstruct_crops(cut, crops):
                points["P"].append(face.pose_face[index])
                points["G"].append(face.landmarks)
        figures = {}
        for name, values in points.items():
            summary = metrics.summarise(metrics.nme_2d(np.stack(values), self.landmarks), self.yaw)
            figures[f"{name}_balanced"] = float(summary.balanced)
            figures[f"{name}_mean"] = float(summary.mean)
        return figures


def load_photos(data: Sequence[Path], model: FaceModel, side: int) -> PhotoSet:
    """Photos of shards (files, or folders of ``.npz``) and of 300W-LP-style folders."""
    shards: list[Path] = []
    folders: list[Path] = []
    for path in data:
        if path.is_file():
            shards.append(path)
        elif path.is_dir():
            inside = sorted(path.glob("*.npz"))
            shards.extend(inside)
            if not inside:
                folders.append(path)
        else:
            raise MissingDataError(f"no training data at {path}")
    sets = [load_shards(shards, side)] if shards else []
    sets += [load_300wlp(folder, model, side) for folder in folders]
    return PhotoSet.concatenate(sets)


def load_backgrounds(path: Path, side: int) -> Tensor:
    """(M, 3, side, side) uint8 RGB from an npz with ``webp`` and ``offset``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            packed, offset = file["webp"], file["offset"]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise MissingDataError(f"{path} is not a background file: webp and offset") from error
    pictures = []
    for begin, end in itertools.pairwise(offset):
        picture = cv2.imdecode(packed[begin:end], cv2.IMREAD_COLOR)
        if picture is None:
            raise MissingDataError(f"a picture of {path} is damaged: copy it again")
        pictures.append(cv2.resize(picture, (side, side))[:, :, ::-1].transpose(2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures)))


def train(
    data: Sequence[Path],
    face_model: Path,
    out: Path,
    config: TrainConfig,
    *,
    name: str = "trained",
    device: str = "auto",
    validation: Path | None = None,
    backgrounds: Path | None = None,
    resume: bool = True,
    save_every: int = 1000,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train and return the checkpoint's path; an interrupted run continues where it was saved."""
    where = select_device(device)
    model = load_face_model(face_model)
    checker = Validation(validation) if validation is not None else None
    side = max(160, config.network.input_size)
    photos = load_photos(data, model, side)
    pictures = load_backgrounds(backgrounds, 160).to(where) if backgrounds else None
    template = mean_template(model, photos)
    grid = UVGrid(model, config.network.uv_size, where, template)
    trainer = Trainer(config, photos.to(where), grid, where, pictures)
    check_writable(out)
    state = out / STATE
    if state.is_file():
        if not resume:
            raise UsageError(f"{out} holds a run already: use --resume or another --out")
        trainer.load_state(state)
    layout = UVLayout(model.layout.mask, model.layout.kpt, model.layout.region, template)
    target = out / f"{name}.safetensors"

    def save() -> dict[str, float] | None:
        checkpoint = make_checkpoint(trainer, layout, name, [p.name for p in data])
        figures = checker(checkpoint, str(where)) if checker is not None else None
        if figures is not None:
            checkpoint.provenance["validation"] = figures
            _log(out / LOG, {"step": trainer.step, "samples": trainer.samples, **figures})
        trainer.save_state(state)
        save_checkpoint(checkpoint, target)
        return figures

    sums: dict[str, float] = {}
    count = 0
    saved_at = -1
    for step, parts in trainer.run():
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        figures = None
        if step % 50 == 0:
            means = {k: v / count for k, v in sums.items()}
            rate = trainer.learning_rate()
            _log(out / LOG, {"step": step, "samples": trainer.samples, "lr": rate, **means})
            sums, count = {}, 0
        if step % save_every == 0:
            figures, saved_at = save(), step
        observe(Progress(step, trainer.samples, trainer.progress, parts, figures))
    if saved_at != trainer.step:
        figures = save()
        observe(Progress(trainer.step, trainer.samples, 1.0, {}, figures))
    return target


def make_checkpoint(
    trainer: Trainer, layout: UVLayout, name: str, sources: Sequence[str]
) -> Checkpoint:
    """The averaged weights of a run as a checkpoint."""
    return Checkpoint(
        network=trainer.averaged_network().cpu(),
        uv=layout,
        name=name,
        scaling=Scaling(position=POSITION_SCALE),
        alignment="paper",
        provenance={
            "samples": trainer.samples,
            "steps": trainer.step,
            "hours": round(trainer.seconds / 3600, 3),
            "data": list(sources),
            "config": trainer.config.to_dict(),
        },
        license=LICENSE,
    )


def _log(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
