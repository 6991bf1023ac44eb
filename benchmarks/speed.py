"""Speed and memory as one Markdown table.

    python benchmarks/speed.py > speed.md [--photos 500] [--memory 5000] [--weights mobile]

Runs ``sadr bench examples/photos --everything --markdown`` with larger numbers of photos, which
takes most of an hour on two cores. To compare with an older version in its own virtual environment
(alternating whole runs, and the stages of a face):

    python benchmarks/speed.py --against /path/to/venv --inputs photos --photos 200 --rounds 3

On a busy machine use the CPU time, which is that of a run's whole process tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "examples" / "photos"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
RUNS = {
    "OBJ and page": ["--faces", "largest"],
    "landmarks alone": ["--faces", "largest", "--format", "pts", "--no-index"],
}
STAGE_PHOTOS = 44  # the first four are for warming up
_STANDSTILL = 60  # seconds almost without CPU time after which a run is killed: 0.1.0 could hang


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--memory", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="without compile and ONNX Runtime")
    parser.add_argument("--against", metavar="VENV", type=Path, help="the version to compare with")
    parser.add_argument("--inputs", metavar="DIR", type=Path, default=PHOTOS, help="with --against")
    args = parser.parse_args()
    if args.against is not None:
        compare(args.against, sorted(photos_in(args.inputs)), args.photos, args.rounds)
        return
    command = [sys.executable, "-m", "sadr_cli", "bench", str(PHOTOS), "--markdown", "-v"]
    command += ["--count", str(args.photos), "--memory", str(args.memory)]
    command += ["--rounds", str(args.rounds), "--device", args.device]
    command += [] if args.quick else ["--everything"]
    command += ["--weights", args.weights] if args.weights else []
    sys.exit(subprocess.run(command).returncode)


def photos_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def python_of(venv: Path) -> Path:
    """The interpreter of a virtual environment, or ``venv`` itself if it is a file."""
    found = [venv / "bin" / "python", venv / "Scripts" / "python.exe"]
    return next((path for path in found if path.exists()), venv)


def compare(venv: Path, photos: list[Path], count: int, rounds: int) -> None:
    """Print faces per second and CPU time per face of whole runs, and the stages of a face."""
    if not photos:
        sys.exit("error: --inputs holds no photo")
    versions = {"before": python_of(venv), "now": Path(sys.executable)}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"{count} photos of {len(photos)}, {rounds} alternating rounds,")
    print(f"{os.cpu_count()} processors, load of the machine at the start {load:.1f}\n")
    print("| run | | faces/s | CPU ms per face | peak memory, MB |\n|---|---|--:|--:|--:|")
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = enumerate(islice(cycle(photos), count))
        names = [copy_of(photo, Path(folder), number) for number, photo in chosen]
        for label, options in RUNS.items():
            runs: dict[str, list[Figures]] = {name: [] for name in versions}
            for _ in range(rounds):
                for name, python in versions.items():
                    runs[name].append(whole_run(python, names, options))
            spent[label] = report(label, runs)
    tables = {name: stages(python, photos) for name, python in versions.items()}
    print("\n| stage | CPU ms per face, before | now |\n|---|--:|--:|")
    for stage, before in tables["before"].items():
        print(f"| {stage} | {before:.1f} | {tables['now'][stage]:.1f} |")
    total = {name: sum(table.values()) for name, table in tables.items()}
    print(f"| all | {total['before']:.1f} | {total['now']:.1f} |\n")
    network = tables["now"]["network"]
    for label, cpu in spent.items():
        print(f"{label}: the network takes {network / cpu:.0%} of the CPU time.")


class Figures(NamedTuple):
    """Faces per second, CPU milliseconds per face, peak memory in megabytes."""

    rate: float
    cpu: float
    memory: float


def report(label: str, runs: dict[str, list[Figures]]) -> float:
    """Print medians of both versions and their ratios; returns the current CPU ms per face."""
    middle = {
        name: Figures(*(median(column) for column in zip(*figures, strict=True)))
        for name, figures in runs.items()
    }
    for name, (rate, cpu, memory) in middle.items():
        print(f"| {label} | {name} | {rate:.1f} | {cpu:.1f} | {memory:.0f} |")
    old, new = middle["before"], middle["now"]
    ratios = (new.rate / old.rate, old.cpu / new.cpu, new.memory / old.memory)
    print(f"| {label} | ratio | {' | '.join(f'{r:.2f}' for r in ratios)} |", flush=True)
    return new.cpu


def copy_of(photo: Path, folder: Path, number: int) -> str:
    """A link with a unique name to a photo that may be used several times."""
    path = folder / f"{number:06}{photo.suffix}"
    path.symlink_to(photo.resolve())
    return str(path)


def whole_run(python: Path, photos: list[str], options: list[str]) -> Figures:
    """One ``sadr reconstruct`` in its own process, including start-up."""
    while True:
        with tempfile.TemporaryDirectory() as folder:
            listed, out = Path(folder) / "photos.txt", Path(folder) / "out"
            listed.write_text("\n".join(photos))
            command = [str(python), "-m", "sadr_cli", "reconstruct", "--from-file", str(listed)]
            command += [*options, "--out", str(out), "--quiet"]
            began, before = time.perf_counter(), os.times()
            # In a folder without a package of that name, since Python searches it first.
            process = psutil.Popen(
                command, stdout=subprocess.DEVNULL, env=environment(python), cwd=folder
            )
            memory = watched(process)
            if memory is None:
                print(f"{python} hung and is started again", file=sys.stderr)
                continue
            seconds, after = time.perf_counter() - began, os.times()
            faces = len((out / "poses.csv").read_text(errors="surrogateescape").splitlines()) - 1
        used = after.children_user - before.children_user
        used += after.children_system - before.children_system
        return Figures(faces / seconds, 1000 * used / faces, memory / 1e6)


def watched(process: psutil.Popen) -> int | None:
    """Peak memory in bytes of ``process``; None if it hung and was killed."""
    memory, used, moved = 0, -1.0, time.perf_counter()
    while process.poll() is None:
        try:
            memory = max(memory, process.memory_info().rss)
            spent = sum(process.cpu_times()[:2])
        except psutil.Error:
            break
        if spent > used:
            used, moved = spent + 1.0, time.perf_counter()
        elif time.perf_counter() - moved > _STANDSTILL:
            process.kill()
            process.wait()
            return None
        time.sleep(0.1)
    process.wait()
    return memory


def environment(python: Path) -> dict[str, str]:
    """The environment for ``python``: only this version uses a source tree on the path, and
    bytecode is cached as for installed packages."""
    dropped = {"PYTHONDONTWRITEBYTECODE"}
    if python != Path(sys.executable):
        dropped.add("PYTHONPATH")
    return {k: v for k, v in os.environ.items() if k not in dropped}


def stages(python: Path, photos: list[Path]) -> dict[str, float]:
    """CPU milliseconds per face of every stage, see ``stages.py``."""
    chosen = [str(photo) for photo in islice(cycle(photos), STAGE_PHOTOS)]
    done = subprocess.run(
        [str(python), str(HERE / "stages.py"), *chosen],
        env={**environment(python), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    table: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return table


if __name__ == "__main__":
    main()
