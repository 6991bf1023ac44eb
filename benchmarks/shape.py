"""How much reconstructed shapes vary: among faces, between people and within a person.

    python benchmarks/shape.py --aflw2000 AFLW2000-3D --cfp cfp.npz --face-model bfm_uv.npz

Prints Markdown. First, how far S of near-frontal faces of AFLW2000-3D is from their mean. Then, for
a training shard of CFP whose ``source`` names are ``.../PERSON/frontal/04.jpg``, the standard
deviation of identity coefficients between people (of their means) and within a person, root mean
square over the coefficients: of the labels of all near-frontal photos, and of coefficients fitted
to S for some photos of some people. Same / different: how often two photos of the same person have
more similar coefficients (by cosine, after subtracting the mean of all) than two of different
people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import script
from numpy.typing import NDArray
from script import head, row

from sadr_cli import Reconstructor
from sadr_cli.arrays import read_npz
from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.evaluation.data import aflw2000
from sadr_cli.evaluation.data.benchmark import read_image
from sadr_cli.faces import Face
from sadr_cli.model.face_model import load_face_model
from sadr_cli.model.linear import fit_coefficients, load_linear_model
from sadr_cli.pose import matrix_to_euler
from sadr_cli.training.dataset import FIELDS
from sadr_cli.uv import MM_PER_UNIT

FRONTAL, FRONTAL_CFP = 30.0, 35.0  # degrees of yaw: of the network, of the labels
EVERY, PEOPLE, PHOTOS = 9, 40, 5  # every ninth person, how many people, photos of each

Array = NDArray[np.float64]


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--aflw2000", type=Path, help="folder instead of SADR_DATA/AFLW2000-3D")
    parser.add_argument("--cfp", type=Path, required=True, help="training shard of CFP")
    parser.add_argument("--face-model", type=Path, required=True, help="npz of the shard's labels")
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    return script.run(parser, tables)


def tables(options: argparse.Namespace) -> Iterator[str]:
    network = Reconstructor(options.weights, device=options.device)
    spread, count = deviation(options.aflw2000, network)
    yield f"{count} near-frontal faces, mean distance of S from their mean: {spread:.2f} mm\n"
    yield from head("identity coefficients", "people", "between", "within", "same / different")
    shard = read_npz(options.cfp, (*FIELDS, "source"))
    person = np.array([str(name).split("/")[-3] for name in shard["source"]])
    frontal = np.abs(matrix_to_euler(shard["rotation"].astype(float))[:, 0]) < FRONTAL_CFP
    model = load_face_model(options.face_model)
    labels = shard["coeff"][frontal, : model.identities].astype(float)
    yield table_row("labels", labels, person[frontal])
    rng = np.random.default_rng(0)
    chosen: list[int] = []
    for name in np.unique(person)[::EVERY][:PEOPLE]:
        chosen += rng.permutation(np.flatnonzero(frontal & (person == name)))[:PHOTOS].tolist()
    linear = load_linear_model(options.face_model, network.uv)
    faces = (face_of(*photo, network) for photo in script.labelled_photos(shard, chosen, model))
    fitted = np.stack([fit_coefficients(linear, face.shape).identity for face in faces])
    yield table_row(network.info.name, fitted, person[chosen])


def deviation(folder: Path | None, network: Reconstructor) -> tuple[float, int]:
    """Mean distance in millimetres of S of near-frontal faces from their mean, and their number."""
    benchmark = aflw2000.load(folder)
    faces = [
        face_of(read_image(path), landmarks, network)
        for path, landmarks in zip(benchmark.images, benchmark.landmarks, strict=True)
        if path is not None
    ]
    shapes = np.stack([face.shape for face in faces if abs(face.euler[0]) < FRONTAL])
    distance = np.linalg.norm(shapes - shapes.mean(0), axis=2)
    return float(distance.mean()) * MM_PER_UNIT, len(shapes)


def face_of(image: NDArray[np.uint8], landmarks: Array, network: Reconstructor) -> Face:
    """The face in one pass on the crop around the true landmarks."""
    crop = crop_from_landmarks(landmarks)
    picture = extract_crop(image, crop, network.crop_resolution)
    return network.reconstruct_crops([picture], [crop])[0]


def table_row(name: str, coefficients: Array, person: NDArray[np.str_]) -> str:
    people, index = np.unique(person, return_inverse=True)
    means = np.stack([coefficients[index == k].mean(0) for k in range(len(people))])
    between = np.sqrt(means.var(0).mean())
    within = np.sqrt(((coefficients - means[index]) ** 2).mean())
    shown = f"{100 * same_closer(coefficients, index):.1f} %"
    return row(name, len(people), float(between), float(within), shown)


def same_closer(coefficients: Array, person: NDArray[np.intp]) -> float:
    """Share of (same pair, different pair) in which the same person's has the larger cosine."""
    unit = coefficients - coefficients.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    a, b = np.array(list(combinations(range(len(unit)), 2))).T
    cosine = np.einsum("nk,nk->n", unit[a], unit[b])
    same = person[a] == person[b]
    different = np.sort(cosine[~same])
    return float(np.searchsorted(different, cosine[same]).mean() / len(different))


if __name__ == "__main__":
    sys.exit(main())
