"""The user's cache folders; None if they cannot be determined."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path | None:
    """``XDG_CACHE_HOME``, else ``~/.cache``; None for a user without a home folder.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification requires.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no HOME, and no entry in the user database
        return None


def own_cache() -> Path | None:
    """Folder of the user's own weights and detectors: ``SADR_HOME``, else ``sadr`` in the cache."""
    if given := os.environ.get("SADR_HOME"):
        return Path(given)
    cache = cache_home()
    return None if cache is None else cache / "sadr"
