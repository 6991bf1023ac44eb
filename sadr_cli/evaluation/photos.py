"""Protocols over photos with true landmarks: truth, then network or predictions, then scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict
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

_Set = tuple[str, Predictions, dict[str, Any]]  # label, faces, what is known of the method


class PhotoProtocol(Protocol[B]):
    """A benchmark of photos. What it adds to a protocol: how truth is read and scored."""

    @abstractmethod
    def load(
        self,
        data: Path | None = None,
        *,
        origin: int = 0,
        allow_missing: bool = False,
        need_images: bool = True,
        name: str = "",
    ) -> B:
        """The truth in the folder ``data``, or in SADR_DATA; ``name``: of any other folder."""

    @abstractmethod
    def score(
        self,
        benchmark: B,
        predictions: Predictions,
        *,
        dense_truth: DenseTruth | None = None,
        align: str = "procrustes",
        jaw: str = "surface",
        progress: Callable[[int], None] = lambda n: None,
    ) -> Scores:
        """All measures that truth and predictions allow; the others named with their reason."""

    def run(self, settings: Settings, tools: Tools) -> Report[B]:
        benchmark = self._load(settings)
        needs_network = not settings.given or settings.occlusion or settings.bfm_uv is not None
        network = tools.network() if needs_network else None
        truth = _dense_truth(settings, network)
        if settings.given:
            sets = _read_predictions(settings, benchmark)
        else:
            assert network is not None
            check_writable(settings.out)  # before the long part
            sets = [_predict(settings, benchmark, network, truth is not None, tools)]
        entries = []
        for label, found, method in sets:
            scores = self.score(
                benchmark,
                found,
                dense_truth=truth,
                align=settings.align,
                jaw=settings.jaw,
                progress=tools.counter("Dense truth", len(benchmark)),
            )
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

    def _load(self, settings: Settings) -> B:
        named = settings.target == self.name
        folder = settings.data if named else Path(settings.target)
        return self.load(
            folder,
            origin=settings.pts_origin,
            allow_missing=settings.allow_missing,
            need_images=not settings.given,
            name=self.name if named or folder is None else folder.name,
        )


def weights_info(network: FaceReconstructor) -> dict[str, Any]:
    """What is known of the weights, for the report."""
    return {key: value for key, value in asdict(network.info).items() if value}


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
    """A short name of a prediction set: that of its run where ``sadr evaluate`` wrote it."""
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
    return label, found, {"kind": "network", "weights": weights_info(network)}


def _dense_truth(settings: Settings, network: FaceReconstructor | None) -> DenseTruth | None:
    if settings.face_model is None:
        return None
    from sadr_cli.evaluation.measures.bfm import convert_bfm, load_dense_truth

    path = settings.face_model
    if path.suffix.lower() == ".mat":
        if settings.bfm_uv is None:
            raise UsageError("a BFM .mat needs its UV coordinates: add --bfm-uv BFM_UV.mat")
        assert network is not None
        check_writable(settings.out)
        path = convert_bfm(path, settings.bfm_uv, network.uv, settings.out / "face_model.npz")
    truth = load_dense_truth(path, settings.y_flip)
    if network is not None and (network.uv.mask != truth.model.layout.mask).any():
        raise MissingDataError(
            f"{path} has another UV layout than the weights: convert it with these weights"
        )
    return truth
