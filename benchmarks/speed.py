"""Speed and memory as one Markdown table, everything in one run:

    python benchmarks/speed.py > speed.md [--photos 500] [--memory 5000] [--weights lite]

The same as ``sadr bench examples/photos --everything --markdown`` with the numbers of photos that
the aims name; takes most of an hour on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--memory", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="without compile and ONNX Runtime")
    args = parser.parse_args()
    command = [sys.executable, "-m", "sadr_cli", "bench", str(PHOTOS), "--markdown", "-v"]
    command += ["--count", str(args.photos), "--memory", str(args.memory)]
    command += ["--rounds", str(args.rounds), "--device", args.device]
    command += [] if args.quick else ["--everything"]
    command += ["--weights", args.weights] if args.weights else []
    sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
