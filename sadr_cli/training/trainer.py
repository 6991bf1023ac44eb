"""The training loop: losses, schedule, average of the weights, resumption (III-D, III-E)."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from sadr_cli import alignment
from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.network import NetworkConfig, SADRNet, normalize_input
from sadr_cli.training import losses
from sadr_cli.training.dataset import PhotoSet, balanced_weights
from sadr_cli.training.losses import LossWeights
from sadr_cli.training.synthesis import AugmentConfig, Batch, SampleMaker, UVGrid
from sadr_cli.writers.atomic import atomic_write

POSITION_SCALE = 280.0  # the network's P is in pixels of a 256-pixel crop over this
STATE_VERSION = 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run.

    steps: optimiser steps; warmup_steps: linear from lr / 10 to lr (III-E).
    schedule: "cosine" to zero, "exponential" (0.85 a ``epoch_steps``, the paper's) or "constant".
    max_hours: training ends, and a cosine reaches zero, after this time even if steps remain.
    encoder_steps: first steps that train encoder and regressor alone, without the decoder.
    flatten_yaw: 0 samples photos as they come, 1 gives every 15 degrees of |yaw| the same share.
    average: decay of the running average of the weights, which is what is saved and validated.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    steps: int = 190_000
    batch_size: int = 16
    lr: float = 1e-4
    warmup_steps: int = 30_000
    schedule: str = "exponential"
    epoch_steps: int = 7_650
    max_hours: float | None = None
    encoder_steps: int = 0
    flatten_yaw: float = 0.0
    average: float = 0.999
    weight_decay: float = 0.0
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        return cls(
            **{
                **data,
                "network": NetworkConfig(**data["network"]),
                "augment": AugmentConfig(**data["augment"]),
                "loss": LossWeights(**data["loss"]),
            }
        )


PRESETS: dict[str, TrainConfig] = {
    # The paper's III-E: 122,450 + 5,000 photos, batch 16, 25 epochs, 4 of them warm-up.
    "paper": TrainConfig(),
    "full": TrainConfig(
        batch_size=256,
        lr=1e-3,
        steps=20_000,
        warmup_steps=500,
        schedule="cosine",
        encoder_steps=0,
        flatten_yaw=0.5,
        loss=LossWeights(landmarks=0.5, regressor=0.1),
        augment=AugmentConfig(rotation_wide=0.3),
    ),
    "lite": TrainConfig(
        network=NetworkConfig(input_size=128, uv_size=64, width=0.5),
        batch_size=32,
        lr=1e-3,
        steps=10_000,
        warmup_steps=200,
        schedule="cosine",
        encoder_steps=2_000,
        flatten_yaw=0.5,
        loss=LossWeights(landmarks=0.5, regressor=0.1),
        augment=AugmentConfig(
            rotation=75.0, rotation_wide=0.15, shift=0.06, blur=0.15, noise=0.1, occlusion=0.25
        ),
    ),
}


class Regressor(nn.Module):
    """Training only: pose (3 x 4) and shape coefficients from the deepest features, linearly.

    It gives the encoder a short gradient from the first step; the decoder alone stays at the
    mean pose for hundreds of steps.
    """

    def __init__(self, channels: int, cells: int, coefficients: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels * cells * cells, 12 + coefficients)
        nn.init.normal_(self.linear.weight, std=1e-3)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Pose (B, 3, 4) with columns in units of the position scale, coefficients (B, K)."""
        out = self.linear(features.flatten(1))
        return out[:, :12].view(-1, 3, 4), out[:, 12:]


