"""Tables shaped like the paper's: plain data for the report page, and rich tables for eyes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sadr_cli.evaluation.measures.metrics import BIN_NAMES
from sadr_cli.evaluation.report import published

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from sadr_cli.evaluation.report.record import Report


# How measures are called in front of people.
MEASURES = {
    "nme_2d": "2D 68",
    "nme_2d_p": "2D 68 of P",
    "nme_3d": "3D 68",
    "nme_3d_p": "3D 68 of P",
    "nme_2d_reannotated": "2D 68 re-annotated",
    "nme_2d_reannotated_p": "2D 68 of P re-annotated",
    "dense_2d": "2D dense",
    "dense_3d": "3D dense",
    "reconstruction": "reconstruction",
    "template": "mean template",
    "way_back": "way back",
    "nme_box": "box",
    "nme_inter_ocular": "inter-ocular",
    "nme_inter_pupil": "inter-pupil",
    "noise_floor": "noise floor",
}


FACES = (("", ""), (", P", "_p"))  # behind the method's label, behind the measure's key


@dataclass
class Table:
    """Rows of text. ``ours``: indices of rows measured here. ``note``: below the table."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    ours: list[int] = field(default_factory=list)
    note: str = ""

    @property
    def marked(self) -> list[int]:
        """Rows to stand out: ours among others'; none where all are ours."""
        return self.ours if len(self.ours) < len(self.rows) else []

    def add(self, cells: list[Any], ours: bool = False, digits: int = 2) -> None:
        if ours:
            self.ours.append(len(self.rows))
        self.rows.append([_text(cell, digits) for cell in cells])


def build(report: Report) -> list[Table]:
    """All tables of a report."""
    if report.main == "reconstruction":
        tables = [_florence(report), _views(report)]
    elif report.benchmark.angles is None:
        tables = [_contour(report, "68"), _contour(report, "51")]
    else:
        tables = [_alignment(report), _second_truth(report), _reconstruction(report), _pose(report)]
    tables.append(_coverage(report))
    if report.comparison:
        tables.append(_comparison(report))
    tables += [occlusion_table(report.extras["occlusion"])] if "occlusion" in report.extras else []
    return [table for table in tables if table.rows]


