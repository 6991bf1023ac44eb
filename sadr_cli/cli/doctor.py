"""``sadr doctor``: what is installed, what is missing, and what brings it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sadr_cli.cli.common import (
    DeviceOption,
    JsonOption,
    Output,
    QuietOption,
    VerboseOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from rich.text import Text


def doctor(
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Check this installation: what works, what is missing and the command that brings it.

    Versions, devices, weights and their checksums, detectors that work offline, photo and video
    formats, and one crop through the network. Nothing is downloaded. The exit code is 0 when
    photos can be reconstructed, otherwise 5.

    Example: sadr doctor --json | jq -c 'select(.status != "ok") | {name, detail, fix}'
    """
    from rich.table import Table

    from sadr_cli.doctor import OK, examine
    from sadr_cli.errors import MissingDataError

    out = Output(quiet=quiet, verbose=verbose, json=json)
    checks = []
    with out.progress("Checking") as bar:
        for check in examine(weights, device):
            bar.advance()
            out.emit(check.to_dict())
            checks.append(check)
    style = {OK: "green", "missing": "yellow", "failed": "red"}
    table = Table("", "", "", "", box=None, show_header=False, pad_edge=False)
    group = ""
    for check in checks:
        label = check.group if check.group != group else ""
        group = check.group
        color = "red" if check.blocks else style[check.status]
        table.add_row(label, check.name, f"[{color}]{check.status}[/]", _cell(check.detail))
        if check.fix:
            table.add_row("", "", "", _cell(f"-> {check.fix}"))
    out.print(table)
    blocking = [c for c in checks if c.blocks]
    out.emit(
        {
            "summary": {
                "ready": not blocking,
                "checks": len(checks),
                "missing": sum(c.status == "missing" for c in checks),
                "failed": sum(c.status == "failed" for c in checks),
                "blocking": [c.name for c in blocking],
            }
        }
    )
    if blocking:
        first = blocking[0]
        hint = f": try {first.fix}" if first.fix else ""
        raise MissingDataError(f"photos cannot be reconstructed, {first.name} {first.status}{hint}")
    out.info("photos can be reconstructed")


def _cell(text: str) -> Text:
    """Plain text, never markup."""
    from rich.text import Text

    from sadr_cli.cli.common import printable

    return Text(printable(text))
