"""Where weights of detectors may be. Nothing is ever downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from sadr_cli.places import cache_home, own_cache


def search_folders() -> list[Path]:
    """Folders looked into, in this order.

    ``detectors`` of sadr's cache (see ``places.own_cache``), then the checkpoint folder of
    torch.hub, where face-alignment keeps what it has downloaded on its own.
    """
    own, cache = own_cache(), cache_home()
    given = os.environ.get("TORCH_HOME")
    torch_home = Path(given) if given else None if cache is None else cache / "torch"
    found = []
    if own is not None:
        found.append(own / "detectors")
    if torch_home is not None:
        found.append(torch_home / "hub" / "checkpoints")
    return found


def where_to_put() -> str:
    """The folder, in words, in which a user puts such a file."""
    folders = search_folders()
    return str(folders[0]) if folders else "the folder detectors of SADR_HOME (to be set)"


def find_file(name: str) -> Path | None:
    """The first file ``name`` in :func:`search_folders`."""
    for folder in search_folders():
        path = folder / name
        if os.path.isfile(path):  # noqa: PTH113 - false, too, where nobody may look
            return path
    return None
