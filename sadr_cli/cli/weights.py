"""``sadr weights``: list, show, import and create checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadr_cli.cli import add_command, new_app
from sadr_cli.cli.options import MessageOptions, complete_weights
from sadr_cli.cli.output import Output

app = new_app(no_args_is_help=True, help="List, show and import weights.")


def list_weights(messages: MessageOptions) -> None:
    """List the installed weights with size and file; the default is marked.

    Example: sadr weights list
    """
    from sadr_cli.errors import MissingDataError
    from sadr_cli.model.checkpoint import available_weights, find_weights

    out = messages.open(results=True)
    found = available_weights()
    if not found:
        raise MissingDataError("no weights are installed: reinstall sadr")
    default = find_weights()
    rows = [("name", "size", "file")]
    for name, path in sorted(found.items()):
        size = path.stat().st_size
        mark = " (default)" if path == default else ""
        rows.append((name + mark, f"{size / 1e6:.1f} MB", str(path)))
        out.emit({"name": name, "file": path, "bytes": size, "default": path == default})
    out.table(rows)


def show(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="PATH|NAME",
            help="Checkpoint file, or name of installed weights.",
            autocompletion=complete_weights,
        ),
    ],
) -> None:
    """Print the metadata of a checkpoint as JSON: sizes, scalings, provenance, licence.

    Example: sadr weights show mobile
    """
    import hashlib
    import json

    from sadr_cli.model.checkpoint import find_weights, load_checkpoint, read_metadata

    out = Output(results=True)
    path = find_weights(weights)
    load_checkpoint(path)  # raises an error if the file is damaged
    data = path.read_bytes()
    document = {
        "file": str(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        **read_metadata(data),
    }
    out.document(json.dumps(document, indent=2))


def import_weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The public checkpoint, net_021.pth.")
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the weights.")
    ] = "official",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Output folder. Default: the cache folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace weights of the same name.")
    ] = False,
) -> None:
    """Convert the public SADRNet checkpoint, for use as --weights official.

    The file is read with PyTorch's weights-only loader: nothing in it is executed.

    Example: sadr weights import net_021.pth
    """
    from sadr_cli.errors import UsageError
    from sadr_cli.model.checkpoint import (
        SUFFIX,
        cache_folder,
        find_weights,
        load_checkpoint,
        save_checkpoint,
    )
    from sadr_cli.model.public import import_public_file

    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name takes a name without folders, not {name!r}")
    folder = out or cache_folder()
    if folder is None:
        raise UsageError("there is no home folder to store weights in: give a folder with --out")
    target = folder / f"{name}{SUFFIX}"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists already: use --overwrite or another --name")
    layout = load_checkpoint(find_weights()).uv
    checkpoint = import_public_file(file, layout, name)
    # Full precision keeps the published values exactly.
    digest = save_checkpoint(checkpoint, target, half=False)
    shown = name if out is None else str(target)
    Output().info(f"wrote {target} (SHA-256 {digest[:16]}); use it with --weights {shown}")


def from_state(
    state: Annotated[
        Path,
        typer.Argument(
            metavar="STATE", help="State file (state.pt) of a training run, whole or in pieces."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Checkpoint to write.")],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the weights.")
    ] = "trained",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Create a checkpoint from the state file of a training run; needs no photos.

    Example: sadr weights from-state runs/full/state.pt --out full.safetensors
    """
    from sadr_cli.errors import UsageError
    from sadr_cli.model.checkpoint import SUFFIX, save_checkpoint
    from sadr_cli.training.state import checkpoint_from_state

    if out.suffix != SUFFIX:
        raise UsageError(f"the name of a checkpoint ends in {SUFFIX}: {out}")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already: use --overwrite or another --out")
    digest = save_checkpoint(checkpoint_from_state(state, name), out)
    Output().info(f"wrote {out} (SHA-256 {digest[:16]}); use it with --weights {out}")


add_command(app, "list", list_weights)
add_command(app, "show", show)
add_command(app, "import", import_weights)
add_command(app, "from-state", from_state)
