"""A training run from folders to a checkpoint: what ``sadr train`` does.

The run's folder holds ``log.jsonl`` (losses, validation), ``state.pt`` (everything to continue)
and, after every save, ``NAME.safetensors`` with the averaged weights.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.errors import MissingDataError, TrainingError, UsageError
from sadr_cli.evaluation.data.aflw2000 import read_annotation
from sadr_cli.evaluation.measures import metrics
from sadr_cli.faces import Crop
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
from sadr_cli.training.start import check_encoder, check_start
from sadr_cli.training.state import describe, describe_layout, has_state
from sadr_cli.training.trainer import Trainer
from sadr_cli.uv import UVLayout

STATE, LOG = "state.pt", "log.jsonl"
LOG_EVERY = 50


@dataclass
class Progress:
    """Passed to the observer after every step.

    losses: means since they were last given, every 50 steps, else empty; validation: NME in
    percent after a save.
    """

    step: int
    samples: int
    done: float
    losses: dict[str, float]
    validation: dict[str, float] | None = None


class Validation:
    """NME of P and G on an AFLW2000-3D-style folder with the truth crop."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
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
            truth = read_annotation(path)
            photo = cv2.imread(str(path.with_suffix(".jpg")), cv2.IMREAD_COLOR)
            if photo is None:
                raise MissingDataError(f"the photo of {path} is damaged: copy it again")
            landmarks.append(truth["pt3d_68"].T)
            yaw.append(np.rad2deg(truth["Pose_Para"][1]))
            self.crops.append(crop_from_landmarks(landmarks[-1]))
            self.photos.append(np.ascontiguousarray(photo[:, :, ::-1]))
        self.landmarks, self.yaw = np.stack(landmarks), np.array(yaw)

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


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; nothing here changes what is learned.

    photo_side: pixels the photos are kept at; 0: the network's input, at least 160.
    pause_after: minutes after which this call saves and returns; the next one continues.
    compact, piece: form of the state file and bytes per piece of it, see ``state``.
    compiled: torch.compile the network.
    save_every: steps between saves, each with a validation.
    """

    photo_side: int = 0
    pause_after: float | None = None
    compact: bool = False
    piece: int | None = None
    compiled: bool = False
    save_every: int = 1000


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
    teacher: Path | None = None,
    start_from: Path | None = None,
    start_encoder: Path | None = None,
    encoder_from: Path | None = None,
    human_points: Path | None = None,
    labels: Path | None = None,
    resume: bool = True,
    options: RunOptions | None = None,
    observe: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train and return the checkpoint's path; an interrupted run continues where it was saved.

    start_from: checkpoint (or name) whose weights and template a new run begins with.
    start_encoder: checkpoint (or name) whose encoder alone a new run begins with, for runs that
        differ in what follows it.
    encoder_from: ONNX file with a pretrained MobileNet encoder that a new run begins with.
    human_points: landmarks that people marked, see ``dataset.add_human_points``.
    stop: asked after every step; once it is true, the run is saved and returns.
    labels: fits that replace those of the data, see ``dataset.replace_labels``.
    """
    began = time.monotonic()
    options = options or RunOptions()
    where = torch.device(select_device(device))
    if where.type == "cuda":
        torch.backends.cudnn.benchmark = True
    model = load_face_model(face_model)
    checker = Validation(validation) if validation is not None else None
    side = options.photo_side or max(160, config.network.input_size)
    photos = load_photos(data, model, side)
    if labels is not None:
        replace_labels(photos, labels)
    if human_points is not None and not add_human_points(photos, human_points):
        raise UsageError(f"{human_points} has no points for any photo of this data")
    pictures = load_backgrounds(backgrounds, 160).to(where) if backgrounds else None
    start = _Start.find(start_from, start_encoder, encoder_from)
    config, template = start.prepare(config, model, photos, face_model)
    grid = UVGrid(model, config.network.uv_size, where, template)
    guide = Teacher(load_checkpoint(find_weights(teacher)), grid, where) if teacher else None
    trainer = Trainer(
        config, photos.to(where), grid, where, pictures,
        teacher=guide, compiled=options.compiled, warn=warn,
    )  # fmt: skip
    check_writable(out)
    state = out / STATE
    if not has_state(state):
        start.begin(trainer)
    elif resume:
        trainer.load_state(state)
    else:
        raise UsageError(f"{out} holds a run already: use --resume or another --out")
    layout = UVLayout(model.layout.mask, model.layout.kpt, model.layout.region, template)
    run = _Run(trainer, start, layout, out, name, [p.name for p in data], options, checker)
    run.go(observe, stop, began)
    return run.target


