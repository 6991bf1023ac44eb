"""Run one evaluation; the caller writes the files of its report."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from sadr_cli.errors import MissingDataError, UsageError
from sadr_cli.evaluation import benchmarks
from sadr_cli.evaluation.report.record import Protocol, Report
from sadr_cli.evaluation.settings import Progress, Settings, Tools, check_settings
from sadr_cli.protocols import FaceDetector, FaceReconstructor


def evaluate(
    settings: Settings, progress: Progress = lambda stage, done, total: None
) -> Report[Any]:
    """Run the evaluation that ``settings`` describe."""
    check_settings(settings)
    protocol = find_protocol(settings)
    for option, reason in protocol.refused.items():
        if getattr(settings, option) != getattr(Settings, option):
            raise UsageError(reason)
    network, detector = (
        cache(lambda: make_network(settings)),
        cache(lambda: make_detector(settings)),
    )
    return protocol.run(settings, Tools(network, detector, progress))


def find_protocol(settings: Settings) -> Protocol[Any]:
    """The benchmark that ``target`` names, or the one that can read the folder ``target``."""
    if settings.target in benchmarks.NAMES:
        return benchmarks.get(settings.target)
    names = ", ".join(benchmarks.NAMES)
    if settings.data is not None:
        raise UsageError(f"--data requires a benchmark name ({names}); it cannot be combined "
                         "with a folder")  # fmt: skip
    path = Path(settings.target)
    if not path.exists():
        raise MissingDataError(f"{path} is neither a benchmark ({names}) nor a folder")
    return benchmarks.reading(path)


def make_network(settings: Settings) -> FaceReconstructor:
    from sadr_cli.reconstructor import Reconstructor

    return Reconstructor(
        settings.weights,
        device=settings.device,
        batch_size=settings.batch_size,
        flip=settings.flip,
    )


def make_detector(settings: Settings) -> FaceDetector:
    from sadr_cli.detection import create_detector

    return create_detector(settings.detector)
