"""Where weights of detectors may lie. Nothing is ever downloaded."""

from __future__ import annotations

import os
from pathlib import Path


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) if base else Path.home() / ".cache"


def search_folders() -> list[Path]:
    """Folders looked into, in this order.

    ``$SADR_HOME/detectors`` (else ``detectors`` of sadr's cache), then the checkpoint folder of
    torch.hub, where face-alignment keeps what it has downloaded on its own.
    """
    home = os.environ.get("SADR_HOME")
    torch_home = os.environ.get("TORCH_HOME")
    return [
        (Path(home) if home else _cache() / "sadr") / "detectors",
        (Path(torch_home) if torch_home else _cache() / "torch") / "hub" / "checkpoints",
    ]


def find_file(name: str) -> Path | None:
    """The first file ``name`` in :func:`search_folders`."""
    for folder in search_folders():
        path = folder / name
        if path.is_file():
            return path
    return None
