"""Inputs as the user names them -> a lazy stream of sources -> upright RGB frames.

    for source in iter_sources(["photos/", "party.jpg"], recursive=True):
        frame = load_frame(source)  # raises InputError with one sentence

Listing decodes nothing; decoding is a separate step that a pipeline can run in threads.
"""

from sadr_cli.files import Namer, safe_name
from sadr_cli.sources.images import DEFAULT_MAX_PIXELS, read_image
from sadr_cli.sources.listing import Source, SourceList, iter_sources, load_frame
from sadr_cli.sources.video import VideoInfo, iter_frames, probe_video

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Namer",
    "Source",
    "SourceList",
    "VideoInfo",
    "iter_frames",
    "iter_sources",
    "load_frame",
    "probe_video",
    "read_image",
    "safe_name",
]
