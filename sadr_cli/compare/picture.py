"""A comparison as a file: a coloured mesh, or a table of all vertices."""

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
# Blue: inside the reference, white: on it, red: outside, grey: beyond its boundary.
_BLUE, _WHITE, _RED, _GREY = (33, 82, 165), (247, 247, 247), (178, 24, 43), (120, 120, 120)
_LEAST_REACH = 0.5  # millimetres


def check_out(path: Path) -> None:
    """UsageError for the suffix of a format that comparisons cannot be written in."""
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(s[1:] for s in SUFFIXES)
        raise UsageError(f"--out {path}: the suffix must be one of {known}")


def write_comparison(path: Path, found: Comparison, reach: float | None = None) -> float:
    """Write ``a`` aligned to ``b`` as a mesh coloured by signed distance, or as a table.

    reach: the distance in millimetres at which colours saturate; None: the 95th percentile of
    the absolute signed distance. Returns it. OutputError when the file cannot be written.
    """
    check_out(path)
    make_folder(path.parent)
    if reach is None:
        reach = max(float(np.nanpercentile(np.abs(found.signed), 95)), _LEAST_REACH)
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
    """CSV: one row per vertex of ``a`` aligned to ``b``, in millimetres."""
    head = "vertex,x_mm,y_mm,z_mm,distance_mm,signed_mm"
    rows = [
        f"{k},{x:.4f},{y:.4f},{z:.4f}," + (f"{d:.4f},{s:.4f}" if np.isfinite(d) else ",")
        for k, ((x, y, z), d, s) in enumerate(
            zip(found.points / found.measure, found.distance, found.signed, strict=True)
        )
    ]
    return "\n".join([head, *rows, ""])
