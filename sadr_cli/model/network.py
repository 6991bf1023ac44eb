"""SADRNet: encoder, attention side branch, shared decoder, two heads (paper III-A, III-B, III-E).

Parameter names and shapes at full width are those of the public checkpoint, so that its state
dict loads without renaming. Width, input size and the parts of the paper's ablation (Table IV)
are settings of the same code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadr_cli.model.config import NetworkConfig as NetworkConfig
from sadr_cli.model.config import NetworkOutput as NetworkOutput

# Channels of the paper at width 1 (III-E): encoder 256x256 -> 8x8, decoder 8x8 -> 64x64,
# heads 64x64 -> 256x256. True marks a layer that halves (encoder) or doubles (decoder) the size.
ENCODER = [(32, True), (32, False), (64, True), (64, False), (128, True), (128, False)]
ENCODER_HIGH = [(256, True), (256, False), (512, True), (512, False)]
DECODER = [
    (512, False), (256, True), (256, False), (256, False), (128, True),
    (128, False), (128, False), (64, True), (64, False), (64, False),
]  # fmt: skip
HEAD = [(32, True), (32, False), (16, True), (16, False), (3, False), (3, False), (3, False)]
STEM, ATTENTION = 16, 256

BN_EPS = 1e-3  # of plain and transposed convolutions; residual blocks keep torch's default


class ConvNormAct(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.pipe = nn.Sequential(
            nn.Conv2d(cin, cout, kernel, padding=padding, bias=False),
            nn.BatchNorm2d(cout, eps=BN_EPS),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pipe(x)


class ResidualBlock(nn.Module):
    """1x1, 4x4, 1x1 bottleneck; the 4x4 pads circularly, 2 before and 1 after in each axis."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        mid = max(cout // 2, 4)
        self.conv1 = nn.Conv2d(cin, mid, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 4, stride=stride, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            self.shortcut = nn.Sequential(
                nn.Conv2d(cin, cout, 1, stride=stride, bias=False),
                nn.BatchNorm2d(cout),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.conv2(F.pad(y, (2, 1, 2, 1), mode="circular"))
        y = F.relu(self.bn2(y), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x), inplace=True)


class AttentionBranch(nn.Module):
    """Five 3x3 convolutions from features to the mask: logits (B, 1, h, w) of A (III-B)."""

    def __init__(self, cin: int, mid: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(cin, mid, 3, 1)
        self.conv2 = ConvNormAct(mid, mid, 3, 1)
        self.conv3 = ConvNormAct(mid, mid, 3, 1)
        self.conv4 = ConvNormAct(mid, mid, 3, 1)
        self.conv5 = nn.Conv2d(mid, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x)))))


