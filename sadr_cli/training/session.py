"""A training run from data to a checkpoint, as started by ``sadr train``.

The run's folder contains ``log.jsonl`` (losses, validation), ``state.pt`` (the state to continue
from) and, after every save, ``NAME.safetensors`` with the averaged weights.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadr_cli.arrays import read_npz
from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.errors import MissingDataError, TrainingError, UsageError
from sadr_cli.evaluation.data import aflw2000
from sadr_cli.evaluation.data.benchmark import read_image
from sadr_cli.evaluation.measures import metrics
from sadr_cli.files import check_writable
from sadr_cli.folder import Folder
from sadr_cli.model.checkpoint import Checkpoint, find_weights, load_checkpoint, save_checkpoint
from sadr_cli.model.device import select_device
from sadr_cli.model.face_model import FaceModel, load_face_model
from sadr_cli.reconstructor import Reconstructor
from sadr_cli.training.config import TrainConfig
from sadr_cli.training.dataset import (
    PhotoSet,
    add_human_points,
    load_300wlp,
    load_shards,
    replace_labels,
)
from sadr_cli.training.distill import Teacher
from sadr_cli.training.grid import UVGrid, mean_template
from sadr_cli.training.settings import DataSettings, Settings
from sadr_cli.training.start import check_encoder, check_start
from sadr_cli.training.state import describe, has_state
from sadr_cli.training.trainer import Trainer
from sadr_cli.uv import UVLayout

STATE, LOG = "state.pt", "log.jsonl"
LOG_EVERY = 50  # steps
BACKGROUND_SIDE = 160  # pixels


@dataclass
class Progress:
    """Passed to the observer after every step.

    losses: means over the last 50 steps, every 50 steps, else empty; validation: NME in percent
    after a save.
    """

    step: int
    samples: int
    done: float
    losses: dict[str, float]
    validation: dict[str, float] | None = None


class Validation:
    """NME of P and G on an AFLW2000-3D-style folder with the true crop."""

    def __init__(self, folder: Path) -> None:
        benchmark = aflw2000.load(folder, allow_missing=True)
        self.landmarks, self.yaw = benchmark.landmarks, benchmark.angles[:, 0]
        self.crops = [crop_from_landmarks(points) for points in self.landmarks]
        self.photos = [read_image(path) for path in benchmark.images if path is not None]

    def __call__(self, checkpoint: Checkpoint, device: str) -> dict[str, float]:
        """Balanced and mean 2-D NME (percent) of P and of G."""
        reconstructor = Reconstructor(checkpoint, device=device, batch_size=32, runtime="torch")
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


def load_backgrounds(path: Path) -> Tensor:
    """(M, 3, 160, 160) uint8 RGB from an npz with ``webp`` and ``offset``."""
    data = read_npz(path, ("webp", "offset"))
    pictures = []
    for begin, end in itertools.pairwise(data["offset"]):
        picture = cv2.imdecode(data["webp"][begin:end], cv2.IMREAD_COLOR)
        if picture is None:
            raise MissingDataError(f"an image of {path} is damaged: copy the file again")
        square = cv2.resize(picture, (BACKGROUND_SIDE, BACKGROUND_SIDE))
        pictures.append(square[:, :, ::-1].transpose(2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures)))


def train(
    settings: Settings,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = True,
    observe: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train and return the checkpoint's path; an interrupted run continues from its last save.

    resume: False refuses a folder that has a run. stop: checked after every step; once it is true,
    the run is saved and the function returns.
    """
    began = time.monotonic()
    data, config, options = settings.data, settings.config, settings.run
    assert data.face_model is not None
    where = torch.device(select_device(device))
    if where.type == "cuda":
        torch.backends.cudnn.benchmark = True
    model = load_face_model(data.face_model)
    checker = Validation(Path(data.validation)) if data.validation else None
    side = options.photo_side or max(160, config.network.input_size)
    photos = load_photos([Path(path) for path in data.train], model, side)
    if data.labels:
        replace_labels(photos, Path(data.labels))
    if data.human_points and not add_human_points(photos, Path(data.human_points)):
        raise UsageError(f"{data.human_points} has no points for any photo of this data")
    pictures = load_backgrounds(Path(data.backgrounds)).to(where) if data.backgrounds else None
    start = _Start.find(data)
    config, template = start.prepare(config, model, photos)
    grid = UVGrid(model, config.network.uv_size, where, template)
    teacher = None
    if data.teacher:
        teacher = Teacher(load_checkpoint(find_weights(data.teacher)), grid, where)
    trainer = Trainer(
        config, photos.to(where), grid, where, pictures,
        teacher=teacher, compiled=options.compiled, warn=warn,
    )  # fmt: skip
    check_writable(out)
    if not has_state(out / STATE):
        start.begin(trainer)
    elif resume:
        trainer.load_state(out / STATE)
    else:
        raise UsageError(f"{out} already contains a run: use --resume or another --out")
    layout = UVLayout(model.layout.mask, model.layout.kpt, model.layout.region, template)
    run = _Run(trainer, start, layout, out, settings, checker)
    run.go(observe, stop, began)
    return run.target


