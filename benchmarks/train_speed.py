"""Samples per second of a training step, to be run before a long training.

    python benchmarks/train_speed.py SHARDS FACE_MODEL [--preset full] [--batch 128 256]
        [--device cuda] [--steps 20] [--limit 2000] [--backgrounds FILE]

Prints one JSON line per configuration, uncompiled and compiled: the times of the first step, of
later steps and of making samples alone (wall clock, synchronised with the device), and the peak
memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import script
import torch

from sadr_cli.model.device import select_device
from sadr_cli.model.face_model import load_face_model
from sadr_cli.training.config import PRESETS
from sadr_cli.training.grid import UVGrid, mean_template
from sadr_cli.training.session import load_backgrounds, load_photos
from sadr_cli.training.trainer import Trainer


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("face_model", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="full")
    parser.add_argument("--batch", type=int, nargs="+", default=[256])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    device = select_device(args.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True

    preset = replace(PRESETS[args.preset], encoder_steps=0)
    began = time.perf_counter()
    model = load_face_model(args.face_model)
    photos = load_photos([args.shards], model, max(160, preset.network.input_size))
    print(json.dumps({"photos": len(photos), "load_s": round(time.perf_counter() - began, 2)}))
    photos = photos.select(range(min(args.limit, len(photos)))).to(device)
    grid = UVGrid(model, preset.network.uv_size, device, mean_template(model, photos))
    pictures = load_backgrounds(args.backgrounds).to(device) if args.backgrounds else None
    for batch in args.batch:
        for compiled in (False,) if args.no_compile else (False, True):
            trainer = Trainer(
                replace(preset, batch_size=batch), photos, grid, device, pictures,
                compiled=compiled, warn=lambda text: print(json.dumps({"warning": text})),
            )  # fmt: skip
            record = {"preset": args.preset, **measure(trainer, device, batch, args.steps)}
            print(json.dumps(record), flush=True)
            del trainer


def measure(trainer: Trainer, device: torch.device, batch: int, steps: int) -> dict[str, Any]:
    """Times of a trainer's steps, and of making samples alone."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def seconds(work: Callable[[], object], times: int) -> float:
        """Mean of ``times`` calls."""
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / times

    first = seconds(trainer.train_step, 1)
    for _ in range(3):
        trainer.train_step()
    step = seconds(trainer.train_step, steps)
    index = torch.arange(batch, device=device) % len(trainer.photos)
    making = seconds(lambda: trainer.maker(index), steps)
    record = {
        "batch": batch,
        "compiled": trainer.compiled,
        "first_step_s": round(first, 2),
        "step_ms": round(1e3 * step, 2),
        "making_samples_ms": round(1e3 * making, 2),
        "samples_per_s": round(batch / step, 1),
    }
    if cuda:
        record["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return record


if __name__ == "__main__":
    main()
