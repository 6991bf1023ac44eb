"""All attacks, with the number of each and what failed: ``python -m tests.attack [--quick]``."""

from __future__ import annotations

import itertools
import sys
import time
import warnings

from . import faults, folders, images, looked_at, meshes, stopped, weights
from .cases import run_all

FAMILIES = {
    "images": images,
    "detect": looked_at,
    "injected faults": faults,
    "run folders": folders,
    "meshes": meshes,
    "checkpoints": weights,
    "signals": stopped,
}


def main(arguments: list[str]) -> int:
    warnings.simplefilter("ignore")
    step = 10 if "--quick" in arguments else 1
    chosen = [name for name in arguments if name in FAMILIES] or list(FAMILIES)
    print(f"{'attack':16} {'cases':>6} {'right':>6} {'CPU s':>6}")
    good = True
    for name in chosen:
        began = time.process_time()
        result = run_all(itertools.islice(FAMILIES[name].cases(), 0, None, step))
        seconds = time.process_time() - began
        right = result.count - len(result.failures)
        print(f"{name:16} {result.count:>6} {right:>6} {seconds:>6.0f}", flush=True)
        for case, failure in result.failures:
            print(f"    {case}: {failure}", flush=True)
        enough = step > 1 or result.count >= FAMILIES[name].LEAST
        good &= enough and not result.failures
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
