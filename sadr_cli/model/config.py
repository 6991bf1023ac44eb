"""A network's configuration and output: records that need no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# How G is obtained: by self-alignment as in the paper or in the public code or, in networks of the
# ablation (Fig. 9), P itself or S under a pose regressed from the features.
MODES = ("paper", "official", "direct", "regressed")
SELF_ALIGNMENTS = MODES[:2]
EPS_WEIGHT = 0.1  # eps of Eq 11

_LARGEST_INPUT, _MOST_CHANNELS = 1024, 4096  # limits, so that no file can exhaust the memory

ENCODERS = ("residual", "mobilenet")


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and parts of a network.

    input_size: side of the square RGB crop, a multiple of 32.
    uv_size: side of the UV maps, input_size / 4, / 2 or the same (0: the same); determines how
        often a head doubles its maps.
    width: factor on all channel counts (1 = the paper's) except those of 3-channel layers.
    attention: features are multiplied by exp(A) (Eq 9); off for the ablation.
    deformation: the shape head outputs D, S = mean + D (Eq 3); off: it outputs S.
    pose_head: a linear layer regresses the pose from the deepest features (Fig. 9b).
    encoder: "residual", the paper's, or "mobilenet" (see ``mobilenet``), whose channel counts do
        not depend on ``width``.
    attention_channels: of the attention branch; 0: the paper's 256 at this width.
    color, pixel_mean, pixel_scale: the network's input is (x - pixel_mean) / pixel_scale of
        pixels x in [0, 255], channels in the order of ``color``, "RGB" or "BGR"; scale 0: each
        image and channel by its own statistics, as the public code does.
    """

    input_size: int = 256
    uv_size: int = 0
    width: float = 1.0
    attention: bool = True
    deformation: bool = True
    pose_head: bool = False
    encoder: str = "residual"
    attention_channels: int = 0
    color: str = "RGB"
    pixel_mean: float = 0.0
    pixel_scale: float = 0.0

    def __post_init__(self) -> None:
        if type(self.input_size) is not int or not 64 <= self.input_size <= _LARGEST_INPUT:
            raise ValueError(f"input_size must be in [64, {_LARGEST_INPUT}]: {self.input_size}")
        if self.input_size % 32:
            raise ValueError(f"input_size must be a multiple of 32: {self.input_size}")
        if self.uv_size == 0:
            object.__setattr__(self, "uv_size", self.input_size)
        if self.input_size not in (self.uv_size, 2 * self.uv_size, 4 * self.uv_size):
            raise ValueError(f"uv_size must be input_size / 1, 2 or 4: {self.uv_size}")
        if not 0 < self.width <= 4 or not 0 <= self.attention_channels <= _MOST_CHANNELS:
            raise ValueError(
                f"width must be in (0, 4], attention_channels in [0, {_MOST_CHANNELS}]: "
                f"{self.width}, {self.attention_channels}"
            )
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder must be {' or '.join(ENCODERS)}: {self.encoder}")
        pixels = (self.pixel_mean, self.pixel_scale)
        if self.color not in ("RGB", "BGR") or not all(0 <= p < 1e6 for p in pixels):
            raise ValueError(
                f"color must be RGB or BGR, pixel_mean and pixel_scale in [0, 1e6): {self.color}, "
                f"{self.pixel_mean}, {self.pixel_scale}"
            )

    def channels(self, n: int) -> int:
        """``n`` channels of the paper at this width, a multiple of 8."""
        return n if n <= 3 else max(8, round(n * self.width / 8) * 8)


class NetworkOutput(NamedTuple):
    """The result of a forward pass; maps (B, 3, U, U), U = uv_size, in the network's scalings.

    pose_map: P, x right and y down from the crop's top-left corner, divided by the position
        scale (``Scaling.position``).
    shape_map: D (or S without ``deformation``) in shape units.
    attention: (B, 1, H / 8, H / 8) logits; None without attention.
    features: (B, C, H / 32, H / 32) deepest features.
    pose: (B, 3, 4) f R and t that place S, y up, from the crop's centre, divided by the position
        scale; None without ``pose_head``.
    """

    pose_map: Tensor
    shape_map: Tensor
    attention: Tensor | None
    features: Tensor
    pose: Tensor | None = None
