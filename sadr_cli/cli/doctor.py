"""``sadr doctor``: what is installed, what is missing, and how to install it."""

from __future__ import annotations

from sadr_cli.cli.options import MessageOptions, NetworkOptions


def doctor(network: NetworkOptions, messages: MessageOptions) -> None:
    """Check this installation: what works, what is missing and how to install it.

    Checks versions, devices, weights and their checksums, detectors, photo and video formats, and
    runs one crop through the network. Nothing is downloaded. The exit code is 0 if photos can be
    reconstructed, otherwise 5.

    Example: sadr doctor --json | jq -c 'select(.status == "missing") | {name, detail, fix}'
    """
    from sadr_cli.doctor import OK, examine
    from sadr_cli.errors import MissingDataError

    out = messages.open(results=True)
    checks = []
    with out.progress("Checking") as bar:
        for check in examine(network.weights, network.device):
            bar.advance()
            out.emit(check.to_dict())
            checks.append(check)
    style = {OK: "green", "missing": "yellow", "failed": "red"}
    rows, styles = [], []
    group = ""
    for check in checks:
        label = check.group if check.group != group else ""
        group = check.group
        rows.append((label, check.name, check.status, check.detail))
        styles.append("red" if check.blocks else style[check.status])
        if check.fix:
            rows.append(("", "", "", f"-> {check.fix}"))
            styles.append("")
    out.table(rows, styles)
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
