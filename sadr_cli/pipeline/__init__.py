"""Chains the rooms: sources -> detection -> crop -> network -> alignment -> writers."""

from sadr_cli.pipeline.cluster import Cluster
from sadr_cli.pipeline.engine import run
from sadr_cli.pipeline.photo import Work
from sadr_cli.pipeline.settings import (
    FaceDetector,
    FaceReconstructor,
    RunSettings,
    StopFlag,
    Summary,
    VideoSettings,
)

__all__ = [
    "Cluster",
    "FaceDetector",
    "FaceReconstructor",
    "RunSettings",
    "StopFlag",
    "Summary",
    "VideoSettings",
    "Work",
    "run",
]
