"""Coverage-guided fuzzing of every reader, by atheris (libFuzzer): ``pip install atheris``.

    python -m tests.attack.fuzz 60                # all targets, 60 s of computing time
    python -m tests.attack.fuzz 600 obj,ply       # some of them
    python -m tests.attack.fuzz 600 all CORPUS    # inputs that reach new code are kept in CORPUS

libFuzzer says on standard error what is reached (``cov``: edges of sadr's code); at the end stands
how often each target was tried. An input that makes a fault is kept in the folder ``crashes`` and
the fuzzing goes on. What ``test_fuzz_targets.py`` does in CI is a fixed number of executions by
hypothesis, which knows nothing of what they reach.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sadr_cli"]):
    from tests.attack.targets import TARGETS


class Fuzzer:
    """The first byte of an input says for which of ``names`` the rest is."""

    def __init__(self, names: list[str], seconds: float) -> None:
        self.names, self.seconds = names, seconds
        self.tried, self.faults = Counter[str](), Counter[str]()
        self.began = time.process_time()

    def __call__(self, data: bytes) -> None:
        if time.process_time() - self.began > self.seconds:
            self.end()
        name = self.names[data[0] % len(self.names)] if data else self.names[0]
        self.tried[name] += 1
        try:
            TARGETS[name].read(data[1:])
        except Exception as error:
            self.keep(name, data, error)

    def keep(self, name: str, data: bytes, error: Exception) -> None:
        """Say each fault once, by the place where it is."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{name}: {type(error).__name__} at {place.filename}:{place.lineno}: {error}"[:200]
        if not self.faults[fault]:
            folder = Path("crashes")
            folder.mkdir(exist_ok=True)
            digest = hashlib.sha256(data).hexdigest()[:12]
            (folder / f"{name.replace(' ', '_')}-{digest}").write_bytes(data[1:])
            print(f"FAULT {fault}", flush=True)
        self.faults[fault] += 1

    def seeds(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="sadr-seeds-"))
        for place, name in enumerate(self.names):
            for number, data in enumerate(TARGETS[name].seeds()):
                (folder / f"{place}-{number}").write_bytes(bytes([place]) + data)
        return folder

    def end(self) -> None:
        for name in self.names:
            print(f"{name:12} {self.tried[name]:>9,} executions")
        print(f"{sum(self.tried.values()):,} executions, {len(self.faults)} faults", flush=True)
        os._exit(1 if self.faults else 0)  # libFuzzer ends by a signal only


def main(arguments: list[str]) -> None:
    seconds = float(arguments[0]) if arguments else 60.0
    chosen = arguments[1] if len(arguments) > 1 else "all"
    fuzzer = Fuzzer(list(TARGETS) if chosen == "all" else chosen.split(","), seconds)
    options = ["-timeout=120", "-rss_limit_mb=6000", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, *arguments[2:3], str(fuzzer.seeds())], fuzzer)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
