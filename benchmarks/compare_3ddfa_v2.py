"""3DDFA_V2's released network and sadr's weights by the same protocols on the same pictures.

    python benchmarks/compare_3ddfa_v2.py --onnx mb1_120x120.onnx --basis basis.npz \
        --aflw2000 AFLW2000-3D --300w HELEN --out runs/compare

Markdown on standard output: NME in 2-D and 3-D by yaw, the re-annotated truth and pose, each with
paired bootstrap intervals, the effect of synthetic occlusion, and 300-W. 3DDFA_V2 runs twice: on
the crop it was trained with (sqrt(2) times the longer side of the true box) and on sadr's, both
around the true landmarks. Reports are written below --out; sadr's faces are computed once.

3DDFA_V2 (Guo et al., ECCV 2020) is at github.com/cleardusk/3DDFA_V2; --basis is an npz made from
its files: ``param_mean`` and ``param_std`` (62,), ``u`` (P, 3) and ``w`` (P, 3, 50): mean and basis
of the 68 landmarks (the first 68 rows; more are ignored), micrometres, y up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import script
from numpy.typing import NDArray
from script import YAW_COLUMNS, head, row, yaw_cells

from sadr_cli.arrays import read_npz, write_npz
from sadr_cli.crop import crop_from_landmarks, crop_matrix, crop_to_image
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.benchmarks.lm300w import NAMES
from sadr_cli.evaluation.data.benchmark import Array, Benchmark, read_image
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.occlusion import make_sample
from sadr_cli.evaluation.report.files import write_files
from sadr_cli.evaluation.report.record import Report
from sadr_cli.evaluation.run import Settings, evaluate, make_network
from sadr_cli.faces import Crop
from sadr_cli.files import make_folder

SIZE = 120  # pixels of its input
MEASURES = {"nme_2d": "2D", "nme_2d_reannotated": "2D, re-annotated truth", "nme_3d": "3D"}


def main(arguments: list[str] | None = None) -> int:
    parser = script.parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True, help="mb1_120x120.onnx of 3DDFA_V2")
    parser.add_argument("--basis", type=Path, required=True, help="npz, see above")
    parser.add_argument("--weights", help="sadr's: checkpoint or name of installed weights")
    parser.add_argument("--aflw2000", type=Path, help="folder of AFLW2000-3D")
    parser.add_argument("--300w", dest="lm300w", type=Path, help="folder of 300-W or HELEN")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic occlusion")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    return script.run(parser, summary, arguments)


@dataclass(frozen=True, eq=False)
class ThreeDDFA:
    """3DDFA_V2's network and the decoder of its 62 parameters.

    They are a 3 x 4 camera, then 40 identity and 10 expression coefficients, standardised.
    """

    session: Any
    mean: Array
    std: Array
    landmarks: Array  # (68, 3)
    basis: Array  # (68, 3, 50)

    @classmethod
    def load(cls, onnx: Path, basis: Path) -> ThreeDDFA:
        arrays = read_npz(basis, ("param_mean", "param_std", "u", "w"))
        mean, std, u, w = (arrays[k].astype(float) for k in ("param_mean", "param_std", "u", "w"))
        if mean.shape != (62,) or std.shape != (62,) or u[:68].shape != (68, 3) \
                or w[:68].shape != (68, 3, 50):  # fmt: skip
            raise MissingDataError(f"{basis} is not the basis of 3DDFA_V2's 68 landmarks")
        try:
            from onnxruntime import InferenceSession

            session = InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        except ImportError as error:
            raise MissingDataError("onnxruntime is missing: pip install 'sadr[export]'") from error
        except Exception as error:  # ONNX Runtime raises types of its own
            raise MissingDataError(f"{onnx} is not an ONNX network: {error}") from error
        return cls(session, mean, std, u[:68], w[:68])

    def __call__(self, picture: NDArray[np.uint8], crop: Crop) -> tuple[Array, Array]:
        """Landmarks (68, 3) in the photo and rotation (3, 3) from a crop (120, 120, 3) RGB."""
        pixels = (picture[:, :, ::-1].astype(np.float32) - 127.5) / 128
        name = self.session.get_inputs()[0].name
        (found,) = self.session.run(None, {name: pixels.transpose(2, 0, 1)[None]})
        parameters = found.ravel() * self.std + self.mean
        camera = parameters[:12].reshape(3, 4)
        points = (self.landmarks + self.basis @ parameters[12:]) @ camera[:, :3].T + camera[:, 3]
        # One-based as in MATLAB, y up from the bottom.
        pixel = points * (1, -1, 1) + (-1, SIZE, -1)
        u, _, vt = np.linalg.svd(camera[:, :3])
        return crop_to_image(pixel, crop, SIZE), u @ vt


def its_crop(landmarks: Array) -> Crop:
    """3DDFA_V2's own crop: sqrt(2) times the longer side of the landmarks' box.

    Its pixel 0 lies on the edge of the square, half a pixel off sadr's convention.
    """
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    size = float(np.sqrt(2) * (high - low).max())
    x, y = (low + high) / 2 - 0.5 * size / SIZE
    return Crop(float(x), float(y), size)


def cut(image: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    """(120, 120, 3), sampled as in 3DDFA_V2's own code; averaging first raises its NME by 0.05."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, crop_matrix(crop, SIZE), (SIZE, SIZE), flags=flags)


