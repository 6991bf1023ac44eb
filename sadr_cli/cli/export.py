"""``sadr export``: results, meshes and the network in other formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from sadr_cli.cli.options import (
    MESH_HELP,
    FaceModelOption,
    FrameChoice,
    MessageOptions,
    TextureSizeOption,
    WeightsOption,
    complete_all_formats,
)
from sadr_cli.cli.output import Output, listed
from sadr_cli.cli.parse import check_face_model, check_out, parse_formats
from sadr_cli.errors import UsageError, exit_code

if TYPE_CHECKING:
    from sadr_cli.export.run import Exported
    from sadr_cli.export.turntable import Pictures


@dataclass(frozen=True)
class PictureOptions:
    """Pictures of the faces alone."""

    TITLE: ClassVar[str] = "Pictures"

    frontal: Annotated[
        bool,
        typer.Option(
            "--frontal", help="Write the face from the front (PNG, transparent background)."
        ),
    ] = False
    turntable: Annotated[
        Literal["mp4", "gif", "webp"] | None,
        typer.Option(
            "--turntable", help="Write a four-second loop of the face turning from side to side."
        ),
    ] = None
    contact_sheet: Annotated[
        Literal["png", "pdf"] | None,
        typer.Option("--contact-sheet", help="Write all faces with their names, 42 per sheet."),
    ] = None
    picture_size: Annotated[
        int,
        typer.Option(
            "--picture-size",
            min=64,
            max=2048,
            metavar="N",
            help="Width and height of --frontal and --turntable in pixels.",
        ),
    ] = 400

    @property
    def wanted(self) -> bool:
        return self.frontal or self.turntable is not None or self.contact_sheet is not None

    @property
    def pictures(self) -> Pictures:
        from sadr_cli.export.turntable import Pictures

        return Pictures(self.frontal, self.turntable, self.picture_size)


def export(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|MESH|model",
            help="Folders written by `sadr reconstruct`, mesh files, or the word model.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PATH", help="Output folder; for model, a file.")
    ],
    pictures: PictureOptions,
    messages: MessageOptions,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            help=f"{MESH_HELP} For model: onnx, torchscript or safetensors.",
            autocompletion=complete_all_formats,
        ),
    ] = None,
    frame: Annotated[
        FrameChoice | None,
        typer.Option("--frame", help="Coordinate frame. Default: that of the source."),
    ] = None,
    texture_size: TextureSizeOption = None,
    face_model: FaceModelOption = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos", metavar="DIR", help="Folder that holds the photos now, if they were moved."
        ),
    ] = None,
    decimate: Annotated[
        int | None,
        typer.Option(
            "--decimate",
            metavar="N",
            help="Reduce the meshes to at most N triangles, the same ones for every face.",
        ),
    ] = None,
    crop_ears: Annotated[bool, typer.Option("--crop-ears", help="Remove the ears.")] = False,
    open_mouth: Annotated[
        bool, typer.Option("--open-mouth", help="Remove the surface between the lips.")
    ] = False,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            "--merge",
            metavar="LIST|DIR",
            help="Merge several photos of a person into one mesh: a text file that lists them, or "
            "a folder that holds them (one subfolder per person). Can be given several times.",
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="For model: 16-bit weights and arithmetic.")
    ] = False,
    dynamic_batch: Annotated[
        bool,
        typer.Option("--dynamic-batch", help="For model as onnx: any number of crops per call."),
    ] = False,
    weights: WeightsOption = None,
) -> None:
    """Convert results or the network: other formats, textures, fewer triangles.

    Each face of a run folder, or a single mesh, is written to --out with a JSON file that gives
    its frame and units. landmark_vertices.csv gives the vertex index of each of the 68 landmarks;
    vertices.csv, after --decimate, --crop-ears or --open-mouth, the original index of each vertex.

    `sadr export model` writes the network and its self-alignment to one file. Its input is 256 x
    256 crops; its outputs are P, D, A, the aligned face G and the pose.

    Pictures, with or without --format: NAME.frontal.png shows the textured face from the front,
    NAME.turntable.mp4 shows it turning, contact_sheet.pdf shows all faces: sadr export meshes
    --frontal --turntable mp4 --contact-sheet pdf --out pictures

    Example: sadr export meshes --format glb --decimate 5000 --out small
    """
    say = messages.open()
    if sources == ["model"]:
        others = (
            *(frame, texture_size, face_model, photos, decimate, merge),
            crop_ears or open_mouth or None,
        )
        if any(option is not None for option in others) or pictures.wanted:
            raise UsageError("export model takes only --format, --out, --half, --dynamic-batch")
        _export_model(say, out, (formats or "").strip().lower(), half, dynamic_batch, weights)
        return
    if half or dynamic_batch:
        raise UsageError("--half and --dynamic-batch are for `sadr export model`")
    if formats is None and not pictures.wanted:
        raise UsageError(
            "nothing to write: give --format, --frontal, --turntable or --contact-sheet"
        )
    kinds = parse_formats(formats, texture_size, pictures.wanted)
    check_face_model(face_model, kinds)
    check_out(out)

    from sadr_cli.export.contact_sheet import ContactSheet
    from sadr_cli.export.convert import ExportSettings
    from sadr_cli.export.merge import find_people
    from sadr_cli.export.run import export_faces, find_all, merge_people
    from sadr_cli.export.topology import make_topology
    from sadr_cli.model.checkpoint import find_weights, load_layout
    from sadr_cli.model.linear import load_linear_model

    entries = find_all(sources, out)
    uv = load_layout(find_weights(weights))
    topology = make_topology(uv, decimate, not crop_ears, not open_mouth)
    if face_model is not None:
        load_linear_model(face_model, uv)
    settings = ExportSettings(
        *(out, kinds, frame, texture_size, photos, decimate, not crop_ears, not open_mouth),
        pictures=pictures.pictures,
        sheet=pictures.contact_sheet is not None,
        face_model=face_model,
    )
    sheet = ContactSheet(out, pictures.contact_sheet or "png")
    with say.progress("Merging" if merge else "Exporting") as bar:

        def observe(result: Exported) -> None:
            _tell(say, result)
            if result.cell is not None:
                sheet.add(result.cell)
            bar.advance()

        if merge:
            people = find_people(merge, list(entries))
            bar.update(total=len(people))
            done, failed = merge_people(people, uv, settings, topology, observe)
        else:
            faces = bar.counting(entries)
            done, failed = export_faces(faces, uv, settings, topology, observe)
        sheets = sheet.write()
    say.info(f"{listed(f'{done} exported', (failed, 'failed'))} -> {out}")
    say.emit({"summary": {"exported": done, "failed": failed, "out": str(out), "sheets": sheets}})
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
        raise UsageError("--dynamic-batch is for ONNX: the other formats take any batch size")
    checkpoint = load_checkpoint(find_weights(weights))
    name = safe_name(checkpoint.name)  # the file may contain any name
    path = out / f"{name}{FORMATS[kind]}" if out.is_dir() or not out.suffix else out
    export_model(checkpoint, path, kind, half=half, dynamic_batch=dynamic_batch)
    size = path.stat().st_size
    say.info(f"{checkpoint.name} as {kind}, {size / 1e6:.1f} MB -> {path}")
    say.emit({"model": checkpoint.name, "format": kind, "path": path, "bytes": size})
