"""``sadr train``: from labelled photos to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadr_cli.cli.options import DeviceOption, MessageOptions, complete
from sadr_cli.errors import UsageError
from sadr_cli.process import leave_interrupted

if TYPE_CHECKING:
    from sadr_cli.cli.output import Output
    from sadr_cli.cli.progress import ProgressBar
    from sadr_cli.training.session import Progress


def train(
    messages: MessageOptions,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Shards (.npz), folders of shards, or folders like 300W-LP (.jpg and .mat).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Output folder of the run.")
    ] = None,
    face_model: Annotated[
        str | None,
        typer.Option(
            "--face-model",
            metavar="FILE",
            help="Linear face model (npz) to which the labels refer.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="paper (III-E), full (large batches; the default), mobile or lite (for CPUs).",
            autocompletion=complete("paper", "full", "mobile", "lite"),
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="TOML file with settings that differ from the preset."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting, such as train.max_hours=2. Can be given several times.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print all settings as TOML and exit.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Resume the run in --out.")
    ] = True,
    device: DeviceOption = "auto",
) -> None:
    """Train a network on photos with fitted face-model parameters.

    Ctrl-C saves the current state, and the same command resumes from it. The settings in use are
    saved as settings.toml beside the weights; --show prints them, and benchmarks/training.md
    explains them.

    Example: sadr train shards/ --face-model bfm_uv.npz --out runs/lite --preset lite --set
    max_hours=2
    """
    from sadr_cli.pipeline.settings import StopFlag
    from sadr_cli.training import settings as file
    from sadr_cli.training.session import train as run

    settings = file.resolve(
        config, changes or (), preset, train=tuple(data or ()), face_model=face_model
    )
    output = messages.open(results=show)
    if show:
        output.document(file.to_toml(settings).rstrip())
        return
    if out is None:
        raise UsageError("give the output folder with --out")
    if not settings.data.train:
        raise UsageError("give the training data, or set data.train")
    if settings.data.face_model is None:
        raise UsageError("give the face model with --face-model, or set data.face_model")
    stop = StopFlag()
    with output.progress("Training", 100, unit="%") as bar, stop.on_signals(output.warn):
        path = run(
            settings,
            out,
            device=device,
            resume=resume,
            observe=_Observer(output, bar, lambda: file.save(settings, out)),
            warn=output.warn,
            stop=stop.__bool__,
        )
    end = "; interrupted, run again to resume" if stop else ""
    output.info(f"wrote {path}; use it with --weights {path}{end}")
    if stop:
        leave_interrupted()


class _Observer:
    """Reports the progress of a training: losses beside the bar, validations as lines.

    begin: called at the first step, once all inputs have proved valid.
    """

    def __init__(self, output: Output, bar: ProgressBar, begin: Callable[[], None]) -> None:
        self._output, self._bar, self._begin = output, bar, begin

    def __call__(self, p: Progress) -> None:
        self._begin()
        self._begin = _nothing
        self._bar.advance(100 * p.done - self._bar.completed)
        about = {"step": p.step, "samples": p.samples}
        if p.losses:
            loss = " ".join(f"{k} {v:.4f}" for k, v in p.losses.items())
            self._bar.update(label=f"Training, step {p.step}, {loss}")
            self._output.detail(f"step {p.step}, {p.samples} samples: {loss}")
            self._output.emit({**about, **p.losses})
        if p.validation is not None:
            figures = ", ".join(f"{k} {v:.2f} %" for k, v in p.validation.items())
            self._output.info(f"step {p.step}: {figures}")
            self._output.emit({**about, **p.validation})


def _nothing() -> None:
    return