@dataclass(frozen=True)
class _Start:
    """What a new run begins with: the weights of a checkpoint, its encoder, an ONNX file, nothing.

    whole: all weights of the checkpoint.
    """

    checkpoint: Checkpoint | None = None
    whole: bool = False
    onnx: Path | None = None

    @classmethod
    def find(cls, weights: Path | None, encoder: Path | None, onnx: Path | None) -> _Start:
        """UsageError when more than one is given."""
        if sum(x is not None for x in (weights, encoder, onnx)) > 1:
            raise UsageError(
                "start_from, start_encoder, encoder_from: each brings an encoder, "
                "leave out all but one"
            )
        given = weights or encoder
        checkpoint = load_checkpoint(find_weights(given)) if given else None
        return cls(checkpoint, weights is not None, onnx)

    def prepare(
        self, config: TrainConfig, model: FaceModel, photos: PhotoSet, path: Path
    ) -> tuple[TrainConfig, NDArray[np.float32]]:
        """The settings that hold, and the mean template. path: the face model's, for messages."""
        start = self.checkpoint
        if start is None:
            return config, mean_template(model, photos)
        (check_start if self.whole else check_encoder)(start, config.network)
        if not np.array_equal(start.uv.mask, model.layout.mask):
            raise UsageError(f"{start.path} has another UV layout than {path}")
        return replace(config, encoder_steps=0), start.uv.mean_shape

    def begin(self, trainer: Trainer) -> None:
        if self.onnx is not None:
            trainer.start_mobilenet(self.onnx)
        elif self.checkpoint is not None:
            begin = trainer.start_from if self.whole else trainer.start_encoder
            begin(self.checkpoint.network)

    def provenance(self) -> dict[str, Any]:
        """For the new checkpoint's."""
        start = self.checkpoint
        if start is None:
            return {}
        past = {"name": start.name, "sha256": start.sha256, **start.provenance}
        return {"started_from" if self.whole else "encoder_from": past}


class _Run:
    """The loop around a trainer: log, saves with validations, pauses."""

    def __init__(
        self,
        trainer: Trainer,
        start: _Start,
        layout: UVLayout,
        out: Path,
        name: str,
        sources: list[str],
        options: RunOptions,
        checker: Validation | None,
    ) -> None:
        self.target = out / f"{name}.safetensors"
        self._trainer, self._start, self._layout, self._name = trainer, start, layout, name
        self._out, self._state, self._sources = out, out / STATE, sources
        self._options, self._checker = options, checker
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def go(
        self, observe: Callable[[Progress], None], stop: Callable[[], bool], began: float
    ) -> None:
        """Train until the end, ``stop()``, or ``pause_after`` counted from ``began``."""
        trainer, pause = self._trainer, self._options.pause_after
        end = math.inf if pause is None else began + 60 * pause
        saved_at = -1
        for step, parts in self._steps():
            figures = None
            means = self._mean(step, parts)
            if step % self._options.save_every == 0:
                figures, saved_at = self._save(), step
            observe(Progress(step, trainer.samples, trainer.progress, means, figures))
            if stop() or (step % 10 == 0 and time.monotonic() > end):
                break
        if saved_at != trainer.step:
            figures = self._save()
            observe(Progress(trainer.step, trainer.samples, trainer.progress, {}, figures))

    def _steps(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        try:
            yield from self._trainer.run()
        except torch.linalg.LinAlgError as error:  # the alignment of a face that is no number
            raise self._diverged() from error

    def _mean(self, step: int, parts: dict[str, Tensor]) -> dict[str, float]:
        """Every :data:`LOG_EVERY` steps the mean losses since the last ones, logged."""
        for key, value in parts.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._count += 1
        if step % LOG_EVERY:
            return {}
        # The one place where the host waits for the device.
        values = (torch.stack(list(self._sums.values())) / self._count).tolist()
        means = dict(zip(self._sums, values, strict=True))
        trainer = self._trainer
        record = {"step": step, "samples": trainer.samples, "seconds": trainer.seconds}
        self._log({**record, "lr": trainer.learning_rate(), **means})
        self._sums, self._count = {}, 0
        if not all(math.isfinite(v) for v in values):
            raise self._diverged()
        return means

    def _diverged(self) -> TrainingError:
        state, step = self._state, self._trainer.step
        kept = f"{state} holds the last good state" if has_state(state) else "nothing was saved"
        return TrainingError(f"training diverged at step {step}: {kept}; continue with a lower lr")

    def _save(self) -> dict[str, float] | None:
        """Save state and checkpoint; the validation's figures."""
        trainer, options, figures = self._trainer, self._options, None
        counters = {"samples": trainer.samples, "step": trainer.step, "seconds": trainer.seconds}
        network = trainer.averaged_network()
        checkpoint = describe(
            network, self._layout, self._name, trainer.config, counters, self._sources
        )
        checkpoint.provenance.update(self._start.provenance())
        if self._checker is not None:
            figures = self._checker(checkpoint, str(trainer.device))
            checkpoint.provenance["validation"] = figures
            self._log({"step": trainer.step, "samples": trainer.samples, **figures})
        extra = {"layout": describe_layout(self._layout), "sources": self._sources}
        trainer.save_state(self._state, compact=options.compact, piece=options.piece, extra=extra)
        save_checkpoint(checkpoint, self.target)
        return figures

    def _log(self, record: dict[str, Any]) -> None:
        with Folder(self._out) as folder:  # a link in its place is not followed
            descriptor = folder.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
