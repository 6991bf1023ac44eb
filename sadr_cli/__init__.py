"""3-D faces from single photographs (SADRNet).

    from sadr_cli import Reconstructor

    faces = Reconstructor().reconstruct(image)  # (H, W, 3) uint8 RGB -> list[Face]

A `Face` has vertices, landmarks, visibility and pose; `read_image` reads upright RGB from any
common format, and `save_mesh` writes a face for Blender and other programs:

    from sadr_cli import Reconstructor, read_image, save_mesh

    reconstructor = Reconstructor(device="cpu")
    image = read_image("photo.jpg")
    for i, face in enumerate(reconstructor.reconstruct(image)):
        print(face.euler, face.confidence)  # yaw, pitch, roll in degrees; 0 to 1
        save_mesh(f"face{i}.glb", face, reconstructor.uv, image)

`read_run` returns the faces of a finished run as typed records or as a pandas table. Notebooks show
a `Face` as an interactive mesh.

The names on this page are the public interface and keep their meaning within a major version; all
other modules are private. Errors that a caller can handle are subclasses of `SadrError`. Importing
the package is fast: PyTorch and OpenCV are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sadr_cli.errors import InputError, MissingDataError, OutputError, SadrError, UsageError
    from sadr_cli.faces import Crop, Detection, Face, Frame
    from sadr_cli.reconstructor import Reconstructor, WeightsInfo
    from sadr_cli.render.contour import contour_landmarks
    from sadr_cli.results.run_table import FaceResult, InputResult, Run, read_run
    from sadr_cli.sources.images import read_image
    from sadr_cli.uv import UVLayout
    from sadr_cli.version import __version__
    from sadr_cli.writers.compose import save_mesh

# In the order of the documentation.
__all__ = [  # noqa: RUF022
    "Reconstructor",
    "Face",
    "Detection",
    "Crop",
    "Frame",
    "UVLayout",
    "WeightsInfo",
    "read_image",
    "save_mesh",
    "contour_landmarks",
    "read_run",
    "Run",
    "FaceResult",
    "InputResult",
    "SadrError",
    "InputError",
    "MissingDataError",
    "OutputError",
    "UsageError",
    "__version__",
]

_HOMES = {
    **dict.fromkeys(("Crop", "Detection", "Face", "Frame"), "sadr_cli.faces"),
    **dict.fromkeys(("Reconstructor", "WeightsInfo"), "sadr_cli.reconstructor"),
    **dict.fromkeys(
        ("InputError", "MissingDataError", "OutputError", "SadrError", "UsageError"),
        "sadr_cli.errors",
    ),
    **dict.fromkeys(("FaceResult", "InputResult", "Run", "read_run"), "sadr_cli.results.run_table"),
    "UVLayout": "sadr_cli.uv",
    "read_image": "sadr_cli.sources.images",
    "save_mesh": "sadr_cli.writers.compose",
    "contour_landmarks": "sadr_cli.render.contour",
    "__version__": "sadr_cli.version",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
