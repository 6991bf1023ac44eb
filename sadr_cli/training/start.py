"""The weights a training starts from."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from sadr_cli.errors import UsageError
from sadr_cli.model import alignment
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.training.config import POSITION_SCALE
from sadr_cli.training.grid import UVGrid


def frontal_pose() -> Tensor:
    """(3, 4) a frontal face as large as in the crop: about 80 pixels a shape unit."""
    pose = torch.zeros(3, 4)
    pose[:, :3] = torch.eye(3) * 80.0 / POSITION_SCALE
    return pose


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
    if network.pose_head is not None:
        nn.init.normal_(network.pose_head.weight, std=1e-3)
        network.pose_head.bias.copy_(frontal_pose().flatten())


def frontal_map(grid: UVGrid) -> Tensor:
    """(3, U, U) P of the frontal template in the middle of the crop, in the network's scaling."""
    pose = frontal_pose().to(grid.template.device) * POSITION_SCALE
    frontal = torch.einsum("ij,jhw->ihw", pose[:, :3], grid.template)
    points = grid.sample(frontal[None])[0]
    middle = (points.amin(0) + points.amax(0)) / 2
    middle[2] = 0
    frontal = alignment.flip_y(frontal - middle[:, None, None], 0)
    frontal[:2] += 127.5
    return frontal / POSITION_SCALE


def check_encoder(checkpoint: Checkpoint, network: NetworkConfig) -> None:
    """UsageError unless a run of ``network`` can start from the encoder of ``checkpoint``."""
    have = checkpoint.network.config
    if (have.input_size, have.width) != (network.input_size, network.width):
        raise UsageError(
            f"the encoder of {checkpoint.path or checkpoint.name} has {have.input_size}-pixel "
            f"crops and width {have.width}, this run {network.input_size} and {network.width}: "
            "choose the preset it was trained with"
        )


def check_start(checkpoint: Checkpoint, network: NetworkConfig) -> None:
    """UsageError unless a run of ``network`` can start from ``checkpoint``."""
    about = checkpoint.path or checkpoint.name
    if checkpoint.network.config != network:
        raise UsageError(
            f"{about} holds another network than this run trains: choose the preset and variant "
            f"it was trained with ({checkpoint.network.config})"
        )
    if checkpoint.scaling.position != POSITION_SCALE or checkpoint.scaling.shape != 1:
        raise UsageError(f"{about} counts in other units ({checkpoint.scaling}): start without it")
