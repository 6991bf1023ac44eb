"""The device a network runs on, and its batch size."""

from __future__ import annotations

import os
import sys
from ctypes.util import find_library
from pathlib import Path

from sadr_cli.errors import UsageError

MAX_BATCH = {"cpu": 8, "cuda": 128, "mps": 16}  # crops per forward pass
# Device files of the GPU drivers PyTorch supports: NVIDIA, NVIDIA's boards, WSL, AMD.
_DRIVERS = ("nvidia*", "nvmap", "nvhost*", "dxg", "kfd")


def _after_fork() -> None:
    """OpenMP's threads do not survive a fork: a child that used several would hang."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Device(str):
    """The name of a device in PyTorch's notation: "cpu", "cuda", "cuda:1" or "mps"."""

    __slots__ = ()

    @property
    def type(self) -> str:
        return self.partition(":")[0]


def select_device(device: str = "auto") -> Device:
    """``auto`` selects CUDA, else MPS, else the CPU; UsageError when the named one is missing.

    PyTorch, whose import takes long, is used only where there may be an accelerator.
    """
    if device == "cpu" or (device == "auto" and not _may_have_accelerator()):
        return Device("cpu")
    import torch

    has_mps = hasattr(torch.backends, "mps") and torch.backends.mps.is_available()
    if device == "auto":
        return Device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}: use auto, cpu, cuda, cuda:N or mps") from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise UsageError(
                f"no device {device!r}: PyTorch finds {count} CUDA devices here; use --device cpu"
            )
    elif chosen.type == "mps":
        if not has_mps:
            raise UsageError("no device 'mps' on this machine: use --device cpu")
    elif chosen.type != "cpu":
        raise UsageError(f"no device {device!r}: use auto, cpu, cuda, cuda:N or mps")
    return Device(str(chosen))


def _may_have_accelerator() -> bool:
    """False only where there is no GPU driver, so that PyTorch cannot find a device."""
    if sys.platform == "linux":
        folder = Path("/dev")
        return any(next(folder.glob(pattern), None) is not None for pattern in _DRIVERS)
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    return True


def check_process(made_in: int, device: Device) -> None:
    """UsageError on a GPU in a child of process ``made_in``: GPU drivers do not survive a fork."""
    if device.type != "cpu" and os.getpid() != made_in:
        raise UsageError(
            f"a Reconstructor on {device} does not work in a forked process: create it after the "
            "fork, or start processes with multiprocessing's 'spawn'"
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` means that the device has no memory left."""
    torch = sys.modules.get("torch")  # if it is not imported, it cannot have raised the error
    kind = getattr(torch, "OutOfMemoryError", None)
    return (kind is not None and isinstance(error, kind)) or "out of memory" in str(error).lower()
