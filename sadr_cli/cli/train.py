"""``sadr train``: labelled photos to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadr_cli.cli.common import DeviceOption, JsonOption, Output, QuietOption, VerboseOption


def train(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="Shards (.npz), folders of shards, or 300W-LP-style folders (.jpg + .mat).",
            show_default=False,
        ),
    ],
    face_model: Annotated[
        Path, typer.Option("--face-model", help="The linear face model the labels refer to (npz).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    preset: Annotated[
        str, typer.Option("--preset", help="paper (III-E), full (large batches) or lite (CPUs).")
    ] = "full",
    name: Annotated[str, typer.Option("--name", help="What to call the checkpoint.")] = "trained",
    validation: Annotated[
        Path | None,
        typer.Option("--validation", help="AFLW2000-3D-style folder to watch the NME on."),
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option("--backgrounds", help="Pictures without faces for fills and occluders (npz)."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps.", show_default=False)
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", min=0.001, help="End after this time.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, show_default=False)
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=1e-8, show_default=False)] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue the run in --out.")
    ] = True,
    save_every: Annotated[int, typer.Option("--save-every", min=1, metavar="STEPS")] = 1000,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Train a network on photos with fitted face-model parameters.

    A run that was interrupted continues from its folder with the same command.

    Example: sadr train shards/ --face-model bfm_uv.npz --out runs/lite --preset lite --hours 2
    """
    from dataclasses import replace

    from sadr_cli.errors import UsageError
    from sadr_cli.training.session import Progress
    from sadr_cli.training.session import train as run
    from sadr_cli.training.trainer import PRESETS, with_steps

    if preset not in PRESETS:
        raise UsageError(f"no preset {preset!r}: use {', '.join(PRESETS)}")
    config = with_steps(PRESETS[preset], steps)
    config = replace(
        config,
        seed=seed,
        max_hours=hours,
        batch_size=batch_size or config.batch_size,
        lr=lr or config.lr,
    )
    output = Output(quiet=quiet, verbose=verbose, json=json)
    with output.progress("Training", total=1000) as bar:
        shown = 0

        def observe(p: Progress) -> None:
            nonlocal shown
            bar.advance(int(p.done * 1000) - shown)
            shown = int(p.done * 1000)
            if p.step % 50 == 0:
                loss = " ".join(f"{k} {v:.4f}" for k, v in p.losses.items())
                output.detail(f"step {p.step}, {p.samples} samples: {loss}")
                output.emit({"step": p.step, "samples": p.samples, **p.losses})
            if p.validation is not None:
                figures = ", ".join(f"{k} {v:.2f} %" for k, v in p.validation.items())
                output.info(f"step {p.step}: {figures}")
                output.emit({"step": p.step, "samples": p.samples, **p.validation})

        path = run(
            data,
            face_model,
            out,
            config,
            name=name,
            device=device,
            validation=validation,
            backgrounds=backgrounds,
            resume=resume,
            save_every=save_every,
            observe=observe,
        )
    output.info(f"wrote {path}; use it with --weights {path}")
