"""Measures in a few steps whether bfloat16 is faster on this processor."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sadr_cli.model.network import SADRNet

_STEPS = 3


def has_bfloat16() -> bool:
    """Whether the CPU supports bfloat16 natively (avx512_bf16, AMX)."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # another build of PyTorch
        return False


def bfloat16_pays(
    network: SADRNet, crops: Tensor, clock: Callable[[], float] = time.perf_counter
) -> bool:
    """Whether forward and backward pass of ``network`` are faster in bfloat16 than in float32.

    crops: (B, 3, H, H) normalised. A CPU with native bfloat16 times both on a copy; without it the
    answer is no, on CUDA yes.
    """
    if crops.device.type != "cpu":
        return crops.device.type == "cuda"
    if not has_bfloat16():
        return False
    trial = copy.deepcopy(network).train()
    times = {}
    for half in (False, True):
        for step in range(_STEPS + 1):
            if step == 1:  # the first one creates kernels and buffers
                began = clock()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = trial(crops)
            (out.pose_map.float().mean() + out.shape_map.float().mean()).backward()
        times[half] = clock() - began
    return times[True] < times[False]
