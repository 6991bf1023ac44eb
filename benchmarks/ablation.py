"""The variants of the paper's ablation (Table IV), trained equally long, against the paper's.

    python benchmarks/ablation.py SHARDS --face-model bfm_uv.npz --aflw2000 AFLW2000-3D \
        --out runs/ablation -- --preset lite --set start_encoder=lite --set steps=300

Arguments after ``--`` are passed to every ``sadr train``. Each variant is trained and evaluated in
its own folder below ``--out``; finished ones are not run again. Prints a Markdown table of NME in
percent, means over all images, ours / the paper's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import script
from script import head, row

MEASURES = ("nme_2d", "nme_3d", "dense_2d", "dense_3d", "reconstruction")
# Table IV of the paper: sparse 2-D and 3-D, dense 2-D and 3-D, reconstruction.
PAPER = {
    "direct": (3.31, 4.74, 3.10, 4.33, 4.07),
    "regressed-pose": (3.43, 4.94, 3.21, 4.50, 3.37),
    "no-attention": (3.18, 4.51, 3.03, 4.17, 3.39),
    "attention-only": (3.16, 4.53, 3.03, 4.21, 4.02),
    "no-deformation": (3.24, 4.59, 3.14, 4.31, 3.49),
    "sadrnet": (3.05, 4.33, 2.93, 4.02, 3.25),
}


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("data", nargs="+", help="what sadr train takes")
    parser.add_argument("--face-model", required=True)
    parser.add_argument("--aflw2000", required=True, help="the folder to evaluate on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variants", nargs="+", choices=PAPER, default=list(PAPER))
    own, training = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, training = own[:at], own[at + 1 :]
    options = parser.parse_args(own)
    for name in options.variants:
        run(name, options, training)
    print("\n".join(table({name: report(options.out / name) for name in PAPER})))


def run(name: str, options: argparse.Namespace, training: list[str]) -> None:
    """Train and evaluate one variant, unless it has a report already."""
    out = options.out / name
    if report(out) is not None:
        return
    shared = ["--face-model", options.face_model, "--device", options.device]
    named = ["--set", f"variant={name}", "--set", f"name={name}"]
    sadr("train", *options.data, *shared, "--out", str(out), *training, *named)
    weights = str(out / f"{name}.safetensors")
    sadr("evaluate", "aflw2000", "--data", options.aflw2000, *shared, "--weights", weights,
         "--out", str(out / "evaluation"), "--quiet")  # fmt: skip


def sadr(*arguments: str) -> None:
    code = subprocess.run([sys.executable, "-m", "sadr_cli", *arguments], stdout=2).returncode
    if code:
        sys.exit(code)


def report(out: Path) -> dict[str, Any] | None:
    """The variant's figures, or None where it has no report yet."""
    path = out / "evaluation" / "report.json"
    if not path.is_file():
        return None
    results: dict[str, Any] = json.loads(path.read_text())["methods"][0]["results"]
    return results


def table(reports: dict[str, dict[str, Any] | None]) -> Iterator[str]:
    """Markdown: one row per variant, ours / the paper's."""
    yield from head("variant", "2-D 68", "3-D 68", "dense 2-D", "dense 3-D", "reconstruction")
    for name, paper in PAPER.items():
        results = reports.get(name)
        if results is not None:
            ours = [mean_of(results[key]) for key in MEASURES]
            cells = [f"{a:.2f} / {b:.2f}" for a, b in zip(ours, paper, strict=True)]
            yield row(f"`{name}`", *cells)


def mean_of(measure: dict[str, Any]) -> float:
    return float(measure["fitted"]["mean"] if "fitted" in measure else measure["mean"])


if __name__ == "__main__":
    main()
