"""MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sadr_cli.errors import MissingDataError


def read_matlab(path: Path) -> dict[str, Any]:
    """The variables of a ``.mat`` file; MissingDataError when it is not there or damaged."""
    from scipy.io import loadmat

    if not path.is_file():
        raise MissingDataError(f"no file {path}")
    try:
        return dict(loadmat(str(path)))
    except Exception as error:  # scipy raises many types for damaged files
        reason = str(error).strip() or type(error).__name__
        raise MissingDataError(f"{path} is damaged or no MATLAB file: {reason}") from error
