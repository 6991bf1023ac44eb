"""Whole runs over many photos: throughput and memory; the parts of a cold start."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sadr_cli.bench.report import Row
from sadr_cli.detection import create_detector
from sadr_cli.pipeline import RunSettings, Summary, Work, run
from sadr_cli.reconstructor import Reconstructor
from sadr_cli.results.entry import Entry
from sadr_cli.sources import Source

JOBS = 2


def whole_run(reconstructor: Reconstructor, photos: Sequence[Path], count: int = 100) -> list[Row]:
    """Faces per second of a run over ``count`` copies of ``photos``, and of the network alone.

    The network alone is measured directly before and after the run, with the same passes.
    """
    before = _network_rate(reconstructor)
    runner, taken = reconstructor.runner, [0.0]

    def timed(x: Any) -> Any:
        began = time.perf_counter()
        output = runner(x)
        taken[0] += time.perf_counter() - began
        return output

    reconstructor.runner = timed  # type: ignore[assignment]
    try:
        with _copies(photos, count) as works, tempfile.TemporaryDirectory() as out:
            used = time.process_time()
            summary = _run(reconstructor, works, Path(out), "obj")
            spent = time.process_time() - used
    finally:
        reconstructor.runner = runner
    after = _network_rate(reconstructor)
    passes = 2 if reconstructor.two_pass else 1
    alone = 2 / (1 / before + 1 / after) / passes
    wall = max(summary.seconds, 1e-9)
    faces = summary.faces
    rate = faces / wall
    return [
        Row("run", f"network alone, {passes} passes", alone, "faces/s"),
        Row("run", "sadr reconstruct, obj", rate, "faces/s", rate / alone, ">= 0.85",
            f"{faces} faces of {count} photos, {JOBS} jobs"),
        Row("run", "of that the network", 1000 * taken[0] / max(faces, 1), "ms per face",
            taken[0] / wall, "", "of the wall clock"),
        Row("run", "processor time", 1000 * spent / max(faces, 1), "ms per face"),
    ]  # fmt: skip


def memory_growth(
    reconstructor: Reconstructor, photos: Sequence[Path], first: int = 500, last: int = 5000
) -> list[Row]:
    """Resident memory after ``first`` and after ``last`` photos of one run.

    Measures this process, so it must run before other networks are loaded. Meshes are deleted once
    written: those of 5,000 photos of two faces would take 27 GB.
    """
    sizes: list[float] = []

    def look(entry: Entry) -> None:
        sizes.append(psutil.Process().memory_info().rss / 1e6)
        for name in entry.outputs:
            (Path(out) / name).unlink(missing_ok=True)

    with _copies(photos, last) as works, tempfile.TemporaryDirectory() as out:
        _run(reconstructor, works, Path(out), "stl", look)
    span = max(first // 10, 1)
    early = float(np.median(sizes[max(first - span, 0) : first]))
    late = float(np.median(sizes[-span:]))
    return [
        Row("memory", f"after {first} photos", early, "MB"),
        Row("memory", f"after {last} photos", late, "MB", late / early, "<= 1.1"),
        Row("memory", "highest", _peak(), "MB", None, "< 2000 on a CPU"),
    ]


def cold_start(photo: Path, weights: str | None = None) -> list[Row]:
    """Seconds of ``sadr --help`` and, by parts, of a first face, in new processes."""
    rows = [Row("start", "sadr --help", min(_help() for _ in range(3)), "s", None, "< 0.3")]
    script = _COLD.format(photo=str(photo), weights=weights)
    text = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    parts = [line.rsplit(" ", 1) for line in text.splitlines()]
    rows += [Row("start", name, float(seconds), "s") for name, seconds in parts]
    total = sum(float(seconds) for _, seconds in parts)
    return [*rows, Row("start", "first face in all", total, "s")]


_COLD = """
import time
mark = [time.perf_counter()]
def part(name):
    now = time.perf_counter()
    print(name, round(now - mark[0], 3))
    mark[0] = now
import torch
part("import of PyTorch")
import cv2, numpy, scipy.spatial
part("import of OpenCV, NumPy and SciPy")
from sadr_cli.reconstructor import Reconstructor
part("import of sadr")
r = Reconstructor({weights!r})
part("loading the weights")
d = r.detector
part("loading the detector")
from sadr_cli.sources import read_image
image = read_image({photo!r})
part("reading the photo")
found = d.detect(image)
part("detection")
r.reconstruct(image, found[:1])
part("reconstruction, two passes")
"""


def _help() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sadr_cli", "--help"], capture_output=True, check=True)
    return time.perf_counter() - began


def _run(
    reconstructor: Reconstructor,
    works: Iterator[Work],
    out: Path,
    kind: str,
    on_entry: Any = None,
) -> Summary:
    settings = RunSettings(
        out,
        formats=(kind,),
        batch_size=reconstructor.batch_size,
        two_pass=reconstructor.two_pass,
        jobs=JOBS,
    )
    device = str(reconstructor.device)
    detector = reconstructor.detector_name
    return run(
        works, reconstructor, lambda: create_detector(detector, device), settings, on_entry=on_entry
    )


def _network_rate(reconstructor: Reconstructor) -> float:
    """Faces per second of the network in full batches, after warming up."""
    side, batch = reconstructor.crop_resolution, reconstructor.batch_size
    x = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    for _ in range(2):
        reconstructor.runner(x)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 4.0:
        reconstructor.runner(x)
        if reconstructor.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        count += batch
    return count / (time.perf_counter() - began)


@contextmanager
def _copies(photos: Sequence[Path], count: int) -> Iterator[Iterator[Work]]:
    """``count`` files, copies of ``photos`` in turn, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:

        def works() -> Iterator[Work]:
            for k in range(count):
                photo = photos[k % len(photos)]
                path = Path(folder) / f"{k:06}{photo.suffix}"
                try:
                    path.hardlink_to(photo)
                except OSError:  # another file system
                    shutil.copy(photo, path)
                yield Work(Source(str(path), path.stem, path))

        yield works()


def _peak() -> float:
    """Peak resident memory of this process, MB."""
    memory = psutil.Process().memory_info()
    if sys.platform == "win32":
        return float(memory.peak_wset) / 1e6
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else KiB
    return highest * (1 if sys.platform == "darwin" else 1024) / 1e6
