"""The device a network runs on, and how many crops it takes at once."""

from __future__ import annotations

import os

import torch

from sadr_cli.errors import UsageError

# OpenMP's threads do not survive a fork: a child that used several would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

MAX_BATCH = {"cpu": 8, "cuda": 128, "mps": 16}  # crops per forward pass


def select_device(device: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; UsageError when the named one is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        mps = getattr(torch.backends, "mps", None)
        return torch.device("mps" if mps is not None and mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}: use auto, cpu, cuda, cuda:N or mps") from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise UsageError(
                f"no device {device!r}: PyTorch sees {count} CUDA devices here; use --device cpu"
            )
    elif chosen.type == "mps":
        mps = getattr(torch.backends, "mps", None)
        if mps is None or not mps.is_available():
            raise UsageError("no device 'mps' on this machine: use --device cpu")
    elif chosen.type != "cpu":
        raise UsageError(f"no device {device!r}: use auto, cpu, cuda, cuda:N or mps")
    return chosen


def check_process(made_in: int, device: torch.device) -> None:
    """UsageError on a GPU in a child of process ``made_in``: drivers do not go with a fork."""
    if device.type != "cpu" and os.getpid() != made_in:
        raise UsageError(
            f"a Reconstructor on {device} does not work in a forked process: make it after the "
            "fork, or start processes with multiprocessing's 'spawn'"
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` says that the device has no memory left."""
    kinds = (getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError),)
    return isinstance(error, kinds) or "out of memory" in str(error).lower()