CROPS = {"3DDFA_V2": its_crop, "3DDFA_V2, sadr's crop": crop_from_landmarks}


def predict(
    network: ThreeDDFA, benchmark: Benchmark, rule: Callable[[Array], Crop], out: Path
) -> None:
    """3DDFA_V2 over a benchmark, as the documented predictions npz."""
    landmarks, rotations = [], []
    for path, truth in zip(benchmark.images, benchmark.landmarks, strict=True):
        assert path is not None
        crop = rule(truth)
        points, rotation = network(cut(read_image(path), crop), crop)
        landmarks.append(points)
        rotations.append(rotation)
    arrays = {
        "name": np.array(benchmark.names),
        "landmarks": np.array(landmarks),
        "rotation": np.array(rotations),
    }
    make_folder(out.parent)
    write_npz(out, arrays)


def summary(options: argparse.Namespace) -> Iterator[str]:
    """Lines of Markdown, each as soon as its runs are done."""
    if not (options.aflw2000 or options.lm300w):
        raise SystemExit("no benchmark: name a folder with --aflw2000 or --300w (see --help)")
    network = ThreeDDFA.load(options.onnx, options.basis)
    if options.aflw2000:
        yield from _aflw2000(network, options)
    if options.lm300w:
        yield from _300w(compare(network, "300w", options.lm300w, options))


def compare(
    network: ThreeDDFA, target: str, data: Path, options: argparse.Namespace
) -> list[Report[Any]]:
    """A report per crop of 3DDFA_V2 that compares it with sadr, whose faces are computed once."""
    out = options.out / target
    settings = Settings(
        target, data=data, weights=options.weights, device=options.device, out=out / "sadr"
    )
    print(f"{target}: sadr -> {settings.out}", file=sys.stderr)
    ours = evaluate(settings)
    write_files(ours, settings.out)
    reports = []
    for name, rule in CROPS.items():
        print(f"{target}: {name} -> {out / name}", file=sys.stderr)
        predict(network, ours.benchmark, rule, out / f"{name}.npz")
        pair = (out / f"{name}.npz", settings.out / "predictions.npz")
        report = evaluate(replace(settings, compare=pair, out=out / name))
        theirs, read_back = report.entries
        named = replace(read_back, label=ours.entries[0].label)
        report = replace(report, entries=(theirs, named))
        write_files(report, out / name)
        reports.append(report)
    return reports


