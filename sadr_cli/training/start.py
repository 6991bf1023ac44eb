"""The initial weights of a training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.model import alignment
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.mobilenet import MobileNetSADRNet
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.training.config import POSITION_SCALE
from sadr_cli.training.grid import UVGrid


def frontal_pose() -> Tensor:
    """(3, 4) of a frontal face of the usual size in a crop: 80 pixels per shape unit."""
    pose = torch.zeros(3, 4)
    pose[:, :3] = torch.eye(3) * 80.0 / POSITION_SCALE
    return pose


@torch.no_grad()
def initialise(network: SADRNet, grid: UVGrid) -> None:
    """Initial weights with which the decoder soon departs from the mean pose.

    P starts as a frontal mean face (the bias map) and D as zero, by small last gains. Decoder
    layers that keep size and channels start near the identity, since seventeen random layers in a
    row would destroy the pose found by the encoder; the three-channel layers at the end of each
    head start with a positive bias, as ReLU would cut half of every coordinate.
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
    if network.pose_head is not None:
        nn.init.normal_(network.pose_head.weight, std=1e-3)
        network.pose_head.bias.copy_(frontal_pose().flatten())


def frontal_map(grid: UVGrid) -> Tensor:
    """(3, U, U) P of the frontal template centred in the crop, in the network's scaling."""
    pose = frontal_pose().to(grid.template.device) * POSITION_SCALE
    frontal = torch.einsum("ij,jhw->ihw", pose[:, :3], grid.template)
    points = grid.sample(frontal[None])[0]
    middle = (points.amin(0) + points.amax(0)) / 2
    middle[2] = 0
    frontal = alignment.flip_y(frontal - middle[:, None, None], 0)
    frontal[:2] += 127.5
    return frontal / POSITION_SCALE


def read_folded(path: str | Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution of an ONNX file, in the order of computation.

    MissingDataError when the file or the package ``onnx`` is missing, or the file is unsuitable.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingDataError(
            "reading an ONNX file needs the package onnx: pip install 'sadr[export]'"
        ) from error
    try:
        graph = onnx.load(str(path)).graph
        arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        pairs = [n.input[1:3] for n in graph.node if n.op_type == "Conv"]
        return [(torch.tensor(arrays[w]), torch.tensor(arrays[b])) for w, b in pairs]
    except OSError as error:
        raise MissingDataError(f"cannot read encoder {path}: {error.strerror}") from error
    except Exception as error:  # protobuf's errors share no class
        raise MissingDataError(
            f"{path} is not an ONNX file whose convolutions have weight and bias: use 3DDFA_V2's "
            "mb1_120x120.onnx"
        ) from error


def load_encoder(network: SADRNet, path: str | Path, pixels: Tensor) -> None:
    """Start from the pretrained MobileNet encoder of an ONNX file.

    pixels: (B, 3, H, H) normalised crops for the statistics of the batch norms.
    """
    if not isinstance(network, MobileNetSADRNet):
        raise UsageError("only a MobileNet encoder starts from an ONNX file: use its preset")
    try:
        network.load_folded(read_folded(path), pixels)
    except ValueError as error:
        raise MissingDataError(f"{path} contains another network: {error}") from error


def check_encoder(checkpoint: Checkpoint, network: NetworkConfig) -> None:
    """UsageError unless a run of ``network`` can start from the encoder of ``checkpoint``."""
    have = checkpoint.network.config
    kind = (have.encoder, have.input_size, have.width)
    if kind != (network.encoder, network.input_size, network.width):
        raise UsageError(
            f"the encoder of {checkpoint.path or checkpoint.name} is {have.encoder} for "
            f"{have.input_size}-pixel crops and width {have.width}, this run's {network.encoder}, "
            f"{network.input_size} and {network.width}: use the preset it was trained with"
        )


def check_start(checkpoint: Checkpoint, network: NetworkConfig) -> None:
    """UsageError unless a run of ``network`` can start from ``checkpoint``."""
    about = checkpoint.path or checkpoint.name
    if checkpoint.network.config != network:
        raise UsageError(
            f"{about} has another network than this run: use the preset and variant it was "
            f"trained with ({checkpoint.network.config})"
        )
    if checkpoint.scaling.position != POSITION_SCALE or checkpoint.scaling.shape != 1:
        raise UsageError(f"{about} has other units ({checkpoint.scaling}): start without it")