class TransposedConvNormAct(nn.Module):
    """4x4 transposed convolution, first row and column cropped, batch norm, optional ReLU."""

    def __init__(self, cin: int, cout: int, stride: int, act: bool = True) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(
            cin, cout, 4, stride=stride, padding=1, output_padding=stride - 1, bias=False
        )
        norm = nn.BatchNorm2d(cout, eps=BN_EPS)
        self.BN_AC = nn.Sequential(norm, nn.ReLU(inplace=True)) if act else nn.Sequential(norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.BN_AC(self.deconv(x)[:, :, 1:, 1:])


class SADRNet(nn.Module):
    """The network; see :class:`NetworkConfig` for sizes and :class:`NetworkOutput` for results.

    Buffer ``pose_bias`` (3, U, U) is added to P: with a mean frontal position map, training starts
    from a face instead of noise; it is zero for the public checkpoint.
    """

    pose_bias: Tensor
    encoder_parts: tuple[str, ...] = ("layer0.", "block")  # prefixes of the encoder's parameters

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        c = config.channels
        low, deepest = self._build_encoder()
        self.deepest = deepest  # channels of ``features``
        self.attention_branch: nn.Module | None = None
        if config.attention:
            channels = config.attention_channels or c(ATTENTION)
            self.attention_branch = AttentionBranch(low, channels)
        self.decoder_low, cout = self._decoder(self._build_neck(deepest), DECODER, 3)
        ups = {1: 2, 2: 1, 4: 0}[config.input_size // config.uv_size]
        self.decoder_kpt, _ = self._decoder(cout, HEAD, ups)
        self.decoder_offset, _ = self._decoder(cout, HEAD, ups)
        self.pose_head: nn.Linear | None = None
        if config.pose_head:
            self.pose_head = nn.Linear(deepest * (config.input_size // 32) ** 2, 12)
        size = config.uv_size
        self.register_buffer("pose_bias", torch.zeros(3, size, size))

    def _build_encoder(self) -> tuple[int, int]:
        """Create the encoder; returns its channels where attention acts, and at the end."""
        c = self.config.channels
        self.layer0 = ConvNormAct(3, c(STEM), 4, 1)
        cin = c(STEM)
        for i, (cout, down) in enumerate(ENCODER + ENCODER_HIGH, 1):
            self.add_module(f"block{i}", ResidualBlock(cin, c(cout), 2 if down else 1))
            cin = c(cout)
        return c(ENCODER[-1][0]), cin

    def _build_neck(self, deepest: int) -> int:
        """Create layers between encoder and decoder; returns the decoder's input channels."""
        return deepest

    def _decoder(
        self, cin: int, layers: list[tuple[int, bool]], ups: int
    ) -> tuple[nn.Sequential, int]:
        """Layers of which only the first ``ups`` upsampling ones do; and their output channels."""
        modules: list[nn.Module] = []
        for i, (n, up) in enumerate(layers):
            cout = self.config.channels(n)
            last = layers is HEAD and i == len(layers) - 1
            doubles = up and ups > 0
            ups -= doubles
            modules.append(TransposedConvNormAct(cin, cout, 2 if doubles else 1, act=not last))
            cin = cout
        return nn.Sequential(*modules), cin

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Deepest features and attention logits of normalised crops (B, 3, H, H)."""
        x = self.layer0(x)
        for i in range(1, len(ENCODER) + 1):
            x = self.get_submodule(f"block{i}")(x)
        x, logits = self._attend(x)
        for i in range(len(ENCODER) + 1, len(ENCODER + ENCODER_HIGH) + 1):
            x = self.get_submodule(f"block{i}")(x)
        return x, logits

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features weighted by the attention (Eq 9), and its logits."""
        if self.attention_branch is None:
            return x, None
        logits = self.attention_branch(x)
        return x * torch.exp(torch.sigmoid(logits)), logits

    def normalize(self, rgb: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) RGB in [0, 255], uint8 or float, as input of the network."""
        return normalize_input(rgb, self.config)

    def decode_low(self, features: Tensor) -> Tensor:
        """The shared part of the decoder, the input of both heads."""
        return self.decoder_low(features)

    def decode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """P / scale and D maps from the deepest features."""
        y = self.decode_low(features)
        return self._head(self.decoder_kpt, y) + self.pose_bias, self._head(self.decoder_offset, y)

    @staticmethod
    def _head(head: nn.Module, y: Tensor) -> Tensor:
        """A head, its three-channel layers in full precision: the rounding error of bfloat16 at
        the far side of a crop would be half a pixel."""
        layers = list(head.children())
        for layer in layers[:-3]:
            y = layer(y)
        first, second, third = layers[-3:]
        if y.dtype == next(third.parameters()).dtype:
            return third(second(first(y)))
        with torch.autocast(y.device.type, enabled=False):
            return third(second(first(y.float())))

    def forward(self, x: Tensor) -> NetworkOutput:
        """Normalised RGB crops (B, 3, H, H) -> maps; see :class:`NetworkOutput`."""
        features, logits = self.encode(x)
        pose_map, shape_map = self.decode(features)
        pose = None
        if self.pose_head is not None:
            flat = features.flatten(1)
            if flat.dtype == torch.float32:
                pose = self.pose_head(flat).view(-1, 3, 4)
            else:
                with torch.autocast(flat.device.type, enabled=False):
                    pose = self.pose_head(flat.float()).view(-1, 3, 4)
        return NetworkOutput(pose_map, shape_map, logits, features, pose)


_PUBLIC = NetworkConfig()  # of the public checkpoint


def normalize_input(rgb: Tensor, config: NetworkConfig = _PUBLIC) -> Tensor:
    """Pixels (B, 3, H, W) RGB in [0, 255], uint8 or float, normalised as ``config`` says.

    Without a fixed scale, per image and channel (x - mean) / sqrt(var + 0.001) of x / 255.
    """
    x = rgb.float()
    if config.color == "BGR":
        x = x.flip(1)
    if config.pixel_scale:
        return (x - config.pixel_mean) / config.pixel_scale
    x = x / 255
    var, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    return (x - mean) * torch.rsqrt(var + 1e-3)