def to_rich(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as Rich
    from rich.text import Text

    out = Rich(
        title=Text(table.title, "bold"),
        caption=Text(table.note, "dim") if table.note else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for k, name in enumerate(table.columns):
        # Two short lines instead of one wide one: eight figures fit beside a name in 80 columns.
        header = Text(name if k == 0 else name.replace(" ", "\n"))
        if k == 0:
            out.add_column(header, justify="left", min_width=20, overflow="fold")
        else:
            out.add_column(header, justify="right", no_wrap=True)
    for k, row in enumerate(table.rows):
        out.add_row(*(Text(cell) for cell in row), style="bold" if k in table.marked else None)
    return out


def _alignment(report: Report) -> Table:
    dense = any("dense_2d" in e.scores.results for e in report.entries)
    points = next(
        (str(e.predictions.vertices.shape[1]) for e in report.entries
         if e.predictions.vertices is not None), "45K",
    )  # fmt: skip
    table = Table(
        f"NME (%) on {report.benchmark.name}, {len(report.benchmark)} images "
        "(the paper's Table I)",
        ["method", *(f"2D {b}" for b in BIN_NAMES), "2D bal.", "2D mean", "3D mean",
         f"2D {points}" if dense else "2D dense", f"3D {points}" if dense else "3D dense"],
    )  # fmt: skip
    if report.benchmark.name == "aflw2000":
        for row in published.ALIGNMENT:
            keys = published.TABLES["alignment"]
            table.add([_cite(row), *(row.values.get(key) for key in keys)])
    for entry in report.entries:
        r = entry.scores.results
        for face, suffix in FACES:
            for yaw, two in r.get(f"nme_2d{suffix}", {}).items():
                cells = [_label(entry.label + face, yaw, two["missing"])]
                cells += [two["bins"][b] for b in BIN_NAMES] + [two["balanced"], two["mean"]]
                others = (f"nme_3d{suffix}", f"dense_2d{suffix}", f"dense_3d{suffix}")
                cells += [r.get(key, {}).get(yaw, {}).get("mean") for key in others]
                table.add(cells, ours=True)
    floor = report.entries[0].scores.results.get("noise_floor", {}).get("fitted")
    notes = _published_notes(report, published.ALIGNMENT)
    if any("nme_2d_p" in e.scores.results for e in report.entries):
        notes.append("P: the network's pose-dependent face, before self-alignment.")
    if floor:
        table.add(
            [
                "noise floor (fitted)",
                *(floor["bins"][b] for b in BIN_NAMES),
                *(floor["balanced"], floor["mean"], None, None, None),
            ]
        )
        notes.append(published.NOISE_FLOOR_NOTE)
    table.note = " ".join(notes)
    return table


def _second_truth(report: Report) -> Table:
    table = Table(
        "68 points: 3D by yaw, and 2D against the re-annotated truth (NME %)",
        ["method", *BIN_NAMES, "balanced", "mean"],
    )
    for entry in report.entries:
        for key, name in (("nme_3d", "3D"), ("nme_2d_reannotated", "2D re-annotated")):
            for face, suffix in FACES:
                for yaw, s in entry.scores.results.get(key + suffix, {}).items():
                    cells = [f"{entry.label}{face}, {name} ({yaw})"]
                    cells += [*(s["bins"][b] for b in BIN_NAMES), s["balanced"], s["mean"]]
                    table.add(cells, ours=True)
    return table


def _reconstruction(report: Report) -> Table:
    table = Table(
        "Reconstruction error (%), over the 3-D outer-eye distance (the paper's Table II)",
        ["method", *BIN_NAMES, "balanced", "mean"],
    )
    measured = [e for e in report.entries if "reconstruction" in e.scores.results]
    if not measured:
        return table
    rows = published.RECONSTRUCTION if report.benchmark.name == "aflw2000" else []
    for row in rows:
        v = row.values
        if "mean" in v:
            table.add([_cite(row), *(v.get(b) for b in BIN_NAMES), None, v.get("mean")])
    for entry in measured:
        for yaw, s in entry.scores.results["reconstruction"].items():
            cells = [_label(entry.label, yaw), *(s["bins"][b] for b in BIN_NAMES)]
            table.add([*cells, s["balanced"], s["mean"]], ours=True)
    template = measured[0].scores.results.get("template", {}).get("fitted")
    if template:
        cells = ["mean template (fitted)", *(template["bins"][b] for b in BIN_NAMES)]
        table.add([*cells, template["balanced"], template["mean"]])
    notes = _published_notes(report, published.RECONSTRUCTION)
    align = {"procrustes": "Procrustes (scale, too)", "icp": "rigid ICP"}
    how = align[report.protocol["face model"]["align"]]
    table.note = " ".join([*notes, f"Ours after {how}; {report.protocol['dense truth']}."])
    return table


def _florence(report: Report) -> Table:
    subjects = len(set(report.benchmark.groups))
    table = Table(
        f"Reconstruction error (%) on {subjects} scans (the paper's Table II, Florence)",
        ["method", "mean", "median", "way back", "views", "missed"],
        note=_sources(published.RECONSTRUCTION)
        + f" Published rows are over Florence's {published.FLORENCE_SUBJECTS} subjects. Way back: "
        "from the scan to the face, a check."
        + (
            f" {len(report.benchmark.excluded)} scans left out."
            if report.benchmark.excluded
            else ""
        ),
    )
    for row in published.RECONSTRUCTION:
        if "florence" in row.values:
            table.add([_cite(row), row.values["florence"], None, None, None, None])
    for entry in report.entries:
        results = entry.scores.results["reconstruction"]
        s = results["all"]
        counts = [str(s["count"]), str(s["missing"])]
        back = entry.scores.results["way_back"]
        cells = [s["mean"], s["median"], back["all"]["mean"]]
        table.add([entry.label, *cells, *counts], ours=True)
        if subjects > 1:
            for name, value in results["by subject"].items():
                cells = [value, None, back["by subject"][name]]
                table.add([f"{entry.label}, {name}", *cells, None, None], ours=True)
    return table


def _views(report: Report) -> Table:
    results = report.entries[0].scores.results["reconstruction"]
    yaws = list(results["by yaw"])
    table = Table(f"{report.entries[0].label} by view (%)", ["pitch", *(f"yaw {y}" for y in yaws)])
    for pitch, row in results["by view"].items():
        table.add([pitch, *row.values()], ours=True)
    table.add(["mean", *results["by yaw"].values()], ours=True)
    return table


def _pose(report: Report) -> Table:
    table = Table(
        "Head pose, mean absolute error in degrees (the paper's Table III)",
        ["method", "yaw", "pitch", "roll", "mean", "geodesic", "images", "left out"],
    )
    measured = [e for e in report.entries if "pose" in e.scores.results]
    if measured and report.benchmark.name == "aflw2000":
        for row in published.POSE:
            cells = [row.values.get(key) for key in published.TABLES["pose"]]
            table.add([_cite(row), *cells, None, None, None])
        table.note = " ".join(_published_notes(report, published.POSE))
    for entry in measured:
        for kind, name in (("plain", ""), ("fix", ", fix")):
            s = entry.scores.results["pose"][kind]
            figures = [s[k] for k in ("yaw", "pitch", "roll", "mean", "geodesic")]
            table.add(
                [entry.label + name, *figures, str(s["count"]), str(s["excluded"])], ours=True
            )
    return table


def _contour(report: Report, points: str) -> Table:
    """NME of all 68 ("68") or of the 51 inner points ("51") by every normaliser."""
    suffix = "_inner51" if points == "51" else ""
    table = Table(
        f"NME (%), {points} points in 2-D" + (", without the jaw" if suffix else ""),
        ["method, normaliser", "mean", "median", "AUC@8 %", "failures %", "images", "missed"],
        note="Box: sqrt(w h) of the 68 true points.",
    )
    for entry in report.entries:
        for key in ("nme_box", "nme_inter_ocular", "nme_inter_pupil"):
            for group, s in entry.scores.results[key + suffix].items():
                label = entry.label if group == "all" else f"{entry.label}, {group}"
                figures = [s[k] for k in ("mean", "median", "auc", "failure_rate")]
                counts = str(s["count"]), str(s["missing"])
                table.add([f"{label}, {MEASURES[key]}", *figures, *counts], ours=True)
    return table


def _coverage(report: Report) -> Table:
    table = Table("Images", ["method", "evaluated", "no face", "left out", "AUC@8 %", "failures %"])
    if report.main == "reconstruction":
        return table
    for entry in report.entries:
        results = entry.scores.results
        s = results["ced"]["nme_2d"] if report.main == "nme_2d" else results["nme_box"]["all"]
        excluded = len(report.benchmark.excluded)
        cells = [str(s["count"]), str(s["missing"]), str(excluded), s["auc"], s["failure_rate"]]
        table.add([entry.label, *cells], ours=True)
    return table


def _comparison(report: Report) -> Table:
    a, b = (entry.label for entry in report.entries)
    table = Table(
        f"{b} minus {a}, paired bootstrap (95 % intervals)",
        ["measure", a, b, "difference", "low", "high", "p", "images"],
    )
    for key, figures in report.comparison.items():
        for part in (*BIN_NAMES, "balanced", "mean"):
            s = figures.get(part)
            if s is not None:
                values = [s[k] for k in ("a", "b", "difference", "low", "high")]
                p = "-" if math.isnan(s["p"]) else f"{s['p']:.4f}"
                name = MEASURES.get(key, key.replace("_", " "))
                table.add([f"{name}, {part}", *values, p, str(s["count"])], digits=3)
    return table


def occlusion_table(results: dict[str, Any]) -> Table:
    """Visibility and attention on synthetic occlusion."""
    table = Table("Synthetic occlusion: attention and visibility", ["measure", "value"])
    for name, value in results["figures"].items():
        table.add([name, value], ours=True, digits=3)
    table.note = results["protocol"]
    return table


def _label(label: str, yaw: str, missing: int = 0) -> str:
    return f"{label} ({yaw}, {missing} missing)" if missing else f"{label} ({yaw})"


def _cite(row: published.Row) -> str:
    return f"{row.method} [{_number(row.source)}]"


def _number(source: str) -> int:
    every = [r.source for rows in (published.ALIGNMENT, published.RECONSTRUCTION, published.POSE)
             for r in rows]  # fmt: skip
    return list(dict.fromkeys(every)).index(source) + 1


def _sources(rows: list[published.Row]) -> str:
    return "; ".join(f"[{_number(s)}] {s}" for s in dict.fromkeys(r.source for r in rows)) + "."


def _published_notes(report: Report, rows: list[published.Row]) -> list[str]:
    if report.benchmark.name != "aflw2000":
        return []
    notes = [_sources(rows)]
    if len(report.benchmark) != published.AFLW2000_IMAGES:
        notes.append(
            f"Published rows are over {published.AFLW2000_IMAGES} images, ours over "
            f"{len(report.benchmark)} of them: not comparable."
        )
    return notes


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return value if isinstance(value, str) else f"{value:.{digits}f}"
