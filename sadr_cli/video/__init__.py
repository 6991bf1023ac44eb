"""Faces of a video: found, followed, smoothed, and drawn into a video again."""

from sadr_cli.video.smoothing import STRENGTHS, FaceSmoother, TrackSmoother
from sadr_cli.video.tracker import Tracked, Tracker

__all__ = ["STRENGTHS", "FaceSmoother", "TrackSmoother", "Tracked", "Tracker"]
