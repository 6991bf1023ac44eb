"""The gain of a second pass, cropped around the landmarks of the first, and error by confidence.

    python benchmarks/passes.py --aflw2000 AFLW2000-3D --weights mobile

Prints two Markdown tables: 2-D NME (percent) with the true crop, after one pass from the
detector's crop, after two, of the more confident of both, and as in ``sadr reconstruct`` (a second
pass where the first crop was far off, other rotations where confidence stays low); and the error
of faces by their confidence. Missed faces are left out of both and counted.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import script
from script import YAW_COLUMNS, head, row

from sadr_cli import Reconstructor
from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.evaluation.data import aflw2000
from sadr_cli.evaluation.data.benchmark import read_image
from sadr_cli.evaluation.inference import matching_detection
from sadr_cli.evaluation.measures.metrics import nme_2d, summarise
from sadr_cli.faces import Crop, Face
from sadr_cli.passes import second_crop

STEPS = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 1.01)


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--aflw2000", type=Path, help="folder instead of SADR_DATA/AFLW2000-3D")
    parser.add_argument("--weights")
    parser.add_argument("--detector", default="centerface")
    parser.add_argument("--device", default="auto")
    return script.run(parser, tables)


def tables(options: argparse.Namespace) -> Iterator[str]:
    benchmark = aflw2000.load(options.aflw2000)
    network = Reconstructor(options.weights, device=options.device, detector=options.detector)
    side = network.crop_resolution

    def reconstruct(image: np.ndarray, crop: Crop) -> Face:
        return network.reconstruct_crops([extract_crop(image, crop, side)], [crop])[0]

    points: dict[str, list[np.ndarray]] = {
        "true crop": [],
        "one pass": [],
        "two passes": [],
        "the more confident": [],
        "as sadr reconstruct": [],
    }
    confidence, kept = [], []
    for k, path in enumerate(benchmark.images):
        if path is None:
            continue
        image, truth = read_image(path), benchmark.landmarks[k]
        found = matching_detection(network.detector.detect(image), truth)
        if found is None:
            continue
        first = reconstruct(image, network.crop_for(found))
        again = second_crop(first)
        second = first if again is None else reconstruct(image, again)
        sure = max(second, first, key=lambda face: face.confidence)
        (best,) = network.reconstruct(image, [found])
        faces = [reconstruct(image, crop_from_landmarks(truth)), first, second, sure, best]
        for name, face in zip(points, faces, strict=True):
            points[name].append(face.landmarks)
        confidence.append(best.confidence)
        kept.append(k)
    truth, yaw = benchmark.landmarks[kept], benchmark.angles[kept, 0]
    yield f"{len(kept)} faces, {len(benchmark.images) - len(kept)} missed\n"
    yield from head("", *YAW_COLUMNS, "95th percentile")
    for name, found in points.items():
        errors = nme_2d(np.stack(found), truth)
        s = summarise(errors, yaw)
        yield row(name, *s.bins.values(), s.balanced, s.mean, float(np.percentile(errors, 95)))
    yield ""
    yield from head("confidence", "faces", "NME", "above 10 %")
    values = np.array(confidence)
    for low, high in itertools.pairwise(STEPS):
        chosen = (values >= low) & (values < high)
        if chosen.any():
            e = errors[chosen]
            large = f"{100 * (e > 10).mean():.0f} %"
            yield row(f"{low:.2f} to {min(high, 1):.2f}", len(e), float(e.mean()), large)


if __name__ == "__main__":
    sys.exit(main())
