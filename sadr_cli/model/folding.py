"""Networks optimised for PyTorch and OpenVINO: batch norms folded into convolutions."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sadr_cli.model.config import NetworkOutput
from sadr_cli.model.mobilenet import ConvBnRelu
from sadr_cli.model.network import ConvNormAct, ResidualBlock, SADRNet, TransposedConvNormAct
from sadr_cli.native import library

_fuse: Any = fuse_conv_bn_eval  # also of transposed convolutions, which its types leave out


def fold_batch_norm(network: SADRNet) -> SADRNet:
    """A copy for inference with the batch norms folded into the convolutions."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, ConvNormAct):
            module.pipe[0] = _fuse(module.pipe[0], module.pipe[1])
            module.pipe[1] = nn.Identity()
        elif isinstance(module, ResidualBlock):
            for k in (1, 2, 3):
                folded = _fuse(getattr(module, f"conv{k}"), getattr(module, f"bn{k}"))
                setattr(module, f"conv{k}", folded)
                setattr(module, f"bn{k}", nn.Identity())
            if isinstance(module.shortcut, nn.Sequential):
                module.shortcut = _fuse(*module.shortcut)
        elif isinstance(module, ConvBnRelu):
            module.conv = _fuse(module.conv, module.bn)
            module.bn = nn.Identity()
        elif isinstance(module, TransposedConvNormAct):
            module.deconv = _fuse(module.deconv, module.BN_AC[0], transpose=True)
            module.BN_AC[0] = nn.Identity()
    return network


class _PlainConv(nn.Module):
    """A transposed convolution of the decoder as a plain convolution.

    Without stride it has the flipped kernel; with a stride of two it has 2 x 2 kernels and outputs
    the four pixels of every block as channels. Cropping the first row and column of the transposed
    convolution becomes padding.
    """

    def __init__(self, block: TransposedConvNormAct) -> None:
        super().__init__()
        deconv = block.deconv
        if deconv.bias is None:
            raise ValueError("fold the batch norms first")
        step, size = int(deconv.stride[0]), int(deconv.kernel_size[0])
        kernel = deconv.weight.data.transpose(0, 1).flip(2, 3)  # (out, in, 4, 4)
        parts = [kernel[:, :, y::step, x::step] for y, x in np.ndindex(step, step)]
        # Pixel p of a block uses every step-th row of the flipped kernel, from row 1 - p on.
        weight = torch.stack(parts[::-1], 1).flatten(0, 1).contiguous()
        self.conv = nn.Conv2d(deconv.in_channels, len(weight), size // step)
        self.conv.weight.data = weight
        self.conv.bias = nn.Parameter(deconv.bias.data.repeat_interleave(step * step))
        before = (size // step - 1) // 2
        after = size // step - 1 - before
        self.pad = (before, after, before, after)
        self.shuffle = nn.PixelShuffle(step) if step > 1 else nn.Identity()
        self.after = block.BN_AC

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.after(self.conv(F.pad(x, self.pad))))


class TorchNetwork:
    """A network on ``device`` for crops of pixels; half: in bfloat16.

    On a CPU it processes crops one by one, so that a face does not depend on others in the batch.
    """

    def __init__(self, network: SADRNet, device: str, half: bool = False) -> None:
        folded = fold_batch_norm(network).to(device)
        self._network = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._half = torch.device(device), half

    @torch.inference_mode()
    def __call__(self, crops: NDArray[Any] | Tensor) -> NetworkOutput:
        """(B, H, H, 3) uint8 RGB -> outputs, on the device."""
        if not isinstance(crops, Tensor):
            crops = torch.from_numpy(np.ascontiguousarray(crops))
        pixels = crops.to(self._device).permute(0, 3, 1, 2)
        if self._device.type != "cpu":
            return self._run(pixels)
        parts = zip(*(self._run(one) for one in pixels.split(1)), strict=True)
        return NetworkOutput(*(None if p[0] is None else torch.cat(p) for p in parts))  # type: ignore

    def _run(self, pixels: Tensor) -> NetworkOutput:
        x = self._network.normalize(pixels).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            return self._network(x)


class _OfPixels(nn.Module):
    """Crops (1, H, H, 3) uint8 RGB -> a tuple of the network's outputs, without None."""

    def __init__(self, network: SADRNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        x = self.network.normalize(crops.permute(0, 3, 1, 2))
        return tuple(t for t in self.network(x) if t is not None)


def openvino_model(network: SADRNet, openvino: Any) -> Any:
    """The OpenVINO model for one crop (1, H, H, 3) uint8 RGB; outputs as in ``NetworkOutput``,
    without None."""
    network = fold_batch_norm(network).cpu().float()
    for decoder in (network.decoder_low, network.decoder_kpt, network.decoder_offset):
        for k, block in enumerate(decoder):
            if isinstance(block, TransposedConvNormAct):
                decoder[k] = _PlainConv(block)
    side = network.config.input_size
    example = (torch.zeros(1, side, side, 3, dtype=torch.uint8),)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch has deprecated TorchScript
        traced = torch.jit.trace(_OfPixels(network).eval(), example, check_trace=False)
    # Uses the frontend directly: openvino.convert_model would send telemetry.
    frontend = library("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
    ts_decoder = library("openvino.frontend.pytorch.ts_decoder")
    decoder = ts_decoder.TorchScriptPythonDecoder(traced, example_input=example)
    model = frontend.convert(frontend.load(decoder))
    model.inputs[0].get_node().set_partial_shape(openvino.PartialShape([1, side, side, 3]))
    model.validate_nodes_and_infer_types()
    return model
