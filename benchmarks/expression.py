"""Calibration of the expression measures, and their correlation with human annotations.

    python benchmarks/expression.py --data DATA --weights mobile

DATA has the training shards (``train/*.npz``), the face model they are fitted with
(``face_model/bfm_uv.npz``) and ``eval/helen_dev`` (photos with ``.pts``). Prints, as Markdown, each
measure's length on faces without expression and at the extremes, which are
``sadr_cli.expression.CALIBRATION``, and its correlation with the length measured on annotated
points of near-frontal photos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import script
from script import row

from sadr_cli import Detection, Face, Reconstructor, read_image
from sadr_cli.arrays import read_npz
from sadr_cli.evaluation.data.lm300w import read_pts
from sadr_cli.expression import MEASURES, eye_lengths, measure_lengths
from sadr_cli.model.face_model import FaceModel, load_face_model
from sadr_cli.pose import matrix_to_euler, without_pose
from sadr_cli.training.dataset import FIELDS

NEUTRAL, ALL = {"utk": 150, "lfw": 150}, {"300w": 900, "aflw-0": 400}  # faces of each shard
FRONTAL, TURNED = 25.0, 40.0  # degrees of yaw


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights")
    return script.run(parser, table)


def table(options: argparse.Namespace) -> Iterator[str]:
    data, network = options.data, Reconstructor(options.weights, two_pass=False)
    model = load_face_model(data / "face_model" / "bfm_uv.npz")
    neutral = [m for name, n in NEUTRAL.items() for m in of_shard(data, name, n, model, network)]
    others = [m for name, n in ALL.items() for m in of_shard(data, name, n, model, network, False)]
    ours, theirs = zip(*of_people(data / "eval" / "helen_dev", network), strict=True)
    yield from script.head("measure", "neutral: 5, 50, 95 %", "all: 2, 50, 98 %", "correlation")
    for name in MEASURES:
        at_rest, spread = ([lengths[name] for lengths in part] for part in (neutral, others))
        r = np.corrcoef([m[name] for m in ours], [m[name] for m in theirs])[0, 1]
        cells = (np.percentile(at_rest, (5, 50, 95)), np.percentile(spread, (2, 50, 98)))
        yield row(name, *(", ".join(f"{v:.4f}" for v in part) for part in cells), float(r))
    yield f"\n{len(neutral)} neutral faces, {len(others)} others, {len(ours)} annotated by people"


def of_shard(
    data: Path,
    name: str,
    count: int,
    model: FaceModel,
    network: Reconstructor,
    neutral: bool = True,
) -> Iterator[dict[str, float]]:
    """Lengths of ``count`` faces of a shard: those with the least expression, or random ones."""
    shard = read_npz(data / "train" / f"{name}.npz", FIELDS)
    yaw = np.abs(matrix_to_euler(shard["rotation"].astype(float))[:, 0])
    if neutral:
        chosen = np.flatnonzero(yaw < FRONTAL)
        strength = np.linalg.norm(shard["coeff"][chosen, model.identities :], axis=1)
        chosen = chosen[np.argsort(strength)][:count]
    else:
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(yaw < TURNED))[:count]
    for image, points in script.labelled_photos(shard, chosen, model):
        yield lengths_of(reconstruct(image, points, network))


def of_people(
    folder: Path, network: Reconstructor
) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """(ours, those of the annotated points) of every near-frontal photo."""
    for file in sorted(folder.glob("*.pts")):
        points = read_pts(file) - 1
        photo = next(p for p in folder.glob(f"{file.stem}.*") if p.suffix != ".pts")
        face = reconstruct(read_image(photo), points, network)
        if max(map(abs, face.euler[:2])) < FRONTAL:
            yield lengths_of(face), measure_lengths(upright(points))


def upright(points: np.ndarray) -> np.ndarray:
    """(68, 3) y up, the eyes level."""
    x, y = points[45] - points[36]
    c, s = np.array([x, y]) / np.hypot(x, y)
    return np.column_stack([points @ (c, s), -points @ (-s, c), np.zeros(68)])


def reconstruct(image: np.ndarray, points: np.ndarray, network: Reconstructor) -> Face:
    box = np.concatenate([points.min(0), points.max(0)])
    return network.reconstruct(image, [Detection(box)])[0]


def lengths_of(face: Face) -> dict[str, float]:
    place = face.scale, face.rotation, face.translation
    eyes = {}
    if face.picture is not None:
        marks = face.crop.place(face.landmarks, len(face.picture))
        eyes = eye_lengths(face.picture, marks, face.landmark_visibility)
    return {**measure_lengths(without_pose(face.landmarks, *place)), **eyes}


if __name__ == "__main__":
    sys.exit(main())