def _aflw2000(network: ThreeDDFA, options: argparse.Namespace) -> Iterator[str]:
    reports = compare(network, "aflw2000", options.aflw2000, options)
    entries = [*(r.entries[0] for r in reports), reports[0].entries[1]]
    benchmark = reports[0].benchmark
    yield f"### AFLW2000-3D, {len(benchmark)} images, crops around the true landmarks: NME (%)\n"
    yield from head("", *YAW_COLUMNS)
    for key, name in MEASURES.items():
        if key in entries[0].scores.results:
            for entry in entries:
                cells = yaw_cells(entry.scores.results[key]["fitted"])
                yield row(f"{name}, {entry.label}", *cells)
            for report in reports:
                figures = [report.comparison[key][column] for column in YAW_COLUMNS]
                a = report.entries[0].label
                yield row(f"{name}, sadr minus {a}", *(_difference(f) for f in figures))
    yield "\nDifferences with 95 % intervals of a paired bootstrap.\n"
    yield "### Head pose, mean absolute error (degrees)\n"
    columns = ("yaw", "pitch", "roll", "mean", "geodesic", "count")
    yield from head("", *columns)
    for entry in entries:
        yield row(entry.label, *(entry.scores.results["pose"]["plain"][c] for c in columns))
    yield from _occlusion(network, benchmark, options)


def _difference(figures: dict[str, float]) -> str:
    return f"{figures['difference']:+.2f} ({figures['low']:+.2f} to {figures['high']:+.2f})"


def _occlusion(
    network: ThreeDDFA, benchmark: Benchmark, options: argparse.Namespace
) -> Iterator[str]:
    """2-D NME on the crops of ``sadr evaluate --occlusion``, by both networks."""
    print("synthetic occlusion", file=sys.stderr)
    ours = make_network(Settings("aflw2000", weights=options.weights, device=options.device))
    errors: dict[str, list[list[float]]] = {"3DDFA_V2": [], f"sadr {ours.info.name}": []}
    for index, truth in enumerate(benchmark.landmarks):
        sample = make_sample(benchmark, index, ours, None, options.seed)
        pictures = [sample.clean, sample.occluded, sample.third]
        small = [cv2.resize(p, (SIZE, SIZE)) for p in pictures]
        faces = ours.reconstruct_crops(pictures, [sample.crop] * 3)
        found = ([network(p, sample.crop)[0] for p in small], [f.landmarks for f in faces])
        for rows, points in zip(errors.values(), found, strict=True):
            rows.append(metrics.nme_2d(np.array(points), truth[None].repeat(3, 0)).tolist())
    yield f"\n### Synthetic occlusion, {len(benchmark)} faces, the same crops: 2-D NME (%)\n"
    yield from head("", "without", "one occluder", "it costs", "a third covered", "it costs")
    costs = []
    for label, rows in errors.items():
        clean, occluded, third = np.mean(rows, axis=0).tolist()
        costs.append((occluded - clean, third - clean))
        yield row(label, clean, occluded, occluded - clean, third, third - clean)
    one, most = (ours / theirs if theirs else np.nan for theirs, ours in zip(*costs, strict=True))
    yield row("sadr's cost / 3DDFA_V2's", None, None, one, None, most)


def _300w(reports: list[Report[Any]]) -> Iterator[str]:
    entries = [*(r.entries[0] for r in reports), reports[0].entries[1]]
    count = len(reports[0].benchmark)
    yield f"\n### 300-W, {count} images, crops around the true landmarks: NME (%)\n"
    columns = [f"{name}, {points}" for points in ("68", "51") for name in NAMES.values()]
    yield from head("", *columns)
    keys = [f"{key}{suffix}" for suffix in ("", "_inner51") for key in NAMES]
    for entry in entries:
        yield row(entry.label, *(entry.scores.results[key]["all"]["mean"] for key in keys))
    for report in reports:
        figures = [report.comparison[key]["mean"] for key in keys]
        yield row(f"sadr minus {report.entries[0].label}", *(_difference(f) for f in figures))


if __name__ == "__main__":
    sys.exit(main())
