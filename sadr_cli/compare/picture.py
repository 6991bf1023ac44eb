"""A comparison as files: a coloured mesh, or a table of every vertex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sadr_cli.compare.distance import Comparison
from sadr_cli.errors import UsageError
from sadr_cli.files import atomic_write, make_folder
from sadr_cli.writers import create_writer
from sadr_cli.writers.mesh import Mesh

SUFFIXES = (".glb", ".ply", ".obj", ".usdz", ".csv")
# From inside of the reference over none to outside: blue, white, red; grey: nothing to compare.
_BLUE, _WHITE, _RED, _GREY = (33, 82, 165), (247, 247, 247), (178, 24, 43), (120, 120, 120)
_RIM = 0.5  # millimetres, the least distance that the colours end at


def check_out(path: Path) -> None:
    """UsageError for a suffix that cannot hold a comparison."""
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(s[1:] for s in SUFFIXES)
        raise UsageError(f"--out {path}: the suffix must be one of {known}")


def write_comparison(path: Path, found: Comparison, reach: float | None = None) -> float:
    """Write the mesh of ``a`` laid onto ``b``, coloured by signed distance, or a table of it.

    reach: the distance in millimetres of the full colours; None: the 95th percentile of the
    signed distances' size.
    Returns it. OutputError when the file cannot be written.
    """
    check_out(path)
    make_folder(path.parent)
    if reach is None:
        reach = max(float(np.nanpercentile(np.abs(found.signed), 95)), _RIM)
    if path.suffix.lower() == ".csv":
        atomic_write(path, _table(found).encode())
        return reach
    mesh = Mesh(
        vertices=(found.points / found.b.unit).astype(np.float32),
        triangles=found.a.triangles,
        frame=found.b.frame,
        colors=colors(found.signed, reach),
        name=f"{found.a.name} to {found.b.name}",
    )
    create_writer(path.suffix[1:]).write(path, mesh)
    return reach


def colors(signed: NDArray[np.float64], reach: float) -> NDArray[np.uint8]:
    """(V, 3) sRGB of signed distances (V,): blue at -reach, white at 0, red at reach."""
    share = np.clip(np.nan_to_num(signed) / reach, -1, 1)
    stops = np.array([_BLUE, _WHITE, _RED], float)
    mixed = np.stack([np.interp(share, (-1, 0, 1), stops[:, k]) for k in range(3)], 1)
    mixed[np.isnan(signed)] = _GREY
    return np.rint(mixed).astype(np.uint8)


def _table(found: Comparison) -> str:
    """A row a vertex, laid onto ``b``, in millimetres as the figures are."""
    head = "vertex,x_mm,y_mm,z_mm,distance_mm,signed_mm"
    rows = [
        f"{k},{x:.4f},{y:.4f},{z:.4f}," + (f"{d:.4f},{s:.4f}" if np.isfinite(d) else ",")
        for k, ((x, y, z), d, s) in enumerate(
            zip(found.points / found.measure, found.distance, found.signed, strict=True)
        )
    ]
    return "\n".join([head, *rows, ""])
