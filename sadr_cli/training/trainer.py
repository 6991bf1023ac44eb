"""The training loop: schedule, optimiser, average of the weights, resumption (III-D, III-E)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.model.encoders import create_network
from sadr_cli.model.mobilenet import MobileNetSADRNet
from sadr_cli.model.network import NetworkOutput, SADRNet
from sadr_cli.training.config import TrainConfig
from sadr_cli.training.dataset import PhotoSet, balanced_weights, trusted
from sadr_cli.training.distill import Teacher
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.objective import compute_losses
from sadr_cli.training.precision import bfloat16_pays
from sadr_cli.training.start import frontal_pose, initialise, load_encoder
from sadr_cli.training.state import STATE_VERSION, pack, read_state, write_state
from sadr_cli.training.synthesis import SampleMaker


class Regressor(nn.Module):
    """Used in training only: a linear map from the deepest features to pose and coefficients.

    It gives the encoder a direct gradient from the first step; without it the decoder stays at
    the mean pose for hundreds of steps.
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

    photos: on the device; grid: the face model at the network's UV resolution.
    backgrounds: images without faces for fills and occluders, on the device.
    teacher: its predictions are blended with the labels by ``config.distill``.
    compiled: torch.compile the network; if that fails, training continues without it.

    In a step the host waits for the device only in the alignment's 3 x 3 decompositions.
    """

    def __init__(
        self,
        config: TrainConfig,
        photos: PhotoSet,
        grid: UVGrid,
        device: torch.device,
        backgrounds: Tensor | None = None,
        *,
        teacher: Teacher | None = None,
        compiled: bool = False,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.photos, self.grid, self.device = config, photos, grid, device
        self.network = create_network(config.network)
        initialise(self.network, grid)
        if config.freeze:
            if not isinstance(self.network, MobileNetSADRNet):
                raise UsageError("only the stages of a MobileNet encoder can be frozen")
            self.network.freeze(config.freeze)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        k = photos.coefficients.shape[1]
        cells = config.network.input_size // 32
        self.regressor = Regressor(self.network.deepest, cells, k).to(device)
        self.regressor.linear.bias.data[:12] = frontal_pose().flatten().to(device)
        encoder, rest = self._parameter_groups()
        self.parameters = [*encoder, *rest]
        self.optimizer = torch.optim.AdamW(
            [{"params": encoder, "factor": config.encoder_lr}, {"params": rest, "factor": 1.0}],
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=True if device.type in ("cuda", "cpu") else None,
        )
        self._reset_average()
        self.step = 0
        self.samples = 0
        self.seconds = 0.0
        if config.distill and teacher is None:
            raise UsageError("distillation needs a teacher: set its checkpoint as data.teacher")
        self.teacher = teacher if config.distill else None
        generator = torch.Generator(device=device).manual_seed(config.seed)
        self.maker = SampleMaker(
            photos,
            grid,
            config.network,
            config.augment,
            backgrounds,
            generator,
            image_size=self.teacher.image_size if self.teacher else None,
        )
        weights = balanced_weights(photos.yaw, config.flatten_yaw).cpu() * trusted(
            photos, config.clean
        )
        self.row_weights = weights.double().cumsum(0).to(device)
        self.half = bfloat16_pays(self.network, self._plain_crops(8))
        self.warn = warn
        self._forward: Callable[[Tensor], NetworkOutput] = self.network
        self.compiled = compiled
        self._proven = False  # whether compilation works
        if compiled:
            self._forward = torch.compile(self.network)

    def start_mobilenet(self, path: str | Path) -> None:
        """Start from the pretrained encoder of an ONNX file, see ``start.load_encoder``."""
        load_encoder(self.network, path, self._plain_crops(256))
        self._reset_average()

    def _reset_average(self) -> None:
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def _plain_crops(self, count: int) -> Tensor:
        """Normalised crops (B, 3, H, H) of at most ``count`` photos, evenly spaced in the set."""
        n = len(self.photos)
        rows = torch.linspace(0, n - 1, min(count, n)).long().to(self.device)
        images = self.maker(rows, augment=False).images
        side = self.config.network.input_size
        if images.shape[-1] != side:  # a teacher's
            images = nn.functional.interpolate(images, size=side, mode="bilinear", antialias=True)
        return self.network.normalize(images).contiguous(memory_format=torch.channels_last)

    def _parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The trained parameters: the encoder's; those of all other parts and the regressor."""
        encoder: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                own = name.startswith(self.network.encoder_parts)
                (encoder if own else rest).append(parameter)
        return encoder, [*rest, *self.regressor.parameters()]

    def start_from(self, network: SADRNet) -> None:
        """Start from the weights of ``network``, with a new optimiser."""
        self.network.load_state_dict(network.state_dict())
        self._reset_average()

    def start_encoder(self, network: SADRNet) -> None:
        """Start from the encoder of ``network``, without its attention branch."""
        mine = self.network.state_dict()
        for key, value in network.state_dict().items():
            if key.startswith(network.encoder_parts):
                mine[key].copy_(value)
        self._reset_average()

    # One step -------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Finished share of the run, in [0, 1], by steps or by time."""
        done = self.step / self.config.steps
        if self.config.max_hours:
            done = max(done, self.seconds / 3600 / self.config.max_hours)
        return min(done, 1.0)

    def learning_rate(self) -> float:
        """Learning rate of the next step: linear warm-up, then the schedule (III-E)."""
        c, step = self.config, self.step
        if step < c.warmup_steps:
            return c.lr * (0.1 + 0.9 * step / c.warmup_steps)
        if c.schedule == "constant":
            return c.lr
        if c.schedule == "exponential":
            return c.lr * float(0.85 ** ((step - c.warmup_steps) // c.epoch_steps))
        return c.lr * max(0.5 * (1 + math.cos(math.pi * self.progress)), 1e-3)

    def train_step(self) -> dict[str, Tensor]:
        """One optimiser step; returns the losses as scalars on the device."""
        began = time.monotonic()
        config = self.config
        index = self.maker.draws.weighted(self.row_weights, config.batch_size)
        batch = self.maker(index)
        if self.teacher is not None:
            batch = self.teacher(batch, config.distill, config.network.input_size)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["factor"]
        self.network.train()
        x = self.network.normalize(batch.images).contiguous(memory_format=torch.channels_last)
        try:
            parts = self._backward(batch, x)
        except Exception as error:
            if not self.compiled or self._proven:
                raise
            self.warn(f"continuing without torch.compile, which failed: {_first_line(error)}")
            self._forward, self.compiled = self.network, False
            parts = self._backward(batch, x)
        self._proven = self._proven or self.step >= config.encoder_steps
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self.samples += config.batch_size
        self._update_average()
        self.seconds += time.monotonic() - began
        return parts

    def _backward(self, batch: Any, x: Tensor) -> dict[str, Tensor]:
        """Losses of a batch and their gradients."""
        output = None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            if self.step < self.config.encoder_steps:
                features, logits = self.network.encode(x)
            else:
                output = self._forward(x)
                features, logits = output.features, output.attention
        regressed = self.regressor(features.float())
        parts = compute_losses(self.config, self.grid, batch, output, logits, regressed)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        return {k: v.detach() for k, v in parts.items()}

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average restarts with the decoder, which is not trained before.
        behind = self.step - self.config.encoder_steps
        age = behind if behind > 0 else self.step
        decay = min(self.config.average, (1 + age) / (10 + age))
        now = self.network.state_dict()
        floats = [k for k, v in now.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in floats], [now[k] for k in floats], 1 - decay)
        for key in now.keys() - set(floats):
            self.average[key].copy_(now[key])

    def averaged_network(self) -> SADRNet:
        """A copy of the network with the running average of the weights, in eval mode."""
        network = create_network(self.config.network)
        network.load_state_dict(self.average)
        return network.to(self.device).eval()

    # State ----------------------------------------------------------------------------------

    def save_state(
        self,
        path: Path,
        *,
        compact: bool = False,
        piece: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> list[Path]:
        """Write the complete state of the training atomically; ``state`` describes the forms."""
        state = {
            **(extra or {}),
            "version": STATE_VERSION,
            "config": json.dumps(asdict(self.config)),
            "network": self.network.state_dict(),
            "average": self.average,
            "regressor": self.regressor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
        }
        return write_state(path, pack(state) if compact else state, piece)

    def load_state(self, path: Path) -> None:
        """Continue from a state file; MissingDataError when it does not fit this network."""
        state = read_state(path, self.device)
        flags = [{k: g[k] for k in ("fused", "foreach")} for g in self.optimizer.param_groups]
        try:
            self.network.load_state_dict(state["network"])
            for key, value in self.average.items():
                value.copy_(state["average"][key])
            self.regressor.load_state_dict(state["regressor"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.samples = state["step"], state["samples"]
            self.seconds = state["seconds"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise MissingDataError(
                f"{path} is not a training state of this network: use the settings it was "
                f"trained with, or start a new run ({_first_line(error)})"
            ) from error
        for group, own in zip(self.optimizer.param_groups, flags, strict=True):
            group.update(own)  # implementation flags of this machine, not of the saving one
        for parameter, entry in self.optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):  # in the parameter's memory layout
                entry[key] = torch.empty_like(parameter).copy_(entry[key])
        # New samples, not those already used.
        self.maker.draws.seed(self.config.seed + 1000 * self.step)

    def run(self, stop_at: int | None = None) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Train; yields step number and losses after each step, until ``stop_at`` or the end."""
        while self.progress < 1 and (stop_at is None or self.step < stop_at):
            parts = self.train_step()
            yield self.step, parts


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
