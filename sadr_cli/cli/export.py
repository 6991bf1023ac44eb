"""``sadr export``: results and meshes -> other files; the network -> other runtimes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadr_cli.cli.common import (
    JsonOption,
    Output,
    QuietOption,
    TextureSizeOption,
    VerboseOption,
    WeightsOption,
    complete_formats,
    exit_code,
    parse_formats,
)
from sadr_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from sadr_cli.export.convert import ExportSettings
    from sadr_cli.export.subjects import Entry
    from sadr_cli.export.topology import Topology
    from sadr_cli.uv import UVLayout


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
            help="By commas. Meshes: obj, ply, glb, usdz, stl, npz. Also: pts, csv, camera, "
            "texture, uvmap, attention, visibility, depth, normals, pncc. For model: onnx, "
            "torchscript or safetensors.",
            autocompletion=complete_formats,
        ),
    ],
    frame: Annotated[
        str | None,
        typer.Option(
            "--frame",
            metavar="NAME",
            help="image, metric or canonical; by default that of the source.",
            show_default=False,
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
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Convert results, or the network: other formats, textures, fewer triangles.

    Every face of a run folder, or a single mesh, is written anew to --out with a JSON file that
    says its frame and units. landmark_vertices.csv has the vertex of each of the 68 landmarks;
    vertices.csv, after --decimate or --crop-ears, the original number of each vertex.

    `sadr export model` writes the network and its self-alignment as one file: 256 x 256 crops
    in; P, D, A, the aligned face G and the pose out.

    Example: sadr export meshes --format glb --decimate 5000 --out small
    """
    say = Output(quiet=quiet, verbose=verbose, json=json)
    if sources == ["model"]:
        others = (frame, texture_size, photos, decimate, crop_ears or None, merge)
        if any(option is not None for option in others):
            raise UsageError("export model takes only --format, --out, --half, --dynamic-batch")
        _export_model(say, out, formats.strip().lower(), half, dynamic_batch, weights)
        return
    if half or dynamic_batch:
        raise UsageError("--half and --dynamic-batch are for `sadr export model`")
    kinds = parse_formats(formats, frame or "image", texture_size)

    from sadr_cli.export.convert import ExportSettings, write_index
    from sadr_cli.export.topology import make_topology
    from sadr_cli.files import check_writable
    from sadr_cli.model.checkpoint import find_weights, load_layout

    for source in sources:
        folder = Path(source) if Path(source).is_dir() else Path(source).parent
        if folder.exists() and out.exists() and folder.resolve() == out.resolve():
            raise UsageError(f"--out {out} is where the source lies: choose another folder")
    uv = load_layout(find_weights(weights))
    topology = make_topology(uv, decimate, not crop_ears)
    settings = ExportSettings(out, kinds, frame, texture_size, photos, decimate, not crop_ears)
    entries = _entries(sources)
    if merge:
        done, failed = _merge_all(say, list(entries), merge, uv, settings, topology)
    else:
        first = next(entries)
        check_writable(out)
        done, failed = _export_all(say, first, entries, uv, settings, topology)
    if done:
        write_index(out, uv, topology)
    say.info(f"{done} exported{f', {failed} failed' if failed else ''} -> {out}")
    say.emit({"summary": {"exported": done, "failed": failed, "out": str(out)}})
    raise typer.Exit(int(exit_code(done, failed)))


def _merge_all(
    say: Output,
    entries: list[Entry],
    rules: list[Path],
    uv: UVLayout,
    settings: ExportSettings,
    topology: Topology | None,
) -> tuple[int, int]:
    """One result a person; (done, failed)."""
    from sadr_cli.export.merge import find_people, merge_person
    from sadr_cli.export.subjects import load_subject
    from sadr_cli.files import check_writable

    people = find_people(rules, entries)
    check_writable(settings.out)
    done = failed = 0
    with say.progress("Merging", total=len(people)) as bar:
        for person in people:
            try:
                subjects = [load_subject(entry, uv) for entry in person.entries]
                files, notes = merge_person(person, subjects, uv, settings, topology)
            except InputError as error:
                failed += 1
                say.warn(f"{person.name}: {error}")
                say.emit({"name": person.name, "status": "failed", "reason": str(error)})
                continue
            done += 1
            for note in notes:
                say.warn(note)
            stems = [subject.stem for subject in subjects]
            say.detail(f"{person.name}: {', '.join(stems)}")
            say.emit({"name": person.name, "status": "ok", "faces": stems, "outputs": files})
            bar.advance()
    return done, failed


def _export_model(
    say: Output, out: Path, kind: str, half: bool, dynamic_batch: bool, weights: str | None
) -> None:
    from sadr_cli.export.model import FORMATS, export_model
    from sadr_cli.model.checkpoint import find_weights, load_checkpoint

    if kind not in FORMATS:
        raise UsageError(f"--format for model takes one of {', '.join(FORMATS)}, not {kind!r}")
    if dynamic_batch and kind != "onnx":
        raise UsageError("--dynamic-batch is for ONNX: the other formats take any batch anyway")
    checkpoint = load_checkpoint(find_weights(weights))
    path = out / f"{checkpoint.name}{FORMATS[kind]}" if out.is_dir() or not out.suffix else out
    export_model(checkpoint, path, kind, half=half, dynamic_batch=dynamic_batch)
    size = path.stat().st_size
    say.info(f"{checkpoint.name} as {kind}, {size / 1e6:.1f} MB -> {path}")
    say.emit({"model": checkpoint.name, "format": kind, "path": path, "bytes": size})


def _entries(sources: list[str]) -> Iterator[Entry]:
    from sadr_cli.export.subjects import find_entries

    for source in sources:
        yield from find_entries(Path(source))


def _export_all(
    say: Output,
    first: Entry,
    rest: Iterator[Entry],
    uv: UVLayout,
    settings: ExportSettings,
    topology: Topology | None,
) -> tuple[int, int]:
    """Export in a few threads, report in order; (done, failed)."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    from sadr_cli.export.convert import export_subject
    from sadr_cli.export.subjects import load_subject

    done = failed = 0
    taken: dict[str, Path] = {}

    def work(entry: Entry) -> tuple[str, list[str], list[str]]:
        subject = load_subject(entry, uv)
        before = taken.setdefault(subject.stem.casefold(), entry.path)
        if before != entry.path:
            raise InputError(
                f"{entry.path}: {before} has the same name: export them to different folders"
            )
        return (subject.stem, *export_subject(subject, uv, settings, topology))

    def finish(entry: Entry, future: Future[tuple[str, list[str], list[str]]]) -> None:
        nonlocal done, failed
        try:
            name, files, notes = future.result()
        except InputError as error:
            failed += 1
            say.warn(str(error))
            say.emit({"source": str(entry.path), "status": "failed", "reason": str(error)})
            return
        done += 1
        for note in notes:
            say.warn(note)
        say.detail(f"{name}: {', '.join(files)}")
        say.emit({"source": str(entry.path), "name": name, "status": "ok", "outputs": files})

    jobs = min(max(os.cpu_count() or 2, 2), 8)
    queue: deque[tuple[Entry, Future[tuple[str, list[str], list[str]]]]] = deque()
    with say.progress("Exporting") as bar, ThreadPoolExecutor(jobs, "sadr-export") as pool:
        try:
            queue.append((first, pool.submit(work, first)))
            for entry in rest:
                queue.append((entry, pool.submit(work, entry)))
                if len(queue) > 2 * jobs:
                    finish(*queue.popleft())
                    bar.advance()
            while queue:
                finish(*queue.popleft())
                bar.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done, failed
