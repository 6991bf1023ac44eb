"""Protocols over photos with ground-truth landmarks: load the truth, predict, score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sadr_cli.errors import MissingDataError, NothingToDoError, UsageError
from sadr_cli.evaluation.data import predictions
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.measures.dense import DenseTruth
from sadr_cli.evaluation.measures.plausibility import doubts
from sadr_cli.evaluation.measures.scoring import Scores
from sadr_cli.evaluation.report.record import B, Entry, Protocol, Report
from sadr_cli.evaluation.settings import Settings, Tools
from sadr_cli.files import check_writable
from sadr_cli.protocols import FaceReconstructor
from sadr_cli.version import __version__

_Set = tuple[str, Predictions, dict[str, Any]]  # label, faces, description of the method


class PhotoProtocol(Protocol[B]):
    """A benchmark of photos: a protocol that also defines how truth is read and scored."""

    @abstractmethod
    def load(self, folder: Path | None, settings: Settings) -> B:
        """The ground truth in ``folder``; None: in the benchmark's folder in SADR_DATA."""

    @abstractmethod
    def score(
        self,
        benchmark: B,
        predictions: Predictions,
        settings: Settings,
        *,
        dense_truth: DenseTruth | None = None,
        progress: Callable[[int], None] = lambda n: None,
    ) -> Scores:
        """All measures that truth and predictions allow, and the reasons for the others."""

    def run(self, settings: Settings, tools: Tools) -> Report[B]:
        if settings.target == self.name:
            benchmark = self.load(settings.data, settings)
        else:
            folder = Path(settings.target)
            benchmark = replace(self.load(folder, settings), name=folder.name)
        needs_network = not settings.given or settings.occlusion or settings.bfm_uv is not None
        network = tools.network() if needs_network else None
        truth = _dense_truth(settings, network)
        if settings.given:
            sets = _read_predictions(settings, benchmark)
        else:
            assert network is not None
            check_writable(settings.out)  # before the network runs
            sets = [_predict(settings, benchmark, network, truth is not None, tools)]
        entries = []
        for label, found, method in sets:
            advance = tools.counter("Dense truth", len(benchmark))
            scores = self.score(benchmark, found, settings, dense_truth=truth, progress=advance)
            entries.append(Entry(label, found, scores, method))
        choices: dict[str, Any] = {}
        if truth is not None:
            choices["dense truth"] = truth.note
            choices["face model"] = {"sha256": truth.sha256, **truth.details}
        extras = {}
        if settings.occlusion:
            from sadr_cli.evaluation.measures.occlusion import measure

            assert network is not None
            extras["occlusion"] = measure(
                benchmark,
                network,
                truth,
                seed=settings.seed,
                allow_missing=settings.allow_missing,
                progress=lambda n: tools.progress("Occlusion", n, len(benchmark)),
            )
        comparison = {}
        if settings.compare:
            a, b = (entry.scores.per_image for entry in entries)
            comparison = {
                key: self.compare(benchmark, key, a[key], b[key], settings.seed)
                for key in a
                if key in b and key not in ("noise_floor", "template")
            }
        return Report(self, benchmark, tuple(entries), __version__, comparison, extras, choices)


def described(network: FaceReconstructor) -> dict[str, Any]:
    """The network as the method of an entry, with all that is known of its weights."""
    weights = {key: value for key, value in asdict(network.info).items() if value}
    return {"kind": "network", "weights": weights}


def _read_predictions(settings: Settings, benchmark: Any) -> list[_Set]:
    missing = settings.allow_missing
    given = {p: predictions.load(p, benchmark, allow_missing=missing) for p in settings.given}
    if len(given) < len(settings.given):
        raise UsageError(f"--compare needs two prediction sets, not {settings.given[0]} twice")
    labels = [_label(path) for path in given]
    if len({*labels}) < len(labels):
        labels = [str(path) for path in given]
    sets: list[_Set] = []
    for label, found in zip(labels, given.values(), strict=True):
        wrong = doubts(benchmark, found)
        sets.append((label, found, {"kind": "predictions", **({"doubts": wrong} if wrong else {})}))
    return sets


def _label(path: Path) -> str:
    """A short name of a prediction set; of those that ``sadr evaluate`` wrote, its folder's."""
    if path.name == "predictions.npz":
        return path.resolve().parent.name
    return path.name if path.is_dir() else path.stem


def _predict(
    settings: Settings, benchmark: Any, network: FaceReconstructor, dense: bool, tools: Tools
) -> _Set:
    from sadr_cli.evaluation.inference import predict

    detector = tools.detector() if settings.crop == "detector" else None
    found = predict(
        benchmark,
        network,
        settings.out / "cache",
        detector=detector,
        dense=dense,
        allow_missing=settings.allow_missing,
        progress=tools.counter("Network", len(benchmark)),
    )
    if found.missing.all():
        raise NothingToDoError(f"no face was found in any of the {len(benchmark)} images")
    label = f"sadr {network.info.name}"
    label = label if detector is None else f"{label}, {detector.name} crop"
    return label, found, described(network)


def _dense_truth(settings: Settings, network: FaceReconstructor | None) -> DenseTruth | None:
    if settings.face_model is None:
        return None
    from sadr_cli.evaluation.measures.bfm import convert_bfm, load_dense_truth

    path = settings.face_model
    if path.suffix.lower() == ".mat":
        if settings.bfm_uv is None:
            raise UsageError("a BFM .mat requires its UV coordinates: add --bfm-uv BFM_UV.mat")
        assert network is not None
        check_writable(settings.out)
        path = convert_bfm(path, settings.bfm_uv, network.uv, settings.out / "face_model.npz")
    truth = load_dense_truth(path, settings.y_flip)
    if network is not None and (network.uv.mask != truth.model.layout.mask).any():
        raise MissingDataError(
            f"the UV layout of {path} differs from that of the weights: convert the face model "
            "with these weights"
        )
    return truth
