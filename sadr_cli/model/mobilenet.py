"""MobileNet v1 as the encoder, to start from the pretrained weights of 3DDFA_V2.

Layers and strides are those of Howard et al., "MobileNets" (2017), table 1; 3DDFA_V2 (Guo et al.,
ECCV 2020) regresses the parameters of its face model with them. Attention acts at stride 8 as in
the paper (III-B); a 1 x 1 neck connects the encoder with the paper's decoder.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadr_cli.model.network import ConvNormAct, NetworkConfig, SADRNet

# (channels in, channels out, stride) of each depthwise-separable stage
STAGES = (
    (32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
    (512, 512, 1), (512, 512, 1), (512, 512, 1), (512, 512, 1), (512, 512, 1),
    (512, 1024, 2), (1024, 1024, 1),
)  # fmt: skip
ATTENTION_STAGE = 4  # the last stage at stride 8
# The input format of 3DDFA_V2's weights.
PIXELS: dict[str, Any] = {"color": "BGR", "pixel_mean": 127.5, "pixel_scale": 128.0}


class ConvBnRelu(nn.Module):
    """Convolution (``groups`` as in ``nn.Conv2d``), batch norm, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: Any = nn.BatchNorm2d(cout)  # folded into ``conv`` for inference

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class MobileNetSADRNet(SADRNet):
    """:class:`SADRNet` over MobileNet; ``features`` are its 1,024 channels before the neck."""

    encoder_parts = ("stem.", "dw.", "pw.")

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.frozen_stages = 0

    def _build_encoder(self) -> tuple[int, int]:
        self.stem = ConvBnRelu(3, STAGES[0][0], 3, 2)
        self.dw = nn.ModuleList(ConvBnRelu(a, a, 3, stride, a) for a, _, stride in STAGES)
        self.pw = nn.ModuleList(ConvBnRelu(a, b, 1) for a, b, _ in STAGES)
        return STAGES[ATTENTION_STAGE][1], STAGES[-1][1]

    def _build_neck(self, deepest: int) -> int:
        cout = self.config.channels(512)
        self.neck = ConvNormAct(deepest, cout, 1, 0)
        return cout

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        logits = None
        x = self.stem(x)
        for i, (depthwise, pointwise) in enumerate(zip(self.dw, self.pw, strict=True)):
            x = pointwise(depthwise(x))
            if i == ATTENTION_STAGE:
                x, logits = self._attend(x)
        return x, logits

    def decode_low(self, features: Tensor) -> Tensor:
        return super().decode_low(self.neck(features))

    def convolutions(self) -> list[ConvBnRelu]:
        """The encoder's layers in the order of computation."""
        pairs = zip(self.dw, self.pw, strict=True)
        return [self.stem, *(layer for pair in pairs for layer in pair)]  # type: ignore[list-item]

    def freeze(self, stages: int) -> None:
        """Freeze weights and statistics of the stem and the first ``stages`` stages."""
        self.frozen_stages = stages
        for part in self._frozen():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> MobileNetSADRNet:
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        n = self.frozen_stages
        return [self.stem, *self.dw[:n], *self.pw[:n]] if n else []

    @torch.no_grad()
    def load_folded(self, folded: list[tuple[Tensor, Tensor]], pixels: Tensor) -> None:
        """Load weights and biases of convolutions whose batch norms were folded into them.

        folded: of :meth:`convolutions`, in order; pixels: (B, 3, H, H) normalised crops. Every
        batch norm gets the statistics of ``pixels`` and a gain and bias that cancel them, so that
        the encoder computes the same as the folded one.
        """
        layers = self.convolutions()
        if [tuple(w.shape) for w, _ in folded] != [tuple(m.conv.weight.shape) for m in layers]:
            raise ValueError("these are not the convolutions of MobileNet v1 at full width")
        x = pixels
        for layer, (weight, bias) in zip(layers, folded, strict=True):
            layer.conv.weight.copy_(weight)
            x = layer.conv(x)
            var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            layer.bn.running_mean.copy_(mean)
            layer.bn.running_var.copy_(var)
            layer.bn.weight.copy_((var + layer.bn.eps).sqrt())
            layer.bn.bias.copy_(mean + bias.to(mean))
            x = F.relu(x + bias.to(x)[None, :, None, None], inplace=True)


assert all(a[1] == b[0] for a, b in pairwise(STAGES))
