"""``sadr export``: results and meshes -> other files; the network -> other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadr_cli.cli.options import (
    MESH_HELP,
    MessageOptions,
    TextureSizeOption,
    WeightsOption,
    complete_all_formats,
    complete_frame,
)
from sadr_cli.cli.output import Output
from sadr_cli.cli.parse import check_out, parse_formats
from sadr_cli.cli.words import listed
from sadr_cli.errors import UsageError, exit_code

if TYPE_CHECKING:
    from sadr_cli.export.run import Exported


def export(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|MESH|model",
            help="Folders of `sadr reconstruct`, meshes, or the word model.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="PATH", help="Folder for the files; for model, a file."
        ),
    ],
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help=f"{MESH_HELP} For model: onnx, torchscript or safetensors.",
            autocompletion=complete_all_formats,
        ),
    ],
    messages: MessageOptions,
    frame: Annotated[
        str | None,
        typer.Option(
            "--frame",
            metavar="NAME",
            help="image, metric or canonical; by default that of the source.",
            show_default=False,
            autocompletion=complete_frame,
        ),
    ] = None,
    texture_size: TextureSizeOption = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            metavar="DIR",
            help="Where the photos are now, if they were moved.",
            show_default=False,
        ),
    ] = None,
    decimate: Annotated[
        int | None,
        typer.Option(
            "--decimate",
            metavar="N",
            help="At most N triangles, the same ones for every face.",
            show_default=False,
        ),
    ] = None,
    crop_ears: Annotated[bool, typer.Option("--crop-ears", help="Leave the ears out.")] = False,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            "--merge",
            metavar="LIST|DIR",
            help="One mesh of several photos of a person: a text file that names them, or a "
            "folder that holds them (a subfolder a person). Can be given several times.",
            show_default=False,
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="model: 16-bit weights and arithmetic.")
    ] = False,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="model, onnx: any number of crops at once.")
    ] = False,
    weights: WeightsOption = None,
) -> None:
    """Convert results, or the network: other formats, textures, fewer triangles.

    Every face of a run folder, or a single mesh, is written anew to --out with a JSON file that
    says its frame and units. landmark_vertices.csv has the vertex of each of the 68 landmarks;
    vertices.csv, after --decimate or --crop-ears, the original number of each vertex.

    `sadr export model` writes the network and its self-alignment as one file: 256 x 256 crops
    in; P, D, A, the aligned face G and the pose out.

    Example: sadr export meshes --format glb --decimate 5000 --out small
    """
    say = messages.open()
    if sources == ["model"]:
        others = (frame, texture_size, photos, decimate, crop_ears or None, merge)
        if any(option is not None for option in others):
            raise UsageError("export model takes only --format, --out, --half, --dynamic-batch")
        _export_model(say, out, formats.strip().lower(), half, dynamic_batch, weights)
        return
    if half or dynamic_batch:
        raise UsageError("--half and --dynamic-batch are for `sadr export model`")
    kinds = parse_formats(formats, frame or "image", texture_size)
    check_out(out)

    from sadr_cli.export.convert import ExportSettings
    from sadr_cli.export.merge import find_people
    from sadr_cli.export.run import export_faces, find_all, merge_people
    from sadr_cli.export.topology import make_topology
    from sadr_cli.model.checkpoint import find_weights, load_layout

    entries = find_all(sources, out)
    uv = load_layout(find_weights(weights))
    topology = make_topology(uv, decimate, not crop_ears)
    settings = ExportSettings(out, kinds, frame, texture_size, photos, decimate, not crop_ears)
    with say.progress("Merging" if merge else "Exporting") as bar:

        def observe(result: Exported) -> None:
            _tell(say, result)
            bar.advance()

        if merge:
            people = find_people(merge, list(entries))
            bar.update(total=len(people))
            done, failed = merge_people(people, uv, settings, topology, observe)
        else:
            faces = bar.counting(entries)
            done, failed = export_faces(faces, uv, settings, topology, observe)
    say.info(f"{listed(f'{done} exported', (failed, 'failed'))} -> {out}")
    say.emit({"summary": {"exported": done, "failed": failed, "out": str(out)}})
    raise typer.Exit(int(exit_code(done, failed)))


def _tell(say: Output, result: Exported) -> None:
    person = result.faces is not None
    about = {"name": result.name} if person else {"source": result.source}
    if result.error is not None:
        say.warn(result.error)
        about = {"name": result.source} if person else about
        say.emit({**about, "status": "failed", "reason": result.error})
        return
    for note in result.notes:
        say.warn(note)
    say.detail(f"{result.name}: {', '.join(result.faces or result.files)}")
    more = {"faces": result.faces} if person else {"name": result.name}
    say.emit({**about, **more, "status": "ok", "outputs": result.files})


def _export_model(
    say: Output, out: Path, kind: str, half: bool, dynamic_batch: bool, weights: str | None
) -> None:
    from sadr_cli.export.model import FORMATS, export_model
    from sadr_cli.files import safe_name
    from sadr_cli.model.checkpoint import find_weights, load_checkpoint

    if kind not in FORMATS:
        raise UsageError(f"--format for model takes one of {', '.join(FORMATS)}, not {kind!r}")
    if dynamic_batch and kind != "onnx":
        raise UsageError("--dynamic-batch is for ONNX: the other formats take any batch anyway")
    checkpoint = load_checkpoint(find_weights(weights))
    name = safe_name(checkpoint.name)  # whatever the file calls itself
    path = out / f"{name}{FORMATS[kind]}" if out.is_dir() or not out.suffix else out
    export_model(checkpoint, path, kind, half=half, dynamic_batch=dynamic_batch)
    size = path.stat().st_size
    say.info(f"{checkpoint.name} as {kind}, {size / 1e6:.1f} MB -> {path}")
    say.emit({"model": checkpoint.name, "format": kind, "path": path, "bytes": size})
