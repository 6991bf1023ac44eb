"""The only import of Open3D, which only ICP and decimation need."""

from __future__ import annotations

from typing import Any

from sadr_cli.errors import MissingDataError


def import_open3d(purpose: str) -> Any:
    """The module ``open3d``; MissingDataError if it cannot be loaded."""
    try:
        import open3d
    except (ImportError, OSError) as error:  # OSError: a system library is missing
        raise MissingDataError(
            f"{purpose} needs Open3D, which cannot be loaded ({error}): pip install open3d; on a "
            "bare Linux also the system packages libgl1, libgomp1 and libusb-1.0-0"
        ) from error
    return open3d