@dataclass(frozen=True)
class _Start:
    """What a new run starts from: a checkpoint (``whole``, or its encoder alone), an ONNX file
    with an encoder, or nothing."""

    checkpoint: Checkpoint | None
    whole: bool
    onnx: str | None

    @classmethod
    def find(cls, data: DataSettings) -> _Start:
        """UsageError when several are given."""
        if sum(map(bool, (data.start_from, data.start_encoder, data.encoder_from))) > 1:
            raise UsageError(
                "start_from, start_encoder and encoder_from exclude each other: each provides an "
                "encoder"
            )
        given = data.start_from or data.start_encoder
        checkpoint = load_checkpoint(find_weights(given)) if given else None
        return cls(checkpoint, data.start_from is not None, data.encoder_from)

    def prepare(
        self, config: TrainConfig, model: FaceModel, photos: PhotoSet
    ) -> tuple[TrainConfig, NDArray[np.float32]]:
        """The effective configuration, and the mean template (V, 3)."""
        start = self.checkpoint
        if start is None:
            return config, mean_template(model, photos)
        (check_start if self.whole else check_encoder)(start, config.network)
        if not np.array_equal(start.uv.mask, model.layout.mask):
            raise UsageError(f"the UV layout of {start.path} differs from the face model's")
        return replace(config, encoder_steps=0), start.uv.mean_shape

    def begin(self, trainer: Trainer) -> None:
        if self.onnx is not None:
            trainer.start_mobilenet(self.onnx)
        elif self.checkpoint is not None:
            begin = trainer.start_from if self.whole else trainer.start_encoder
            begin(self.checkpoint.network)

    def provenance(self) -> dict[str, Any]:
        """An entry of the new checkpoint's provenance."""
        start = self.checkpoint
        if start is None:
            return {}
        past = {"name": start.name, "sha256": start.sha256, **start.provenance}
        return {"started_from" if self.whole else "encoder_from": past}


@dataclass
class _Run:
    """The loop around a trainer: log, saves with validations, pauses."""

    trainer: Trainer
    start: _Start
    layout: UVLayout
    out: Path
    settings: Settings
    checker: Validation | None
    sums: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    @property
    def target(self) -> Path:
        return self.out / f"{self.settings.name}.safetensors"

    @property
    def state(self) -> Path:
        return self.out / STATE

    def go(
        self, observe: Callable[[Progress], None], stop: Callable[[], bool], began: float
    ) -> None:
        """Train until the end, ``stop()``, or ``pause_after`` minutes from ``began``."""
        trainer, options = self.trainer, self.settings.run
        pause = options.pause_after
        end = math.inf if pause is None else began + 60 * pause
        saved_at = -1
        for step, parts in self._steps():
            figures = None
            means = self._mean(step, parts)
            if step % options.save_every == 0:
                figures, saved_at = self._save(), step
            observe(Progress(step, trainer.samples, trainer.progress, means, figures))
            if stop() or (step % 10 == 0 and time.monotonic() > end):
                break
        if saved_at != trainer.step:
            figures = self._save()
            observe(Progress(trainer.step, trainer.samples, trainer.progress, {}, figures))

    def _steps(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        try:
            yield from self.trainer.run()
        except torch.linalg.LinAlgError as error:  # the alignment of a face that is NaN
            raise self._diverged() from error

    def _mean(self, step: int, parts: dict[str, Tensor]) -> dict[str, float]:
        """Every :data:`LOG_EVERY` steps log and return the mean losses since the last time."""
        for key, value in parts.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value
        self.count += 1
        if step % LOG_EVERY:
            return {}
        # The only place where the host waits for the device.
        values = (torch.stack(list(self.sums.values())) / self.count).tolist()
        means = dict(zip(self.sums, values, strict=True))
        trainer = self.trainer
        record = {"step": step, "samples": trainer.samples, "seconds": trainer.seconds}
        self._log({**record, "lr": trainer.learning_rate(), **means})
        self.sums, self.count = {}, 0
        if not all(math.isfinite(v) for v in values):
            raise self._diverged()
        return means

    def _diverged(self) -> TrainingError:
        state, step = self.state, self.trainer.step
        kept = f"{state} has the last good state" if has_state(state) else "nothing was saved"
        return TrainingError(f"training diverged at step {step}: {kept}; continue with a lower lr")

    def _save(self) -> dict[str, float] | None:
        """Save state and checkpoint; the validation's figures."""
        trainer, options, figures = self.trainer, self.settings.run, None
        sources = [Path(path).name for path in self.settings.data.train]
        counters = {"samples": trainer.samples, "step": trainer.step, "seconds": trainer.seconds}
        network = trainer.averaged_network()
        checkpoint = describe(
            network, self.layout, self.settings.name, trainer.config, counters, sources
        )
        checkpoint.provenance.update(self.start.provenance())
        if self.checker is not None:
            figures = self.checker(checkpoint, str(trainer.device))
            checkpoint.provenance["validation"] = figures
            self._log({"step": trainer.step, "samples": trainer.samples, **figures})
        layout = {key: torch.from_numpy(array) for key, array in self.layout.to_arrays().items()}
        extra = {"layout": layout, "sources": sources}
        trainer.save_state(self.state, compact=options.compact, piece=options.piece, extra=extra)
        save_checkpoint(checkpoint, self.target)
        return figures

    def _log(self, record: dict[str, Any]) -> None:
        with Folder(self.out) as folder:  # a link in its place is not followed
            descriptor = folder.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
