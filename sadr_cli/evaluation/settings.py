"""The settings of one evaluation, and the network and detector it runs with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sadr_cli.errors import UsageError
from sadr_cli.protocols import FaceDetector, FaceReconstructor


@dataclass(frozen=True)
class Settings:
    """The options of ``sadr evaluate``; see its ``--help``."""

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
    jaw: str = "surface"
    pts_origin: int = 0
    allow_missing: bool = False
    occlusion: bool = False
    seed: int = 0
    flip: bool = False

    @property
    def given(self) -> tuple[Path, ...]:
        """The prediction sets to score; empty when the network is to run."""
        return self.compare or ((self.predictions,) if self.predictions else ())


Progress = Callable[[str, int, int], None]  # stage, items done, total items


@dataclass(frozen=True)
class Tools:
    """Network and detector, created on first use, and the observer of progress."""

    network: Callable[[], FaceReconstructor]
    detector: Callable[[], FaceDetector]
    progress: Progress = lambda stage, done, total: None

    def counter(self, stage: str, total: int) -> Callable[[int], None]:
        """A function that adds to the progress of ``stage``."""
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            self.progress(stage, done, total)

        return advance


def check_settings(settings: Settings) -> None:
    """UsageError for options that contradict each other."""
    if settings.predictions and settings.compare:
        raise UsageError("--predictions and --compare exclude each other")
    if settings.bfm_uv and not settings.face_model:
        raise UsageError("--bfm-uv requires --face-model BFM.mat")
    if settings.align == "icp" and settings.face_model is not None:
        from sadr_cli.open3d_import import import_open3d

        import_open3d("ICP")  # fail before the network runs
