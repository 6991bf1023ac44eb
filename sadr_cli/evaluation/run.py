"""One evaluation from beginning to end: truth, predictions, scores, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sadr_cli.errors import MissingDataError, NothingToDoError, UsageError
from sadr_cli.evaluation.data import aflw2000, folder, lm300w, predictions
from sadr_cli.evaluation.data.benchmark import Benchmark
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures import scoring
from sadr_cli.evaluation.measures.compare import paired_difference
from sadr_cli.evaluation.report.record import Entry, Report
from sadr_cli.files import check_writable
from sadr_cli.version import __version__


@dataclass(frozen=True)
class Settings:
    """What a user chose; see ``sadr evaluate --help``."""

    target: str
    data: Path | None = None
    out: Path = Path("evaluation")
    predictions: Path | None = None
    compare: tuple[Path, Path] | None = None
    crop: str = "truth"
    detector: str = "centerface"
    weights: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    face_model: Path | None = None
    bfm_uv: Path | None = None
    y_flip: str = "height"
    align: str = "procrustes"
    pts_origin: int = 0
    allow_missing: bool = False
    occlusion: bool = False
    seed: int = 0
    flip: bool = False


Progress = Callable[[str, int, int], None]  # stage, done in it, total


def evaluate(settings: Settings, progress: Progress = lambda stage, done, total: None) -> Report:
    """Run what ``settings`` ask for; the files are written by the caller."""
    check_settings(settings)
    given = settings.compare or ((settings.predictions,) if settings.predictions else ())
    benchmark = load_benchmark(settings, need_images=not given)
    if settings.occlusion and benchmark.dimensions != 3:
        raise UsageError("--occlusion needs 3-D landmarks (AFLW2000-3D): 300-W has none")
    network: Any = None
    if not given or settings.occlusion or settings.bfm_uv is not None:
        network = make_network(settings)
    truth = _dense_truth(settings, network)
    if given:
        sets = [
            (_label(path), predictions.load(path, benchmark, allow_missing=settings.allow_missing))
            for path in given
        ]
        if len(sets) == 2 and sets[0][0] == sets[1][0]:
            labels = [str(path) for path in given]
            if labels[0] == labels[1]:
                raise UsageError(f"--compare needs two prediction sets, not {labels[0]} twice")
            sets = [(label, p) for label, (_, p) in zip(labels, sets, strict=True)]
        methods: list[dict[str, Any]] = [{"kind": "predictions"} for _ in sets]
    else:
        check_writable(settings.out)  # before the long part
        sets = [_predict(settings, benchmark, network, truth is not None, progress)]
        methods = [{"kind": "network", "weights": weights_info(network)}]
    entries = []
    for (label, found), method in zip(sets, methods, strict=True):
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            progress("Dense truth", done, len(benchmark))

        scores = scoring.score(
            benchmark, found, dense_truth=truth, align=settings.align, progress=step
        )
        entries.append(Entry(label, found, scores, method))
    protocol: dict[str, Any] = {}
    if truth is not None:
        protocol["dense truth"] = truth.note
        protocol["face model"] = {"sha256": truth.sha256, **truth.details}
    extras = {}
    if settings.occlusion:
        from sadr_cli.evaluation.measures.occlusion import measure

        extras["occlusion"] = measure(
            benchmark,
            network,
            truth,
            seed=settings.seed,
            allow_missing=settings.allow_missing,
            progress=lambda n: progress("Occlusion", n, len(benchmark)),
        )
    return Report(
        benchmark,
        tuple(entries),
        __version__,
        _compare(benchmark, entries, settings.seed) if settings.compare else {},
        extras,
        protocol,
        "nme_2d" if benchmark.angles is not None else "nme_box",
    )


def load_benchmark(settings: Settings, *, need_images: bool = True) -> Benchmark:
    """The truth named by ``settings.target``."""
    missing, origin = settings.allow_missing, settings.pts_origin
    if settings.target == "aflw2000":
        return aflw2000.load(settings.data, allow_missing=missing, need_images=need_images)
    if settings.target == "300w":
        return lm300w.load(
            settings.data, origin=origin, allow_missing=missing, need_images=need_images
        )
    if settings.data is not None:
        raise UsageError("--data goes with aflw2000, florence and 300w; a folder is named itself")
    path = Path(settings.target)
    if not path.exists():
        raise MissingDataError(f"{path} is neither aflw2000, florence, 300w nor a folder")
    return folder.load(path, origin=origin, allow_missing=missing, need_images=need_images)


def check_settings(settings: Settings) -> None:
    """UsageError for options that are wrong or contradict each other."""
    if settings.crop not in ("truth", "detector"):
        raise UsageError(f"--crop takes truth or detector, not {settings.crop!r}")
    if settings.align not in ("procrustes", "icp"):
        raise UsageError(f"--align takes procrustes or icp, not {settings.align!r}")
    if settings.y_flip not in ("height", "height-1", "height+1"):
        raise UsageError(f"--y-flip takes height, height-1 or height+1, not {settings.y_flip!r}")
    if settings.predictions and settings.compare:
        raise UsageError("--predictions and --compare exclude each other")
    if settings.bfm_uv and not settings.face_model:
        raise UsageError("--bfm-uv goes with --face-model BFM.mat")
    if settings.pts_origin not in (0, 1):
        raise UsageError(f"--pts-origin takes 0 or 1, not {settings.pts_origin}")
    if settings.align == "icp" and settings.face_model is not None:
        from sadr_cli.evaluation.measures.icp import open3d

        open3d()  # now rather than after the network has run


def make_network(settings: Settings) -> Any:
    from sadr_cli.reconstructor import Reconstructor

    return Reconstructor(
        settings.weights,
        device=settings.device,
        batch_size=settings.batch_size,
        flip=settings.flip,
    )


def make_detector(settings: Settings) -> Callable[[], Any]:
    """The detector on demand: made at the first call, the same one afterwards."""

    @cache
    def detector() -> Any:
        from sadr_cli.detection import create_detector

        return create_detector(settings.detector)

    return detector


def _dense_truth(settings: Settings, network: Any) -> Any:
    if settings.face_model is None:
        return None
    from sadr_cli.evaluation.measures.bfm import convert_bfm, load_dense_truth

    path = settings.face_model
    if path.suffix.lower() == ".mat":
        if settings.bfm_uv is None:
            raise UsageError("a BFM .mat needs its UV coordinates: add --bfm-uv BFM_UV.mat")
        check_writable(settings.out)
        path = convert_bfm(path, settings.bfm_uv, network.uv, settings.out / "face_model.npz")
    truth = load_dense_truth(path, settings.y_flip)
    if network is not None and (network.uv.mask != truth.model.layout.mask).any():
        raise MissingDataError(
            f"{path} has another UV layout than the weights: convert it with these weights"
        )
    return truth


def _predict(
    settings: Settings, benchmark: Benchmark, network: Any, dense: bool, progress: Progress
) -> tuple[str, Predictions]:
    from sadr_cli.evaluation.inference import predict

    detector = make_detector(settings)() if settings.crop == "detector" else None
    done = 0

    def step(n: int) -> None:
        nonlocal done
        done += n
        progress("Network", done, len(benchmark))

    found = predict(
        benchmark,
        network,
        settings.out / "cache",
        detector=detector,
        dense=dense,
        allow_missing=settings.allow_missing,
        progress=step,
    )
    if found.missing.all():
        raise NothingToDoError(f"no face was found in any of the {len(benchmark)} images")
    label = f"sadr {network.info.name}"
    return label if detector is None else f"{label}, {detector.name} crop", found


def weights_info(network: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(network.info).items() if value}


def _compare(benchmark: Benchmark, entries: list[Entry], seed: int) -> dict[str, Any]:
    a, b = (entry.scores.per_image for entry in entries)
    yaw = None if benchmark.angles is None else benchmark.angles[:, 0]
    keys = [k for k in a if k in b and k not in ("noise_floor", "template")]
    out = {}
    for key in keys:
        first, second = a[key], b[key]
        if key.endswith("_error") or key == "geodesic":
            from sadr_cli.evaluation.measures.metrics import pose_included

            assert benchmark.angles is not None
            included = pose_included(benchmark.angles)
            out[key] = paired_difference(first[included], second[included], seed=seed)
        else:
            out[key] = paired_difference(first, second, yaw, seed=seed)
    return out


def _label(path: Path) -> str:
    """A short name of a prediction set: that of its run where ``sadr evaluate`` wrote it."""
    if path.name == "predictions.npz":
        return path.resolve().parent.name
    return path.name if path.is_dir() else path.stem
