"""The network as it runs fastest: batch norms folded, and OpenVINO on CPUs.

Measured with ``benchmarks/speed.py``: of the time that PyTorch needs for the public layout, the
folded network in channels-last needs about three quarters and OpenVINO half; results differ by
less than 1e-3 of a pixel.
"""

from __future__ import annotations

import copy
import logging
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sadr_cli.errors import MissingDataError
from sadr_cli.model.mobilenet import ConvBnRelu
from sadr_cli.model.network import (
    ConvNormAct,
    NetworkOutput,
    ResidualBlock,
    SADRNet,
    TransposedConvNormAct,
)
from sadr_cli.native import Native, library

_log = logging.getLogger(__name__)

RUNTIMES = ("auto", "torch", "openvino")
CONVERT_AFTER = 32  # faces from which converting (one to three seconds) pays for itself


def fold_batch_norm(network: SADRNet) -> SADRNet:
    """A copy for inference whose convolutions do what their batch norms did."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, ConvNormAct):
            module.pipe[0] = _fold(module.pipe[0], module.pipe[1])
            module.pipe[1] = nn.Identity()
        elif isinstance(module, ResidualBlock):
            for k in (1, 2, 3):
                folded = _fold(getattr(module, f"conv{k}"), getattr(module, f"bn{k}"))
                setattr(module, f"conv{k}", folded)
                setattr(module, f"bn{k}", nn.Identity())
            if isinstance(module.shortcut, nn.Sequential):
                module.shortcut = _fold(*module.shortcut)
        elif isinstance(module, ConvBnRelu):
            module.conv = _fold(module.conv, module.bn)
            module.bn = nn.Identity()
        elif isinstance(module, TransposedConvNormAct):
            module.deconv = _fold(module.deconv, module.BN_AC[0], transpose=True)
            module.BN_AC[0] = nn.Identity()
    return network


def _fold(conv: Any, norm: Any, transpose: bool = False) -> Any:
    return fuse_conv_bn_eval(conv, norm, transpose=transpose)


class _PlainConv(nn.Module):
    """A transposed convolution without stride is a convolution with the kernel turned around;
    its cropped first row and column become the padding."""

    def __init__(self, block: TransposedConvNormAct) -> None:
        super().__init__()
        deconv = block.deconv
        size = deconv.kernel_size[0]
        self.conv = nn.Conv2d(deconv.in_channels, deconv.out_channels, size)
        self.conv.weight.data = deconv.weight.data.transpose(0, 1).flip(2, 3).contiguous()
        if deconv.bias is None or self.conv.bias is None:
            raise ValueError("fold the batch norms first")
        self.conv.bias.data = deconv.bias.data
        before = size - 1 - int(deconv.padding[0]) - 1
        self.pad = (before, size - 1 - before, before, size - 1 - before)
        self.after = block.BN_AC

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.conv(F.pad(x, self.pad)))


class _Traced(nn.Module):
    """The network with its outputs as a tuple, those that it has."""

    def __init__(self, network: SADRNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(t for t in self.network(x) if t is not None)


class OpenVINONetwork:
    """A folded network on the CPU, in 32-bit floating point; called like the network itself.

    threads: how many it may use. Raises MissingDataError when OpenVINO is not installed.
    """

    def __init__(self, folded: SADRNet, threads: int) -> None:
        side = folded.config.input_size
        first = torch.zeros(1, 3, side, side)
        self._compiled = Native(partial(_Compiled, folded, threads), lambda made: made.infer(first))
        try:
            self._compiled()
        except ImportError as error:
            raise MissingDataError(
                "runtime 'openvino' needs the package openvino (pip install openvino)"
            ) from error

    def __call__(self, x: Tensor) -> NetworkOutput:
        """As :meth:`SADRNet.forward`, from several threads one after the other."""
        with self._compiled.alone() as compiled:
            return compiled.infer(x)


class _Compiled:
    """OpenVINO's request for a network."""

    def __init__(self, folded: SADRNet, threads: int) -> None:
        openvino = library("openvino")
        network = copy.deepcopy(folded).to("cpu")
        for decoder in (network.decoder_low, network.decoder_kpt, network.decoder_offset):
            for k, block in enumerate(decoder):
                if isinstance(block, TransposedConvNormAct) and block.deconv.stride[0] == 1:
                    decoder[k] = _PlainConv(block)
        side = network.config.input_size
        example = torch.zeros(2, 3, side, side)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch means to leave TorchScript some day
            traced = torch.jit.trace(_Traced(network).eval(), example, check_trace=False)
            self._has = [t is not None for t in network(example[:1])]
        # The frontend itself: openvino.convert_model would send telemetry.
        frontend = library("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
        ts_decoder = library("openvino.frontend.pytorch.ts_decoder")
        decoder = ts_decoder.TorchScriptPythonDecoder(traced, example_input=(example,))
        model = frontend.convert(frontend.load(decoder))
        model.inputs[0].get_node().set_partial_shape(openvino.PartialShape([-1, 3, side, side]))
        model.validate_nodes_and_infer_types()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def infer(self, x: Tensor) -> NetworkOutput:
        out = self._request.infer([x.contiguous().numpy()], share_inputs=True)
        arrays = iter([torch.from_numpy(out[k].copy()) for k in range(len(out))])
        return NetworkOutput(*(next(arrays) if has else None for has in self._has))  # type: ignore


class Runner:
    """Runs a network on ``device``, by the runtime that is fastest there.

    runtime: "torch", "openvino", or "auto": OpenVINO on a CPU, where it is installed, once
        :data:`CONVERT_AFTER` faces have been seen.
    """

    def __init__(self, network: SADRNet, device: torch.device, runtime: str = "auto") -> None:
        folded = fold_batch_norm(network).to(device)
        self._torch = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._openvino: OpenVINONetwork | None = None
        self._wanted = runtime == "auto" and device.type == "cpu"
        self._seen = 0
        if runtime == "openvino":
            self._openvino = OpenVINONetwork(folded, torch.get_num_threads())

    @property
    def name(self) -> str:
        """The runtime of the next batch."""
        return "torch" if self._openvino is None else "openvino"

    def __call__(self, x: Tensor) -> NetworkOutput:
        """(B, 3, H, H) normalised crops -> outputs."""
        if self._wanted and self._seen >= CONVERT_AFTER:
            self._wanted = False
            try:
                self._openvino = OpenVINONetwork(self._torch, torch.get_num_threads())
            except MissingDataError:  # not installed
                pass
            except Exception as error:  # its failures share no class; PyTorch goes on
                _log.warning("OpenVINO cannot run the network, PyTorch goes on: %s", error)
        self._seen += len(x)
        if self._openvino is not None:
            return self._openvino(x)
        return self._torch(x.contiguous(memory_format=torch.channels_last))
