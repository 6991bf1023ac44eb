"""Chains the modules: sources -> detection -> crop -> network -> alignment -> writers."""

from sadr_cli.pipeline.cluster import Cluster
from sadr_cli.pipeline.engine import run
from sadr_cli.pipeline.photo import Work
from sadr_cli.pipeline.settings import RunSettings, StopFlag, Summary, VideoSettings
from sadr_cli.protocols import FaceDetector, FaceReconstructor

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
