"""``sadr weights``: what is installed, what a checkpoint holds, import of the public checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadr_cli.cli import add_command, new_app
from sadr_cli.cli.options import MessageOptions, complete_weights
from sadr_cli.cli.output import Output

app = new_app(
    no_args_is_help=True,
    help="Installed weights, and the import of the public SADRNet checkpoint.",
)


def list_weights(messages: MessageOptions) -> None:
    """Names, files and sizes of the installed weights; the default one is marked.

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
            metavar="PATH|NAME", help="Checkpoint or name.", autocompletion=complete_weights
        ),
    ],
) -> None:
    """Print what a checkpoint says of itself as JSON: sizes, scalings, provenance, licence.

    Example: sadr weights show mobile
    """
    import hashlib
    import json

    from sadr_cli.model.checkpoint import find_weights, load_checkpoint, read_metadata

    out = Output(results=True)
    path = find_weights(weights)
    load_checkpoint(path)  # says what is wrong, if anything is
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
        str, typer.Option("--name", metavar="NAME", help="What to call it.")
    ] = "official",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the checkpoint; by default the cache."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace one of that name.")
    ] = False,
) -> None:
    """Convert the public SADRNet checkpoint; then use it by name, --weights official.

    It is read by torch's weights-only loader: nothing in the file is executed.

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
        raise UsageError(f"--name takes a plain name, not {name!r}")
    folder = out or cache_folder()
    if folder is None:
        raise UsageError("there is no home folder to keep weights in: give a folder with --out")
    target = folder / f"{name}{SUFFIX}"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there already: use --overwrite or another --name")
    layout = load_checkpoint(find_weights()).uv
    checkpoint = import_public_file(file, layout, name)
    # Full precision: what was published is kept to the last bit.
    digest = save_checkpoint(checkpoint, target, half=False)
    shown = name if out is None else str(target)
    Output().info(f"wrote {target} (SHA-256 {digest[:16]}); use it with --weights {shown}")


def from_state(
    state: Annotated[
        Path,
        typer.Argument(
            metavar="STATE", help="state.pt of a training, whole or in pieces of that name."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint to write.")
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call it.")
    ] = "trained",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Make a checkpoint of a training's state file; the photos are not needed.

    Example: sadr weights from-state runs/full/state.pt --out full.safetensors
    """
    from sadr_cli.errors import UsageError
    from sadr_cli.model.checkpoint import SUFFIX, save_checkpoint
    from sadr_cli.training.state import checkpoint_from_state

    if out.suffix != SUFFIX:
        raise UsageError(f"a checkpoint is called *{SUFFIX}: {out}")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is there already: use --overwrite or another --out")
    digest = save_checkpoint(checkpoint_from_state(state, name), out)
    Output().info(f"wrote {out} (SHA-256 {digest[:16]}); use it with --weights {out}")


add_command(app, "list", list_weights)
add_command(app, "show", show)
add_command(app, "import", import_weights)
add_command(app, "from-state", from_state)
