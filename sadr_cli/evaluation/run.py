"""One evaluation from beginning to end; the files of its report are written by the caller."""

from __future__ import annotations

from collections.abc import Callable
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
    """Run what ``settings`` ask for."""
    check_settings(settings)
    protocol = find_protocol(settings)
    for option, reason in protocol.refused.items():
        if getattr(settings, option) != getattr(Settings, option):
            raise UsageError(reason)
    tools = Tools(cache(lambda: make_network(settings)), make_detector(settings), progress)
    return protocol.run(settings, tools)


def find_protocol(settings: Settings) -> Protocol[Any]:
    """The benchmark of that name, or the one that can read the folder."""
    if settings.target in benchmarks.NAMES:
        return benchmarks.get(settings.target)
    names = ", ".join(benchmarks.NAMES)
    if settings.data is not None:
        raise UsageError(f"--data goes with {names}; a folder is named itself")
    path = Path(settings.target)
    if not path.exists():
        raise MissingDataError(f"{path} is neither {names} nor a folder")
    return benchmarks.reading(path)


def make_network(settings: Settings) -> FaceReconstructor:
    from sadr_cli.reconstructor import Reconstructor

    return Reconstructor(
        settings.weights,
        device=settings.device,
        batch_size=settings.batch_size,
        flip=settings.flip,
    )


def make_detector(settings: Settings) -> Callable[[], FaceDetector]:
    """The detector on demand: made at the first call, the same one afterwards."""

    @cache
    def detector() -> FaceDetector:
        from sadr_cli.detection import create_detector

        return create_detector(settings.detector)

    return detector
