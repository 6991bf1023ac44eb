"""``sadr compare``: the distance between two faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sadr_cli.cli.options import MessageOptions, WeightsOption
from sadr_cli.cli.output import listed, plural
from sadr_cli.errors import InputError, UsageError, exit_code

if TYPE_CHECKING:
    from sadr_cli.compare.distance import Comparison

_HEAD = ("face", "reference", "mean", "median", "95 %", "max", "signed", "points")


def compare(
    face: Annotated[
        str,
        typer.Argument(metavar="A", help="A mesh, a face of a run as RUN/NAME, or a run folder."),
    ],
    reference: Annotated[
        str, typer.Argument(metavar="B", help="The reference, given in the same way.")
    ],
    messages: MessageOptions,
    scale: Annotated[
        bool, typer.Option("--scale", help="Also fit the scale of A: only the shape counts.")
    ] = False,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Compare the faces where they are.")
    ] = False,
    surface: Annotated[
        bool,
        typer.Option(
            "--surface", help="Measure to the nearest surface even if the vertices correspond."
        ),
    ] = False,
    units: Annotated[
        Literal["mm", "cm", "m"] | None,
        typer.Option(
            "--units",
            help="Units of meshes from other programs. Default: metres for glTF, else millimetres.",
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write A, aligned with B and coloured by distance (glb, ply, obj, usdz), or a "
            "table of all vertices (csv). Can be given several times.",
        ),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            "--range",
            metavar="MM",
            help="Distance shown in full colour. Default: the 95th percentile.",
        ),
    ] = None,
    weights: WeightsOption = None,
) -> None:
    """Align one face with another and measure their distance in millimetres.

    Faces of sadr correspond vertex by vertex. Other meshes are aligned by ICP, and the distance is
    that of each vertex of A to the nearest surface of B. Colours are red where A lies outside B
    and blue where it lies inside. Two run folders are compared face by face, by name.

    Example: sadr compare meshes/astronaut meshes/hopper --out difference.glb
    """
    say = messages.open(results=True)
    files = _check(out, reach, scale and no_align)

    from sadr_cli.compare.distance import compare as measure
    from sadr_cli.compare.load import load_shape, pairs
    from sadr_cli.compare.picture import write_comparison
    from sadr_cli.model.checkpoint import find_weights, load_layout

    todo = list(pairs(face, reference))
    if files and len(todo) > 1:
        raise UsageError(f"--out is for one pair of faces, and these are {len(todo)}")
    uv = load_layout(find_weights(weights))
    found: list[Comparison] = []
    failed = 0
    for a, b in todo:
        try:
            first, second = (load_shape(source, uv, units) for source in (a, b))
            one = measure(first, second, with_scale=scale, align=not no_align, surface=surface)
        except InputError as error:
            failed += 1
            say.warn(str(error))
            say.emit({"a": a.path.stem, "b": b.path.stem, "error": str(error)})
            continue
        found.append(one)
        say.emit(one.to_json())
        for path in files:
            full = write_comparison(path, one, reach)
            say.info(f"colours to {full:.2f} mm -> {path}" if path.suffix != ".csv" else f"{path}")
    if found:
        say.table([_HEAD, *map(_cells, found)])
    mean = _mean(found)
    say.emit({"summary": {"compared": len(found), "failed": failed, "mean": mean, "units": "mm"}})
    say.info(_sentence(found, failed))
    raise typer.Exit(int(exit_code(len(found), failed)))


def _check(out: list[Path] | None, reach: float | None, torn: bool) -> list[Path]:
    """The files to write; UsageError for options that make no sense."""
    from sadr_cli.compare.picture import check_out

    if torn:
        raise UsageError("--scale and --no-align exclude each other")
    if reach is not None and not 0 < reach < 1e6:
        raise UsageError(f"--range takes a distance in millimetres, not {reach:g}")
    for path in out or []:
        check_out(path)
    return out or []


def _cells(found: Comparison) -> tuple[str, ...]:
    figures = found.figures()
    numbers = (f"{figures[k]:.2f}" for k in ("mean", "median", "p95", "max"))
    return (
        found.a.name,
        found.b.name,
        *numbers,
        f"{figures['signed']:+.2f}",
        f"{figures['points']:,}",
    )


def _mean(found: list[Comparison]) -> float | None:
    means: list[Any] = [one.figures()["mean"] for one in found]
    return round(sum(means) / len(means), 4) if means else None


def _sentence(found: list[Comparison], failed: int) -> str:
    scale = ""
    if any(one.b.frame == "canonical" for one in found):
        scale = "; millimetres of the model's mean head, not measured"
    mean = _mean(found)
    about = "" if mean is None or len(found) < 2 else f", {mean:.2f} mm on average"
    beyond = sum(int(one.figures()["beyond"]) for one in found)
    more = (failed, "failed"), (beyond, "vertices beyond the reference's rim left out")
    return listed(plural(len(found), "comparison") + about, *more) + scale
