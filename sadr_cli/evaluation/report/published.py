"""Published figures, shown with the measured ones. Percent for NME, degrees for pose.

Every row is as printed in its source; none was measured here unless the source says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

AFLW2000_IMAGES = 2000
FLORENCE_SUBJECTS = 53
PAPER = "Ruan et al., SADRNet, IEEE TIP 30 (2021)"


@dataclass(frozen=True)
class Row:
    """One published row; None where the source prints nothing.

    values: keys of :data:`TABLES`, in any subset.
    """

    method: str
    source: str
    values: dict[str, float]


TABLES = {
    "alignment": (
        "2d_0-30", "2d_30-60", "2d_60-90", "2d_balanced", "2d_mean",
        "3d_mean", "dense_2d_mean", "dense_3d_mean",
    ),
    "reconstruction": ("0-30", "30-60", "60-90", "mean", "florence"),
    "pose": ("yaw", "pitch", "roll", "mean"),
}  # fmt: skip


def _rows(table: str, source: str, lines: str) -> list[Row]:
    """Rows from lines ``method | value value ...``; ``-`` for no value."""
    out = []
    for line in lines.strip().splitlines():
        method, _, numbers = line.partition("|")
        pairs = zip(TABLES[table], numbers.split(), strict=True)
        values = {key: float(text) for key, text in pairs if text != "-"}
        out.append(Row(method.strip(), source, values))
    return out


ALIGNMENT = (
    _rows(
        "alignment",
        f"Table I of {PAPER}",
        """
    3DDFA      | 3.78 4.54 7.93 5.42 6.03 7.50 5.06 6.55
    3DFAN      | 2.77 3.48 4.61 3.62 -    -    -    -
    DeFA       | -    -    -    4.50 4.36 6.23 4.44 6.04
    3DSTN      | 3.15 4.33 5.98 4.49 -    -    -    -
    Nonlinear 3DMM | - -   -    4.12 -    -    -    -
    PRN        | 2.75 3.51 4.61 3.62 3.26 4.70 3.17 4.40
    DAMDN      | 2.90 3.83 4.95 3.89 -    -    -    -
    CMD        | -    -    -    3.90 -    -    -    -
    SPDT       | 3.56 4.06 4.11 3.88 -    -    -    -
    3DDFA_V2   | 2.63 3.42 4.48 3.51 -    -    -    4.18
    SADRNet    | 2.66 3.30 4.42 3.46 3.05 4.33 2.93 4.02
    """,
    )
    + _rows(
        "alignment",
        "Wu et al., SynergyNet, 3DV 2021",
        "SynergyNet | 2.66 3.32 4.27 3.41 - - - -",
    )
    + _rows(
        "alignment",
        "Li et al., DSFNet, CVPR 2023 (abstract)",
        "DSFNet | - - - - - - - 3.80",
    )
)

RECONSTRUCTION = _rows(
    "reconstruction",
    f"Table II of {PAPER}",
    """
    3DDFA        | -    -    -    5.36 6.38
    DeFA         | -    -    -    5.64 -
    VRN - Guided | -    -    -    -    5.26
    PRN          | 3.72 4.04 4.45 3.96 3.75
    SPDT         | -    -    -    3.70 3.83
    3DDFA_V2     | -    -    -    -    3.56
    SADRNet      | 3.17 3.42 -    3.25 3.12
    """,
)

POSE = _rows(
    "pose",
    f"Table III of {PAPER}",
    """
    FSANet      | 4.50 6.08 4.64 5.07
    GLDL        | 3.02 5.06 3.68 3.92
    QuatNet     | 3.97 5.61 3.92 4.50
    FDN         | 3.78 5.61 3.88 4.42
    MNN         | 3.34 4.69 3.48 3.83
    SADRNet     | 2.93 5.00 3.54 3.82
    SADRNet-fix | 2.93 4.43 2.95 3.44
    """,
)

ALL = {"alignment": ALIGNMENT, "reconstruction": RECONSTRUCTION, "pose": POSE}


def footnotes(rows: list[Row]) -> tuple[list[str], str]:
    """The rows' methods with the numbers of their sources, and the note that lists these."""
    numbers = {source: k for k, source in enumerate(dict.fromkeys(r.source for r in rows), 1)}
    note = "; ".join(f"[{number}] {source}" for source, number in numbers.items())
    return [f"{row.method} [{numbers[row.source]}]" for row in rows], f"{note}."


def records(tables: dict[str, list[Row]]) -> dict[str, Any]:
    """Published rows as in report.json."""
    return {
        name: [{"method": r.method, "source": r.source, **r.values} for r in rows]
        for name, rows in tables.items()
    }
