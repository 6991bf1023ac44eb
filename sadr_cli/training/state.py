"""The file a training continues from: complete, or compact and in pieces for slow transfers.

A complete state continues the run exactly (except for the stream of samples). A compact one has a
third of the size: the averaged weights in half precision, the current ones as 8-bit differences
from them, and Adam's second moments as a product of row and column means (as in Adafactor, Shazeer
and Stern 2018). First moments start at zero and are rebuilt within ten steps.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sadr_cli.errors import MissingDataError
from sadr_cli.files import atomic_write
from sadr_cli.folder import read_file
from sadr_cli.model.checkpoint import Checkpoint, Scaling
from sadr_cli.model.encoders import create_network
from sadr_cli.model.network import SADRNet
from sadr_cli.training.config import POSITION_SCALE, TrainConfig
from sadr_cli.uv import UVLayout

STATE_VERSION = 1
LICENSE = "research only: computed from research data, see weights/README.md"
State = dict[str, Any]


# Compact form ---------------------------------------------------------------------------------


def pack(state: State) -> State:
    """The compact form of a complete state (tensors on the CPU)."""
    return {"compact": True, **_converted(state, _half, _difference, _pack_moment)}


def unpack(state: State) -> State:
    """The complete form of a compact state; a complete one is returned unchanged."""
    if not state.pop("compact", False):
        return state
    return _converted(state, _float, _add, _unpack_moment)


def _converted(
    state: State,
    weight: Callable[[Tensor], Tensor],
    current: Callable[[Tensor, Any], Any],
    moment: Callable[[dict[str, Any]], dict[str, Any]],
) -> State:
    """``state`` with each kind of content converted; current: from average and current weights."""
    average = {k: weight(v) for k, v in state["average"].items()}
    optimizer = state["optimizer"]
    return {
        **state,
        "average": average,
        "network": {k: current(_float(average[k]), v) for k, v in state["network"].items()},
        "regressor": {k: weight(v) for k, v in state["regressor"].items()},
        "optimizer": {
            **optimizer, "state": {i: moment(s) for i, s in optimizer["state"].items()}
        },
    }  # fmt: skip


def _large(x: Tensor) -> bool:
    """Weight matrices and kernels; norms, biases and statistics are small and stay unchanged."""
    return x.is_floating_point() and x.dim() >= 2


def _half(x: Tensor) -> Tensor:
    return x.half() if _large(x) else x


def _float(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.float16 else x


def _difference(base: Tensor, x: Tensor) -> Any:
    if not _large(x):
        return x
    gap = x - base
    step = gap.abs().max().clamp_min(1e-12) / 127
    return {"step": step, "levels": (gap / step).round().to(torch.int8)}


def _add(base: Tensor, difference: Any) -> Tensor:
    if isinstance(difference, Tensor):
        return difference
    return base + difference["levels"].float() * difference["step"]


def _pack_moment(entry: dict[str, Any]) -> dict[str, Any]:
    square = entry["exp_avg_sq"]
    if not _large(square):
        return {"step": entry["step"], "exp_avg_sq": square}
    rows = square.flatten(1)
    return {
        "step": entry["step"],
        "shape": list(square.shape),
        "rows": rows.mean(1),
        "columns": rows.mean(0),
    }


def _unpack_moment(entry: dict[str, Any]) -> dict[str, Any]:
    square = entry.get("exp_avg_sq")
    if square is None:
        rows, columns = entry["rows"], entry["columns"]
        product = torch.outer(rows, columns) / rows.mean().clamp_min(1e-30)
        square = product.view(entry["shape"])
    return {"step": entry["step"], "exp_avg": torch.zeros_like(square), "exp_avg_sq": square}


# Files ----------------------------------------------------------------------------------------


def write_state(path: Path, state: State, piece: int | None = None) -> list[Path]:
    """Write ``state`` to ``path``, or to ``path.1of4``... of at most ``piece`` bytes each.

    Then removes files of earlier saves that it did not replace. Returns the files written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    before = _pieces(path)
    if piece is None:
        targets = [path]
        atomic_write(path, data)
    else:
        count = -(-len(data) // piece)
        targets = [path.with_name(f"{path.name}.{i + 1}of{count}") for i in range(count)]
        for i, target in enumerate(targets):
            atomic_write(target, data[i * piece : (i + 1) * piece])
        path.unlink(missing_ok=True)
    for old in before:
        if old not in targets:
            old.unlink(missing_ok=True)
    return targets


def has_state(path: Path) -> bool:
    return path.is_file() or bool(_pieces(path))


def read_state(path: Path, device: torch.device | str = "cpu") -> State:
    """Read ``path`` or its pieces, in the complete form; MissingDataError says what is wrong."""
    try:
        if path.is_file():
            source: Any = path
        else:
            source = io.BytesIO(b"".join(read_file(p) for p in _complete(path)))
        state = torch.load(source, map_location=device, weights_only=True)
        if state["version"] != STATE_VERSION:
            raise MissingDataError(f"{path} has state version {state['version']}: start a new run")
        return unpack(state)
    except MissingDataError:
        raise
    except (OSError, KeyError, TypeError, RuntimeError, ValueError, pickle.UnpicklingError,
            EOFError) as error:  # fmt: skip
        raise MissingDataError(
            f"{path} is damaged or not a training state: copy it again or start a new run ({error})"
        ) from error


def _pieces(path: Path) -> list[Path]:
    """Pieces of ``path`` in order."""
    pattern = re.compile(re.escape(path.name) + r"\.(\d+)of(\d+)")
    matches = [(pattern.fullmatch(p.name), p) for p in path.parent.glob(f"{path.name}.*of*")]
    found = [(int(m[2]), int(m[1]), p) for m, p in matches if m]
    return [p for *_, p in sorted(found)]


def _complete(path: Path) -> list[Path]:
    pieces = _pieces(path)
    if not pieces:
        raise MissingDataError(f"no training state at {path}")
    count = int(pieces[0].name.rpartition("of")[2])
    expected = [path.with_name(f"{path.name}.{i + 1}of{count}") for i in range(count)]
    if pieces != expected:
        raise MissingDataError(
            f"{path} has pieces {', '.join(p.name for p in pieces)}: all {count} of one save "
            "are needed, and no others"
        )
    return pieces


# Checkpoints ----------------------------------------------------------------------------------


def checkpoint_from_state(path: Path, name: str = "trained") -> Checkpoint:
    """The averaged weights of a state as a checkpoint; needs no training data."""
    state = read_state(path)
    if "layout" not in state:
        raise MissingDataError(
            f"{path} was written by an earlier version: continue the run with 'sadr train' to "
            "get its checkpoint"
        )
    config = TrainConfig.from_dict(json.loads(state["config"]))
    network = create_network(config.network)
    network.load_state_dict(state["average"])
    layout = UVLayout.from_arrays({k: v.numpy() for k, v in state["layout"].items()})
    return describe(network, layout, name, config, state, state.get("sources", []))


def describe(
    network: SADRNet,
    layout: UVLayout,
    name: str,
    config: TrainConfig,
    counters: State,
    sources: list[str],
) -> Checkpoint:
    """A checkpoint with its provenance; counters: samples, step and seconds."""
    return Checkpoint(
        network=network.cpu().eval(),
        uv=layout,
        name=name,
        scaling=Scaling(position=POSITION_SCALE),
        alignment=config.alignment,
        provenance={
            "samples": counters["samples"],
            "steps": counters["step"],
            "hours": round(counters["seconds"] / 3600, 3),
            "data": list(sources),
            "config": asdict(config),
        },
        license=LICENSE,
    )