class Trainer:
    """Trains a network on a photo set.

    photos: on the device. model grid etc. are built from ``grid``.
    validate: called with the averaged network, returns figures for the log.
    """

    def __init__(
        self,
        config: TrainConfig,
        photos: PhotoSet,
        grid: UVGrid,
        device: torch.device,
        backgrounds: Tensor | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.photos, self.grid, self.device = config, photos, grid, device
        self.network = SADRNet(config.network)
        initialise(self.network, grid)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        k = photos.coefficients.shape[1]
        deepest = config.network.channels(512)
        self.regressor = Regressor(deepest, config.network.input_size // 32, k).to(device)
        self.regressor.linear.bias.data[:12] = _frontal_pose().flatten().to(device)
        parameters = [*self.network.parameters(), *self.regressor.parameters()]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config.lr, weight_decay=config.weight_decay
        )
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.step = 0
        self.samples = 0
        self.seconds = 0.0
        generator = torch.Generator(device=device).manual_seed(config.seed + _rank())
        self.generator = generator
        self.maker = SampleMaker(
            photos, grid, config.network, config.augment, backgrounds, generator
        )
        self.row_weights = balanced_weights(photos.yaw, config.flatten_yaw).to(device)
        self.half = device.type == "cuda"

    # One step -------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1], by steps or by time."""
        done = self.step / self.config.steps
        if self.config.max_hours:
            done = max(done, self.seconds / 3600 / self.config.max_hours)
        return min(done, 1.0)

    def learning_rate(self) -> float:
        """Rate of the next step: linear warm-up, then the schedule (III-E)."""
        c, step = self.config, self.step
        if step < c.warmup_steps:
            return c.lr * (0.1 + 0.9 * step / c.warmup_steps)
        if c.schedule == "constant":
            return c.lr
        if c.schedule == "exponential":
            return c.lr * float(0.85 ** ((step - c.warmup_steps) // c.epoch_steps))
        if c.schedule == "cosine":
            return c.lr * max(0.5 * (1 + math.cos(math.pi * self.progress)), 1e-3)
        raise UsageError(f"no schedule {c.schedule}: use cosine, exponential or constant")

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the losses."""
        began = time.monotonic()
        config = self.config
        index = torch.multinomial(
            self.row_weights, config.batch_size, replacement=True, generator=self.generator
        )
        batch = self.maker(index)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        x = normalize_input(batch.images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            features, logits = self.network.encode(x)
            maps = None if self.step < config.encoder_steps else self.network.decode(features)
        regressed = self.regressor(features.float())
        parts = compute_losses(config, self.grid, batch, maps, logits, regressed)
        total = sum(parts.values(), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self.samples += config.batch_size * _workers()
        self._update_average()
        self.seconds += time.monotonic() - began
        return {k: float(v.detach()) for k, v in parts.items()}

    def _share_gradients(self) -> None:
        """Mean of the gradients over processes, when started as several (torchrun)."""
        if _workers() == 1:
            return
        owned = [*self.network.parameters(), *self.regressor.parameters()]
        gradients = [p.grad for p in owned if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        flat /= _workers()
        for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(part.view_as(g))

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average starts anew with the decoder, which does not move before.
        behind = self.step - self.config.encoder_steps
        age = behind if behind > 0 else self.step
        decay = min(self.config.average, (1 + age) / (10 + age))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)

    def averaged_network(self) -> SADRNet:
        """A copy of the network with the running average of the weights, in eval mode."""
        network = SADRNet(self.config.network)
        network.load_state_dict(self.average)
        return network.to(self.device).eval()

    # State ----------------------------------------------------------------------------------

    def save_state(self, path: Path) -> None:
        """Write everything needed to continue, atomically."""
        state = {
            "version": STATE_VERSION,
            "config": json.dumps(self.config.to_dict()),
            "network": self.network.state_dict(),
            "average": self.average,
            "regressor": self.regressor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        atomic_write(path, buffer.getbuffer())

    def load_state(self, path: Path) -> None:
        """Continue from a state file; MissingDataError when it does not fit this network."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average = state["average"]
            self.regressor.load_state_dict(state["regressor"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.samples = state["step"], state["samples"]
            self.seconds = state["seconds"]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise MissingDataError(
                f"{path} is not a training state of this network: use the settings it was "
                f"trained with, or start anew ({error})"
            ) from error
        # A fresh stream of samples, not the one that was already seen.
        self.generator.manual_seed(self.config.seed + 1000 * self.step + _rank())

    def run(self, stop_at: int | None = None) -> Iterator[tuple[int, dict[str, float]]]:
        """Train; yields step number and losses after each step, until ``stop_at`` or the end."""
        while self.progress < 1 and (stop_at is None or self.step < stop_at):
            parts = self.train_step()
            yield self.step, parts


def _workers() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def compute_losses(
    config: TrainConfig,
    grid: UVGrid,
    batch: Batch,
    maps: tuple[Tensor, Tensor] | None,
    logits: Tensor | None,
    regressed: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """The weighted losses of Eq 24 by name.

    maps: P and D of the network, or None while only the encoder is trained;
    logits: of the attention mask, if there is one; regressed: output of :class:`Regressor`.
    """
    w = config.loss
    parts: dict[str, Tensor] = {}
    attention = None
    if logits is not None:
        logits = logits.float()
        parts["attention"] = w.attention * losses.attention_loss(logits, batch.attention)
        attention = torch.sigmoid(logits.detach())
    if maps is None:
        parts["regressor"] = regressor_loss(grid, batch, *regressed)
        return parts
    pose_map, shape = maps[0].float(), maps[1].float()
    if config.network.deformation:
        shape = shape + grid.template
    face = _align(grid, pose_map * POSITION_SCALE, shape, attention) / POSITION_SCALE
    truth = batch.pose_map / POSITION_SCALE
    parts["pose_face"] = w.pose_face * losses.position_loss(pose_map, truth, grid.weight)
    parts["deformation"] = w.deformation * losses.position_loss(shape, batch.shape_map, grid.weight)
    parts["face"] = w.face * losses.position_loss(face, truth, grid.weight)
    parts["edge"] = w.edge * losses.edge_loss(shape, batch.shape_map, grid.mask)
    parts["normal"] = w.normal * losses.normal_loss(shape, batch.shape_map, grid.mask)
    if w.landmarks:
        target = batch.landmarks / POSITION_SCALE
        gaps = [(grid.sample(m) - target).pow(2).sum(-1) for m in (pose_map, face)]
        parts["landmarks"] = w.landmarks * torch.sqrt(torch.stack(gaps) + 1e-8).mean((1, 2)).sum()
    if w.regressor:
        parts["regressor"] = w.regressor * regressor_loss(grid, batch, *regressed)
    return parts


def regressor_loss(grid: UVGrid, batch: Batch, pose: Tensor, coefficients: Tensor) -> Tensor:
    """Landmark error of the regressed pose with the true shape, and of the regressed shape."""
    shape = grid.sample(batch.shape_map)
    placed = torch.einsum("bij,blj->bli", pose[:, :, :3], shape) + pose[:, None, :, 3]
    truth = torch.einsum("bij,blj->bli", batch.pose[:, :, :3], shape)
    truth = (truth + batch.pose[:, None, :, 3] - _offset(truth)) / POSITION_SCALE
    position = (placed - truth).pow(2).sum(-1).add(1e-8).sqrt().mean()
    plain = ~batch.mirrored
    own = grid.landmark_shapes(coefficients)
    # A mirrored face has no coefficients of its own: mirror what was regressed instead.
    sign = own.new_tensor([-1.0, 1.0, 1.0])
    own = torch.where(plain[:, None, None], own, own[:, grid.mirror] * sign)
    form = (own - shape).pow(2).sum(-1).add(1e-8).sqrt().mean()
    spread = ((coefficients - batch.coefficients).pow(2).mean(1) * plain).mean()
    return position + 0.2 * form + 0.01 * spread


def _offset(like: Tensor) -> Tensor:
    """The centre of a 256-pixel crop in its y-up frame."""
    return like.new_tensor([127.5, -127.5, 0.0])


def _frontal_pose() -> Tensor:
    """(3, 4) a frontal face as large as in the crop: about 80 pixels a shape unit."""
    pose = torch.zeros(3, 4)
    pose[:, :3] = torch.eye(3) * 80.0 / POSITION_SCALE
    return pose


def _align(grid: UVGrid, pose_face: Tensor, shape: Tensor, attention: Tensor | None) -> Tensor:
    """G (B, 3, U, U) in crop pixels by self-alignment at the network's UV resolution."""
    normals = alignment.surface_normals(pose_face.detach(), grid.mask)
    points_p, points_s = grid.sample(pose_face), grid.sample(shape)
    weights = alignment.landmark_weights(
        points_p, alignment.gather_points(normals, grid.kpt_cell), attention, 256
    )
    scale, rotation, translation = alignment.weighted_similarity(
        points_s, alignment.flip_y(points_p), weights
    )
    return alignment.transform_map(shape, scale, rotation, translation)


@torch.no_grad()
def initialise(network: SADRNet, grid: UVGrid) -> None:
    """Starting weights that let the decoder leave the mean pose early.

    P starts as a frontal mean face (the bias map) and D as zero, by small last gains. Decoder
    layers that keep size and channels start near the identity, and the three-channel layers at
    the end of each head, where ReLU would cut half of every coordinate, start with a positive
    bias: seventeen random layers in a row would scramble the pose the encoder has found.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for part in (network.decoder_low, network.decoder_kpt, network.decoder_offset):
        for module in part:
            deconv = cast(nn.ConvTranspose2d, module.get_submodule("deconv"))
            norm = cast(nn.BatchNorm2d, module.get_submodule("BN_AC.0"))
            cin, cout = deconv.in_channels, deconv.out_channels
            # What one output pixel sums: k^2 / stride^2 taps of every input channel.
            taps = cin * (deconv.kernel_size[0] // deconv.stride[0]) ** 2
            if cin == cout and deconv.stride[0] == 1:
                nn.init.normal_(deconv.weight, std=(0.5 if cout > 3 else 0.1) / math.sqrt(taps))
                deconv.weight[:, :, 2, 2] += torch.eye(cin, device=deconv.weight.device)
            else:
                nn.init.normal_(deconv.weight, std=math.sqrt(2 / taps))
            nn.init.constant_(norm.bias, 0.3 if cout > 3 else 2.0)
    for head in (network.decoder_kpt, network.decoder_offset):
        norm = cast(nn.BatchNorm2d, head[-1].get_submodule("BN_AC.0"))
        nn.init.constant_(norm.weight, 0.1)
        nn.init.zeros_(norm.bias)
    network.pose_bias.copy_(frontal_map(grid))


def frontal_map(grid: UVGrid) -> Tensor:
    """(3, U, U) P of the frontal template in the middle of the crop, in the network's scaling."""
    pose = _frontal_pose().to(grid.template.device) * POSITION_SCALE
    frontal = torch.einsum("ij,jhw->ihw", pose[:, :3], grid.template)
    points = grid.sample(frontal[None])[0]
    middle = (points.amin(0) + points.amax(0)) / 2
    middle[2] = 0
    frontal = alignment.flip_y(frontal - middle[:, None, None], 0)
    frontal[:2] += 127.5
    return frontal / POSITION_SCALE


def with_steps(config: TrainConfig, steps: int | None) -> TrainConfig:
    """The same run with another length, warm-up and encoder steps in proportion."""
    if steps is None or steps == config.steps:
        return config
    if steps <= 0:
        raise UsageError(f"--steps must be positive: {steps}")
    ratio = steps / config.steps
    return replace(
        config,
        steps=steps,
        warmup_steps=int(config.warmup_steps * min(ratio, 1)),
        encoder_steps=int(config.encoder_steps * ratio),
        epoch_steps=max(1, int(config.epoch_steps * ratio)),
    )
