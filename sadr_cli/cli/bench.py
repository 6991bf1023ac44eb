"""``sadr bench``: how fast it is on this machine."""

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
        typer.Argument(
            metavar="PHOTO", help="Photos with faces, folders or globs.", show_default=False
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, metavar="N", help="Photos of the whole run.")
    ] = 40,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into subfolders as well.")
    ] = False,
    threads: Annotated[
        int,
        typer.Option("--threads", min=1, metavar="N", help="Threads of the network on a CPU."),
    ] = 2,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            min=20,
            metavar="N",
            help="Also the memory after N photos, against that after a tenth of them.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also torch.compile and ONNX Runtime: minutes.")
    ] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, metavar="N", help="Rounds of the network.")
    ] = 7,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A Markdown table on standard output.")
    ] = False,
) -> None:
    """Measure the network, the alignment, whole runs and the cold start.

    PHOTO: photos with faces for the whole run and the start, repeated as often as --count says;
    without any only the network and the alignment are measured. Candidates run in turn, so that
    the ratios hold even on a busy machine.

    Example: sadr bench examples/photos
    """  # fmt: skip
    say = messages.open(results=True)
    photos: list[Path] = []
    if inputs:
        from sadr_cli.sources import iter_sources

        found = iter_sources(inputs, recursive=recursive)
        photos = [s.path for s in found if s.path is not None and s.kind == "image"]
        if not photos:
            raise UsageError("sadr bench wants photos with faces")
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
