"""``sadr bench``: speed and memory use on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sadr_cli.cli.options import MessageOptions, NetworkOptions
from sadr_cli.errors import UsageError


def bench(
    network: NetworkOptions,
    messages: MessageOptions,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="PHOTO", help="Photos with faces, folders or glob patterns."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, metavar="N", help="Number of photos in the whole run.")
    ] = 40,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Search subfolders as well.")
    ] = False,
    threads: Annotated[
        int, typer.Option("--threads", min=1, metavar="N", help="CPU threads of the network.")
    ] = 2,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            min=20,
            metavar="N",
            help="Also compare the memory used after N photos with that after N / 10.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Also time torch.compile and ONNX Runtime: minutes."),
    ] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, metavar="N", help="Repetitions of network timings.")
    ] = 7,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Measure the speed of the network, the alignment, whole runs and a cold start.

    PHOTO: photos with faces for the whole run and the cold start, repeated up to --count. Without
    photos, only the network and the alignment are measured. Candidates are timed in turn, so
    their ratios hold even on a busy machine.

    Example: sadr bench examples/photos
    """  # fmt: skip
    say = messages.open(results=True)
    photos: list[Path] = []
    if inputs:
        from sadr_cli.sources import iter_sources

        found = iter_sources(inputs, recursive=recursive)
        photos = [s.path for s in found if s.path is not None and s.kind == "image"]
        if not photos:
            raise UsageError("sadr bench needs photos with faces: the inputs hold none")
    from sadr_cli import bench as measure
    from sadr_cli.reconstructor import Reconstructor

    reconstructor = Reconstructor(network.weights, device=network.device)
    rows: list[measure.Row] = []

    def add(label: str, more: list[measure.Row]) -> None:
        rows.extend(more)
        for row in more:
            say.emit(asdict(row))
        say.detail(f"{label}: done")

    if photos and memory is not None:  # first, while nothing else is loaded
        add("memory", measure.memory_growth(reconstructor, photos, memory // 10, memory))
    if reconstructor.device.type == "cpu":
        times = measure.network_times(
            reconstructor, threads=threads, rounds=rounds, everything=everything
        )
        add("network", times)
    elif reconstructor.device.type == "cuda":
        add("gpu", measure.gpu_throughput(reconstructor))
    add("alignment", measure.alignment_share(reconstructor, rounds=rounds))
    if photos:
        add("run", measure.whole_run(reconstructor, photos, count))
        add("start", measure.cold_start(photos[0], network.weights))
    if markdown:
        say.document(measure.markdown(rows))
    else:
        say.table([measure.HEAD, *(row.cells() for row in rows)])
