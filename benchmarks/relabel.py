"""New labels of training shards, predicted by trained networks, for ``sadr train``.

    python benchmarks/relabel.py SHARDS --face-model bfm_uv.npz --teacher mobile --out labels.npz \\
        --human-points merl.npz --turn-back 2.2

Method: ``sadr_cli/training/relabel.py``. The teachers' UV maps must be 64 x 64.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import script
import torch

from sadr_cli.model.checkpoint import find_weights, load_checkpoint
from sadr_cli.model.device import select_device
from sadr_cli.model.face_model import load_face_model
from sadr_cli.training.dataset import LABELS, add_human_points
from sadr_cli.training.grid import UVGrid
from sadr_cli.training.relabel import Labeller, Look, NetworkTeacher, relabel, turn_back
from sadr_cli.training.session import load_photos


def main(arguments: list[str] | None = None) -> int:
    parser = script.parser(__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="shards or folders of shards")
    parser.add_argument("--face-model", type=Path, required=True)
    parser.add_argument("--teacher", action="append", required=True, help="checkpoint or name")
    parser.add_argument("--own", type=float, default=0.5, help="weight of the present labels")
    parser.add_argument("--looks", type=int, default=6, help="crops per photo and teacher")
    parser.add_argument("--human-points", type=Path)
    parser.add_argument("--turn-back", type=float, default=0.0, help="degrees of yaw")
    parser.add_argument("--side", type=int, default=176, help="side of the stored photos, pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    return script.run(parser, work, arguments)


def work(options: argparse.Namespace) -> Iterator[str]:
    device = select_device(options.device)
    model = load_face_model(options.face_model)
    photos = load_photos(options.data, model, options.side)
    if options.human_points:
        yield f"{add_human_points(photos, options.human_points)} photos with human points"
    photos = photos.to(device)
    labeller = Labeller(photos, UVGrid(model, 64, device))
    half = device.type == "cuda"
    teachers = [
        (NetworkTeacher(load_checkpoint(find_weights(t)), labeller, half), 1.0)
        for t in options.teacher
    ]
    new = relabel(labeller, teachers, looks(options.looks), options.own)
    if options.turn_back:
        new = turn_back(new, labeller.grid, options.turn_back)
    values = {k: getattr(new, k).cpu().numpy() for k in LABELS}
    values["coefficients"] = values["coefficients"].astype(np.float16)
    np.savez_compressed(options.out, names=np.array(new.names), side=options.side, **values)
    change = (new.coefficients - photos.coefficients).pow(2).mean().sqrt()
    yield f"{len(new)} labels; coefficients changed by {float(change):.2f} standard deviations"


def looks(count: int) -> list[Look]:
    """The plain crop, its mirror image, and jittered crops, alternately mirrored."""
    rng = np.random.default_rng(1)
    jittered = [
        Look(*rng.uniform(-0.05, 0.05, 2), rng.uniform(0.93, 1.12), bool(k % 2))
        for k in range(count)
    ]
    return [Look(), Look(mirrored=True), *jittered][: max(count, 1)]


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
