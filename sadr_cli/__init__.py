"""sadr: 3-D faces from single photographs (SADRNet).

    from sadr_cli import Reconstructor

    faces = Reconstructor().reconstruct(image)  # (H, W, 3) uint8 RGB -> list[Face]

Importing the package is cheap; torch and OpenCV are imported by what needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sadr_cli.faces import Crop, Detection, Face, Frame
    from sadr_cli.reconstructor import Reconstructor

__all__ = ["Crop", "Detection", "Face", "Frame", "Reconstructor", "__version__"]

_HOMES = {
    "Crop": "sadr_cli.faces",
    "Detection": "sadr_cli.faces",
    "Face": "sadr_cli.faces",
    "Frame": "sadr_cli.faces",
    "Reconstructor": "sadr_cli.reconstructor",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # importlib.metadata costs 20 ms: only for those who ask.
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("sadr")
        except PackageNotFoundError:  # run from a source tree that is not installed
            value = "0.0.0"
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
