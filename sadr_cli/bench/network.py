"""Times of the network and of the steps after it, with all candidates in one run.

Every candidate runs once per round, so that other load on the machine affects all of them alike;
ratios are those of the medians.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sadr_cli.bench.report import Row
from sadr_cli.errors import MissingDataError
from sadr_cli.faces import Crop
from sadr_cli.model.checkpoint import Checkpoint, find_weights, load_layout
from sadr_cli.model.folding import fold_batch_norm
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.model.runtime import OpenVINONetwork, Runner
from sadr_cli.native import Native, library
from sadr_cli.reconstructor import Reconstructor

BASELINE = "public layout, PyTorch eager"
BATCH = 8
FULL_AIM, LITE_AIM = "<= 0.6", "<= 0.2"
Call = Callable[[], Any]


def in_turn(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Median seconds of each call; all run once per round, after a warm-up."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(t)) for name, t in times.items()}


def network_times(
    reconstructor: Reconstructor, threads: int = 2, rounds: int = 9, everything: bool = False
) -> list[Row]:
    """Milliseconds per face on the CPU: the unmodified public layout, and the candidates.

    everything: also torch.compile and ONNX Runtime, which take minutes to set up.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            calls = {BASELINE: _eager(_full().network, 256)}
            calls |= _candidates("full network", _full(), threads, everything)
            own = reconstructor.checkpoint
            calls |= _candidates(f"{reconstructor.info.name} weights", own, threads, False)
            times = in_turn(calls, rounds)
    finally:
        torch.set_num_threads(before)
    base = times.pop(BASELINE)
    note, ms = f"batch {BATCH}, {threads} threads", 1000 / BATCH
    rows = [Row("network", BASELINE, base * ms, "ms per face", 1.0, "", note)]
    for name, seconds in times.items():
        aim = FULL_AIM if "full network" in name else LITE_AIM
        rows.append(Row("network", name, seconds * ms, "ms per face", seconds / base, aim))
    return rows


def _full() -> Checkpoint:
    """The paper's network with random weights, which do not affect its speed."""
    torch.manual_seed(0)
    return Checkpoint(SADRNet(NetworkConfig()).eval(), load_layout(find_weights()))


def _pixels(batch: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)


def _eager(network: Callable[..., Any], side: int) -> Call:
    """A network in unmodified PyTorch, for normalised crops."""
    x = torch.randn(BATCH, 3, side, side)
    return lambda: network(x)


