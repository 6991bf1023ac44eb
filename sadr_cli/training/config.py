"""The configuration of a training run, presets, and the variants of the paper's ablation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sadr_cli.errors import UsageError
from sadr_cli.model.config import NetworkConfig
from sadr_cli.model.mobilenet import PIXELS
from sadr_cli.training.augment import AugmentConfig
from sadr_cli.training.losses import LossWeights

POSITION_SCALE = 280.0  # the network's P times this is in pixels of a 256-pixel crop


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines what a training run learns.

    alignment: how P and S become G, see ``alignment.MODES``.
    steps: optimiser steps; warmup_steps: linear from lr / 10 to lr (III-E).
    schedule: "cosine" to zero, "exponential" (0.85 per ``epoch_steps``, the paper's) or "constant".
    max_hours: training ends, and a cosine reaches zero, after this time even if steps remain.
    encoder_steps: initial steps that train only encoder and regressor, without the decoder.
    flatten_yaw: 0 samples photos uniformly, 1 gives every 15 degrees of |yaw| the same share.
    clean: share of the photos left out because their labels are the least reliable.
    distill: weight of the teacher's P and S against the labels, from 0 to 1.
    encoder_lr: factor on the encoder's learning rate, for pretrained encoders.
    freeze: number of initial stages of a MobileNet encoder that are not trained.
    average: decay of the running average of the weights, which is saved and validated.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    alignment: str = "paper"
    steps: int = 190_000
    batch_size: int = 16
    lr: float = 1e-4
    warmup_steps: int = 30_000
    schedule: str = "exponential"
    epoch_steps: int = 7_650
    max_hours: float | None = None
    encoder_steps: int = 0
    flatten_yaw: float = 0.0
    clean: float = 0.0
    distill: float = 0.0
    average: float = 0.999
    weight_decay: float = 0.0
    encoder_lr: float = 1.0
    freeze: int = 0
    seed: int = 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """The inverse of ``dataclasses.asdict``."""
        return cls(
            **{
                **data,
                "network": NetworkConfig(**data["network"]),
                "augment": AugmentConfig(**data["augment"]),
                "loss": LossWeights(**data["loss"]),
            }
        )


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; nothing here changes what is learned.

    photo_side: pixels of the stored photos; 0: the network's input, at least 160.
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


PRESETS: dict[str, TrainConfig] = {
    # The paper's III-E: 122,450 + 5,000 photos, batch 16, 25 epochs, 4 of them warm-up; only its
    # own augmentation and losses. The supplement beyond 90 degrees was 4 % of its photos.
    "paper": TrainConfig(
        augment=AugmentConfig(
            grey=0.0, blur=0.0, noise=0.0, fill=0.0, profiling=0.04, beyond=1.0, pitch=0.0
        ),
    ),
    "full": TrainConfig(
        batch_size=256,
        lr=1e-3,
        steps=20_000,
        warmup_steps=500,
        schedule="cosine",
        flatten_yaw=0.5,
        loss=LossWeights(landmarks=0.5, regressor=0.1),
        augment=AugmentConfig(
            rotation_wide=0.3, blur=0.15, low_resolution=0.2, jpeg=0.2, profiling=0.3
        ),
    ),
    "lite": TrainConfig(
        network=NetworkConfig(input_size=128, uv_size=64, width=0.5),
        batch_size=32,
        lr=1e-3,
        steps=10_000,
        warmup_steps=200,
        schedule="cosine",
        encoder_steps=5_000,
        flatten_yaw=0.5,
        # With the paper's weights for the shape, D stayed constant for 3,000 steps.
        loss=LossWeights(deformation=5.0, edge=5.0, normal=0.5, landmarks=0.5, regressor=0.3),
        augment=AugmentConfig(
            rotation=75.0,
            rotation_wide=0.15,
            shift=0.06,
            blur=0.1,
            noise=0.1,
            occlusion=0.25,
            low_resolution=0.15,
            jpeg=0.1,
            profiling=0.15,
        ),
    ),
}

# The MobileNet encoder with 3DDFA_V2's weights (`encoder_from`), as the weights `mobile` were
# trained on one GPU; CPUs need smaller batches and a lower rate.
PRESETS["mobile"] = replace(
    PRESETS["lite"],
    network=NetworkConfig(
        input_size=128,
        uv_size=64,
        width=0.5,
        encoder="mobilenet",
        attention_channels=32,
        **PIXELS,
    ),
    batch_size=512,
    lr=2e-3,
    steps=2_900,
    warmup_steps=400,
    encoder_steps=0,
    encoder_lr=0.3,
    flatten_yaw=0.6,
    clean=0.03,
    weight_decay=1e-4,
    loss=LossWeights(
        deformation=8.0, edge=5.0, normal=0.5, landmarks=1.5, visible=0.5, regressor=0.2, human=0.15
    ),
    augment=replace(
        PRESETS["lite"].augment,
        rotation=60.0,
        shift=0.08,
        zoom=0.12,
        occlusion=0.35,
        profiling=0.25,
        cut=0.1,
    ),
)

# Rows of Table IV and frameworks of Fig. 9, as (attention, deformation, alignment).
VARIANTS: dict[str, tuple[bool, bool, str]] = {
    "direct": (False, True, "direct"),  # row 1, Fig. 9a: P is the result, as in PRNet
    "regressed-pose": (False, True, "regressed"),  # row 2, Fig. 9b: pose from the features
    "no-attention": (False, True, "paper"),  # row 3, Fig. 9c, SADRNet-D
    "attention-only": (True, True, "direct"),  # row 4, Fig. 9d
    "no-deformation": (True, False, "paper"),  # row 5, Fig. 9e: S itself is regressed
    "sadrnet": (True, True, "paper"),  # row 6
}


def with_variant(config: TrainConfig, name: str) -> TrainConfig:
    """The same run for a variant of Table IV; UsageError for an unknown name."""
    if name not in VARIANTS:
        raise UsageError(f"no variant {name!r}: use {', '.join(VARIANTS)}")
    attention, deformation, mode = VARIANTS[name]
    network = replace(
        config.network,
        attention=attention,
        deformation=deformation,
        pose_head=mode == "regressed",
    )
    return replace(config, network=network, alignment=mode)


def with_steps(config: TrainConfig, steps: int) -> TrainConfig:
    """The same run with another length; warm-up and encoder steps change in proportion."""
    ratio = steps / config.steps
    return replace(
        config,
        steps=steps,
        warmup_steps=int(config.warmup_steps * min(ratio, 1)),
        encoder_steps=int(config.encoder_steps * ratio),
        epoch_steps=max(1, int(config.epoch_steps * ratio)),
    )
