"""report.html: tables, curves and faces in one file that asks nothing of the network."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np

from sadr_cli.errors import InputError
from sadr_cli.evaluation.data.benchmark import read_image
from sadr_cli.evaluation.report.pictures import PREDICTION, TRUTH, face_jpeg
from sadr_cli.evaluation.report.record import Entry, Report, citation
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.report.tables import build

WORST, MEDIAN = 10, 5

_STYLE = """
:root{--ink:#1c2330;--soft:#5d6878;--line:#dfe4ea;--paper:#fff;--ground:#f5f7f9;--ours:#e8f1f8}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#98a4b5;--line:#2f3743;
--paper:#1a1f27;--ground:#12161c;--ours:#1d3345}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:25px;margin:0 0 2px}h2{font-size:17px;margin:34px 0 10px}
p{margin:4px 0}.soft{color:var(--soft)}code{font-size:12.5px;overflow-wrap:anywhere}
.card{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:14px 16px;
margin:14px 0;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
caption{text-align:left;font-weight:600;padding-bottom:8px}
th,td{padding:4px 9px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left}
td:first-child{white-space:normal}
tr.ours td{background:var(--ours);font-weight:600}
.note{color:var(--soft);font-size:13px;margin-top:8px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:14px}
.charts .card{margin:0;max-width:640px}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:12px}.grid{stroke:var(--line);stroke-width:1}
.legend{fill:var(--paper);fill-opacity:.85}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:12px}
figure{margin:0}figure img{width:100%;border-radius:6px;display:block;aspect-ratio:1;
object-fit:cover;background:var(--line)}
figcaption{font-size:12.5px;color:var(--soft);margin-top:4px;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:14px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:600px){dl{grid-template-columns:1fr}}
.key{display:inline-block;width:11px;height:11px;border-radius:3px;margin:0 5px 0 12px}
"""


def render(report: Report[Any]) -> str:
    """The page. Faces are read from the benchmark's pictures; unreadable ones are skipped."""
    b = report.benchmark
    title = f"{b.name}: {' and '.join(entry.label for entry in report.entries)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">sadr {escape(report.version)} evaluate, {len(b)} images, '
        f"{b.landmarks.shape[1]} points; image list SHA-256 <code>{b.list_sha256}</code></p>",
        '<div class="card"><b>To cite</b>'
        + "".join(f"<p>{escape(citation(report, e))}</p>" for e in report.entries)
        + "</div>",
        *(_table(table) for table in build(report)),
        "<h2>Errors</h2>",
        _charts(report),
        *(_faces(report, entry) for entry in report.entries),
        *_details(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in table.columns)
    body = "".join(
        f"<tr{' class=ours' if k in table.marked else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for k, row in enumerate(table.rows)
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="card"><table><caption>{escape(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}</div>"
    )


def _charts(report: Report[Any]) -> str:
    charts = report.protocol.charts(report)
    cards = "".join(f'<div class="card">{chart}</div>' for chart in charts)
    return f'<div class="charts">{cards}</div>'


def _faces(report: Report[Any], entry: Entry) -> str:
    errors = entry.scores.per_image[report.protocol.main]
    order = np.argsort(np.where(np.isfinite(errors), errors, -np.inf), kind="stable")
    order = order[np.isfinite(errors[order])]
    if not len(order):
        return ""
    middle = max(len(order) // 2 - MEDIAN // 2, 0)
    legend = (
        f'<p class="soft"><span class="key" style="background:rgb{TRUTH};margin-left:0"></span>'
        f'truth<span class="key" style="background:rgb{PREDICTION}"></span>prediction</p>'
    )
    suffix = f", {escape(entry.label)}" if len(report.entries) > 1 else ""
    out = []
    for name, chosen in (
        ("Worst faces", order[::-1][:WORST]),
        ("Median faces", order[middle : middle + MEDIAN]),
    ):
        figures = "".join(_figure(report, entry, int(i), float(errors[i])) for i in chosen)
        if figures:
            out.append(f'<h2>{name}{suffix}</h2>{legend}<div class="faces">{figures}</div>')
    return "".join(out)


def _figure(report: Report[Any], entry: Entry, index: int, error: float) -> str:
    b = report.benchmark
    path = b.images[index]
    if path is None:
        return ""
    try:
        image = read_image(path)
        data = face_jpeg(image, b.landmarks[index], entry.predictions.landmarks[index])
    except InputError:
        return ""
    text = f"{b.names[index]}: {error:.2f} %{report.protocol.caption(b, index)}"
    source = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{escape(text)}" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def _details(report: Report[Any]) -> list[str]:
    record = report.to_dict()
    out = ["<h2>Protocol</h2>", _list({**record["protocol"], **record["benchmark"]["choices"]})]
    for method in record["methods"]:
        skip = ("results", "left out", "missing", "predictions without an image")
        out.append(f"<h2>{escape(method['label'])}</h2>")
        about: dict[str, Any] = {k: v for k, v in method.items() if k not in skip}
        for key, reason in method["left out"].items():
            about[f"left out: {key}"] = reason
        out.append(_list(about))
        if method["missing"]:
            out.append(f"<h2>Without a face: {len(method['missing'])}</h2>")
            out.append(_list(method["missing"]))
    excluded = record["benchmark"]["excluded"]
    if excluded:
        out.append(f"<h2>Left out: {len(excluded)} images</h2>{_list(excluded)}")
    return out


def _plain(value: Any) -> str:
    """Text of a value of report.json."""
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def _list(items: dict[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escape(str(k))}</dt><dd>{escape(_plain(v))}</dd>"
        for k, v in items.items()
        if v not in (None, "")
    )
    return f'<div class="card"><dl>{rows}</dl></div>'
