"""Small constants cached on the device: creating a new one would wait for all work queued there."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """``values`` as a float32 tensor, shared: never change it in place."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
