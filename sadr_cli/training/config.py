"""What decides a training run: settings, presets, the variants of the paper's ablation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sadr_cli.errors import UsageError
from sadr_cli.model.network import NetworkConfig
from sadr_cli.training.augment import AugmentConfig
from sadr_cli.training.losses import LossWeights

POSITION_SCALE = 280.0  # the network's P is in pixels of a 256-pixel crop over this


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run.

    alignment: how P and S become G, see ``alignment.MODES``.
    steps: optimiser steps; warmup_steps: linear from lr / 10 to lr (III-E).
    schedule: "cosine" to zero, "exponential" (0.85 a ``epoch_steps``, the paper's) or "constant".
    max_hours: training ends, and a cosine reaches zero, after this time even if steps remain.
    encoder_steps: first steps that train encoder and regressor alone, without the decoder.
    flatten_yaw: 0 samples photos as they come, 1 gives every 15 degrees of |yaw| the same share.
    clean: share of the photos with the least trusted labels that is left out.
    distill: 0 takes the labels as truth, 1 the teacher's P and S, between: the mean in between.
    encoder_lr: the encoder's learning rate over that of the rest, for pretrained encoders.
    freeze: first stages of a MobileNet encoder that stay as they are.
    average: decay of the running average of the weights, which is what is saved and validated.
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
    # The paper's III-E: 122,450 + 5,000 photos, batch 16, 25 epochs, 4 of them warm-up; nothing
    # beside its augmentation and losses. The supplement beyond 90 degrees was 4 % of its photos.
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

# The MobileNet encoder with 3DDFA_V2's weights (`encoder_from`): what the weights `mobile` were
# trained with, on one GPU; on CPUs smaller batches and a lower rate do.
PRESETS["mobile"] = replace(
    PRESETS["lite"],
    network=NetworkConfig(
        input_size=128,
        uv_size=64,
        width=0.5,
        encoder="mobilenet",
        attention_channels=32,
        color="BGR",
        pixel_mean=127.5,
        pixel_scale=128.0,
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
    """The same run with the parts of a row of Table IV; UsageError for an unknown name."""
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
