"""``sadr train``: labelled photos to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadr_cli.cli.options import DeviceOption, MessageOptions, SeedOption


def train(
    messages: MessageOptions,
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA",
            help="Shards (.npz), folders of shards, or 300W-LP-style folders (.jpg + .mat).",
            show_default=False,
        ),
    ],
    face_model: Annotated[
        Path,
        typer.Option(
            "--face-model", metavar="FILE", help="The linear face model the labels refer to (npz)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.")],
    preset: Annotated[
        str,
        typer.Option(
            "--preset", metavar="NAME", help="paper (III-E), full (large batches) or lite (CPUs)."
        ),
    ] = "full",
    variant: Annotated[
        str,
        typer.Option(
            "--variant",
            metavar="NAME",
            help="A row of the paper's ablation (Table IV): sadrnet, no-attention, "
            "no-deformation, direct, attention-only, regressed-pose.",
        ),
    ] = "sadrnet",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call the checkpoint.")
    ] = "trained",
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation", metavar="DIR", help="AFLW2000-3D-style folder to watch the NME on."
        ),
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option(
            "--backgrounds",
            metavar="FILE",
            help="Pictures without faces for fills and occluders (npz).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, metavar="N", help="Optimiser steps.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours", min=0.001, metavar="H", help="End after this time.", show_default=False
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=2,
            metavar="N",
            help="Samples a step; by default the preset's.",
            show_default=False,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            min=1e-8,
            metavar="X",
            help="Learning rate of Adam; by default the preset's.",
            show_default=False,
        ),
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            "--average",
            min=0.0,
            max=0.99999,
            metavar="X",
            help="Decay of the running average of the weights, below 1; 0: none.",
            show_default=False,
        ),
    ] = None,
    clean: Annotated[
        float,
        typer.Option(
            "--clean",
            min=0,
            max=0.9,
            metavar="SHARE",
            help="Doubtful labels to leave out, from 0 to 0.9.",
        ),
    ] = 0.0,
    profiling: Annotated[
        float | None,
        typer.Option(
            "--profiling",
            min=0,
            max=1,
            metavar="SHARE",
            help="Samples turned in 3-D, from 0 to 1.",
            show_default=False,
        ),
    ] = None,
    visible: Annotated[
        float,
        typer.Option(
            "--visible",
            min=0,
            metavar="X",
            help="How much more visible landmarks count in the loss.",
        ),
    ] = 0.0,
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            metavar="PATH|NAME",
            help="Checkpoint to learn from beside the labels.",
        ),
    ] = None,
    distill: Annotated[
        float,
        typer.Option(
            "--distill",
            min=0,
            max=1,
            metavar="SHARE",
            help="Part of the truth that --teacher gives, from 0 to 1.",
        ),
    ] = 0.5,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--start-from",
            metavar="PATH|NAME",
            help="Checkpoint whose weights a new run begins with.",
            show_default=False,
        ),
    ] = None,
    start_encoder: Annotated[
        Path | None,
        typer.Option(
            "--start-encoder",
            metavar="PATH|NAME",
            help="Checkpoint whose encoder alone a new run begins with.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue the run in --out.")
    ] = True,
    pause_after: Annotated[
        float | None,
        typer.Option(
            "--pause-after",
            min=0.05,
            metavar="MINUTES",
            help="Save and return after this time; the same command continues.",
            show_default=False,
        ),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="A state file of a third of the size, nearly exact.")
    ] = False,
    piece: Annotated[
        float | None,
        typer.Option(
            "--piece",
            min=0.1,
            metavar="MIB",
            help="Cut the state file into pieces of this size.",
            show_default=False,
        ),
    ] = None,
    photo_side: Annotated[
        int,
        typer.Option(
            "--photo-side",
            min=0,
            metavar="PIXELS",
            help="Keep photos at this size; 0: the network's, at least 160.",
        ),
    ] = 0,
    compiled: Annotated[
        bool, typer.Option("--compile/--no-compile", help="torch.compile the network (GPUs).")
    ] = False,
    save_every: Annotated[
        int,
        typer.Option(
            "--save-every", min=1, metavar="N", help="Steps from one state file to the next."
        ),
    ] = 1000,
    device: DeviceOption = "auto",
) -> None:
    """Train a network on photos with fitted face-model parameters.

    A run that was interrupted continues from its folder with the same command.

    Example: sadr train shards/ --face-model bfm_uv.npz --out runs/lite --preset lite --hours 2
    """
    from dataclasses import replace

    from sadr_cli.errors import UsageError
    from sadr_cli.training.config import PRESETS, with_steps, with_variant
    from sadr_cli.training.session import Progress, RunOptions
    from sadr_cli.training.session import train as run

    if preset not in PRESETS:
        raise UsageError(f"no preset {preset!r}: use {', '.join(PRESETS)}")
    config = with_variant(with_steps(PRESETS[preset], steps), variant)
    share = config.augment.profiling if profiling is None else profiling
    config = replace(
        config,
        seed=seed,
        max_hours=hours,
        batch_size=batch_size or config.batch_size,
        lr=lr or config.lr,
        average=config.average if average is None else average,
        clean=clean,
        distill=distill if teacher is not None else 0.0,
        augment=replace(config.augment, profiling=share),
        loss=replace(config.loss, visible=visible),
    )
    options = RunOptions(
        photo_side=photo_side,
        pause_after=pause_after,
        compact=compact,
        piece=None if piece is None else int(piece * 2**20),
        compiled=compiled,
        save_every=save_every,
    )
    output = messages.open()
    with output.progress("Training", total=1000) as bar:
        shown = 0

        def observe(p: Progress) -> None:
            nonlocal shown
            bar.advance(int(p.done * 1000) - shown)
            shown = int(p.done * 1000)
            if p.losses:
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
            teacher=teacher,
            start_from=start_from,
            start_encoder=start_encoder,
            resume=resume,
            options=options,
            observe=observe,
            warn=output.warn,
        )
    output.info(f"wrote {path}; use it with --weights {path}")
