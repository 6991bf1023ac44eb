"""A run: inputs in, files out, with the books kept so that it can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import chain

from sadr_cli.errors import NothingToDoError
from sadr_cli.pipeline.cluster import Cluster, run_on_cluster
from sadr_cli.pipeline.flow import Flow
from sadr_cli.pipeline.ledger import Ledger
from sadr_cli.pipeline.photo import Work
from sadr_cli.pipeline.settings import OnFrame, RunSettings, StopFlag, Summary, unobserved
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.results.entry import Entry
from sadr_cli.watchdog import progress, watch


def run(
    works: Iterable[Work],
    reconstructor: FaceReconstructor,
    make_detector: Callable[[], FaceDetector],
    settings: RunSettings,
    *,
    stop: StopFlag | None = None,
    on_entry: Callable[[Entry], None] | None = None,
    on_frame: OnFrame = unobserved,
    cluster: Cluster | None = None,
) -> Summary:
    """Reconstruct every face of ``works`` and write the results to ``settings.out``.

    make_detector: called once in every reading thread.
    on_entry: called with the manifest's entry of each input, in input order; entries that an
        earlier run had finished carry ``skipped``. on_frame: called at each frame of a video,
        except on a cluster.
    cluster: where to run; None: here.
    With ``settings.stall`` a process that stands still ends, this one or a worker's (``watchdog``).
    Raises OutputError when the output cannot be written (the run can be resumed), and what
    iterating over ``works`` raises, after finishing what was in flight.
    """
    iterator = iter(works)
    first = next(iterator, None)
    if first is None:
        raise NothingToDoError("nothing to do: no input was given")
    stop = stop if stop is not None else StopFlag()
    ledger = Ledger(reconstructor, settings, on_entry)
    began, state = time.monotonic(), "stopped"
    with watch(settings.stall, stop.__bool__):
        try:
            works = chain([first], iterator)
            if cluster is not None:
                run_on_cluster(cluster, works, ledger, settings, stop)
            else:
                admit, settle = ledger.admit, ledger.settle
                Flow(
                    works, admit, settle, reconstructor, make_detector, settings, stop, on_frame
                ).run()
            state = "interrupted" if stop else "finished"
        finally:
            progress()
            ledger.summary.interrupted = bool(stop)
            ledger.summary.seconds = time.monotonic() - began
            ledger.close(state)
    return ledger.summary
