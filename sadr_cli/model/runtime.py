"""The runtime of the network: chosen before the first face, and kept.

On a CPU it is OpenVINO, where it is installed and supports the network: it takes half of PyTorch's
time, and results differ by less than 1e-3 of a pixel. It processes crops one by one, each in one
thread, so that a face does not depend on the others in a batch. PyTorch is imported only if it
runs the network, or if the network has not been compiled on this machine yet.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.compiled import Compiled
from sadr_cli.errors import MissingDataError
from sadr_cli.model.checkpoint import Checkpoint
from sadr_cli.model.config import NetworkOutput
from sadr_cli.model.device import Device
from sadr_cli.version import __version__

_log = logging.getLogger(__name__)

RUNTIMES = ("auto", "torch", "openvino")
_SHARING = 2  # threads on a crop for low latency: more have not been seen to give the same bytes
_GRAPH = 2  # increased whenever the model compiled from the same weights changes

_shared: dict[tuple[str, int], Compiled] = {}  # by weights and threads, for the whole process


class OpenVINONetwork:
    """A checkpoint's network on the CPU, in 32-bit floating point.

    threads: that share the work on a crop, see :class:`Compiled`; the results are the same bytes.
    Raises MissingDataError when OpenVINO is not installed.
    """

    def __init__(self, checkpoint: Checkpoint, threads: int = 1) -> None:
        config = checkpoint.config
        side = config.input_size
        self._has = (True, True, config.attention, True, config.pose_head)

        def build(openvino: Any) -> Any:
            from sadr_cli.model.folding import openvino_model

            return openvino_model(checkpoint.network, openvino)

        example = np.zeros((1, side, side, 3), np.uint8)
        known = checkpoint.sha256 and f"{checkpoint.sha256} {__version__} {_GRAPH}"
        compiled = Compiled("network", known, build, [example], threads)
        self._compiled = _shared.setdefault((known, threads), compiled) if known else compiled
        try:
            self._compiled.start()
        except ImportError as error:
            raise MissingDataError(
                "runtime 'openvino' needs the package openvino (pip install openvino)"
            ) from error

    def __call__(self, crops: NDArray[np.uint8]) -> NetworkOutput:
        """(B, H, H, 3) uint8 RGB -> outputs as arrays, from any number of threads."""
        inputs = ([np.ascontiguousarray(crop[None])] for crop in crops)
        arrays = [np.concatenate(a) for a in zip(*self._compiled.many(inputs), strict=True)]
        rest = iter(arrays)
        return NetworkOutput(*(next(rest) if has else None for has in self._has))  # type: ignore


class Runner:
    """Runs a checkpoint's network on ``device``.

    runtime: "torch", "openvino", or "auto": OpenVINO on a CPU, if it supports the network.
    half: bfloat16 in PyTorch.
    """

    name: str  # of the runtime

    def __init__(
        self, checkpoint: Checkpoint, device: Device, runtime: str = "auto", half: bool = False
    ) -> None:
        run: Callable[[Any], NetworkOutput] | None = None
        if runtime == "openvino":
            run = OpenVINONetwork(checkpoint)
        elif runtime == "auto" and device.type == "cpu" and not half:
            run = _openvino_if_possible(checkpoint)
        self.name = "torch" if run is None else "openvino"
        if run is None:
            from sadr_cli.model.folding import TorchNetwork

            run = TorchNetwork(checkpoint.network, device, half)
        self._checkpoint, self._run = checkpoint, run

    def __call__(self, crops: Any) -> NetworkOutput:
        """(B, H, H, 3) uint8 RGB crops -> outputs: arrays, or tensors on the device."""
        return self._run(crops)

    def low_latency(self) -> Runner:
        """One with the same results that takes less time for a crop and more for many."""
        if self.name != "openvino":
            return self  # PyTorch's threads share whatever there is
        quick = copy.copy(self)
        quick._run = OpenVINONetwork(self._checkpoint, threads=_SHARING)
        return quick


def _openvino_if_possible(checkpoint: Checkpoint) -> OpenVINONetwork | None:
    try:
        return OpenVINONetwork(checkpoint)
    except MissingDataError:  # not installed, or a bad checkpoint, which raises again in PyTorch
        return None
    except Exception as error:  # OpenVINO's errors share no class
        _log.warning("OpenVINO cannot run the network, using PyTorch: %s", error)
        return None