def _candidates(
    label: str, checkpoint: Checkpoint, threads: int, everything: bool
) -> dict[str, Call]:
    network = checkpoint.network.to("cpu")
    side = network.config.input_size
    crops = _pixels(BATCH, side)
    calls: dict[str, Call] = {}
    plain = fold_batch_norm(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if everything:
        calls[f"{label}, folded"] = _eager(fold_batch_norm(network), side)
        if onnx := _onnx_runtime(fold_batch_norm(network), side, threads):
            calls[f"{label}, ONNX Runtime"] = _eager(onnx, side)
    calls[f"{label}, folded, channels-last"] = _eager(plain, side)
    if everything:
        calls[f"{label}, torch.compile"] = _eager(torch.compile(plain), side)
    try:
        best = OpenVINONetwork(checkpoint)
    except MissingDataError:
        return calls
    return {**calls, f"{label}, OpenVINO": lambda: best(crops)}


def _onnx_runtime(network: nn.Module, side: int, threads: int) -> Callable[[Any], Any] | None:
    example = torch.zeros(BATCH, 3, side, side)
    load = partial(_onnx_session, network, example, threads)
    session = Native(load, lambda made: made.run(None, {"x": example.numpy()}))
    try:
        run = session().run
    except ImportError:
        return None
    return lambda x: run(None, {"x": x.numpy()})


def _onnx_session(network: nn.Module, example: Tensor, threads: int) -> Any:
    import onnx  # noqa: F401

    onnxruntime = library("onnxruntime")
    buffer: Any = io.BytesIO()
    with torch.inference_mode(False), torch.no_grad():
        torch.onnx.export(
            network, (example,), buffer, dynamo=True, verbose=False, input_names=["x"]
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        buffer.getvalue(), options, providers=["CPUExecutionProvider"]
    )


def alignment_share(reconstructor: Reconstructor, rounds: int = 9) -> list[Row]:
    """Time of the steps after the network, as a share of the network's."""
    side, device = reconstructor.crop_resolution, reconstructor.device
    x = _pixels(BATCH, side)
    crops = [Crop(100.0, 100.0, 150.0)] * BATCH
    full = Runner(_full(), device, "auto")
    big = _pixels(BATCH, 256)
    with torch.inference_mode():
        output = reconstructor.runner(x)
        arrays = reconstructor._align(output)

        def wait(call: Call) -> Call:
            def waited() -> None:
                call()
                if device.type == "cuda":
                    torch.cuda.synchronize()

            return waited

        times = in_turn(
            {
                "full": wait(lambda: full(big)),
                "own": wait(lambda: reconstructor.runner(x)),
                "alignment": wait(lambda: reconstructor._align(output)),
                "faces": lambda: reconstructor._faces(arrays, crops, [None] * BATCH),
            },
            rounds,
        )
    after = times["alignment"] + times["faces"]
    ms, name = 1000 / BATCH, reconstructor.info.name
    return [
        Row("alignment", "self-alignment", times["alignment"] * ms, "ms per face"),
        Row("alignment", "mesh and record", times["faces"] * ms, "ms per face"),
        Row("alignment", "both, of the full network", after * ms, "ms per face",
            after / times["full"], "< 0.05", f"network {times['full'] * ms:.1f} ms"),
        Row("alignment", f"both, of {name}", after * ms, "ms per face",
            after / times["own"], "", f"network {times['own'] * ms:.1f} ms"),
    ]  # fmt: skip


class _Traffic(TorchDispatchMode):
    """Counts the elements read and written by all operations."""

    elements = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.elements += sum(t.numel() for t in tensors)
        return out


def counted_work(network: SADRNet) -> tuple[int, int, int]:
    """Operations per face, elements read and written per face, and per batch (the weights)."""
    folded, side = fold_batch_norm(network).cpu(), network.config.input_size
    elements = []
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            folded(torch.zeros(1, 3, side, side))
        for batch in (1, 3):
            with _Traffic() as traffic:
                folded(torch.zeros(batch, 3, side, side))
            elements.append(traffic.elements)
    a_face = (elements[1] - elements[0]) // 2
    return counter.get_total_flops(), a_face, elements[0] - a_face


def card_limits(device: torch.device, size: int = 8192) -> tuple[float, float]:
    """Measured limits of a GPU: FLOP/s of a matrix product in bfloat16, bytes/s of a copy."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = 2 * size**3 / _seconds(lambda: a @ b, device)
    source = torch.zeros(8 * size, size, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)
    return product, copy


def _seconds(action: Callable[[], Any], device: torch.device) -> float:
    """Mean of ten calls, after a warm-up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    action()
    wait()
    began = time.perf_counter()
    for _ in range(10):
        action()
    wait()
    return (time.perf_counter() - began) / 10


def gpu_throughput(reconstructor: Reconstructor) -> list[Row]:
    """Faces per second of network and alignment on a GPU, by batch size, in half precision.

    The ratio is to the GPU's limit for the network: its counted operations at the speed of a large
    matrix product, or its counted bytes at the speed of a copy, whichever takes longer.
    """
    device, side = reconstructor.device, reconstructor.crop_resolution
    operations, a_face, a_batch = counted_work(reconstructor.network)
    product, copy = card_limits(torch.device(device))
    rows = [
        Row("gpu", "operations per face", operations / 1e9, "GFLOP"),
        Row("gpu", "read and written per face", 2 * a_face / 1e6, "MB", note="16 bits per number"),
        Row("gpu", "the GPU: matrix product", product / 1e12, "TFLOP/s", note="bfloat16"),
        Row("gpu", "the GPU: copy", copy / 1e12, "TB/s"),
    ]
    for batch in (1, 8, 32, 64, 128, 256):
        x = torch.from_numpy(_pixels(batch, side)).to(device)

        def once(x: torch.Tensor = x) -> None:
            with torch.inference_mode():
                reconstructor.align(reconstructor.runner(x))

        for _ in range(3):
            once()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 2.0:
            once()
            torch.cuda.synchronize()
            count += batch
        rate = count / (time.perf_counter() - began)
        by_bytes = copy / (2 * (a_face + a_batch / batch))
        limit = min(product / operations, by_bytes)
        note = (
            f"{rate * operations / 1e12:.1f} TFLOP/s, "
            f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB; of the GPU's limit by "
            f"{'bytes' if limit == by_bytes else 'operations'}, {limit:,.0f} faces/s"
        )
        aim = "> 3000 faces/s on an H200" if batch == 256 else ""
        rows.append(Row("gpu", f"batch {batch}", rate, "faces/s", rate / limit, aim, note))
    return rows
