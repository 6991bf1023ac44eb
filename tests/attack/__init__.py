"""Attacks on everything that is promised of files from strangers, with made files only.

``python -m tests.attack`` runs all of them and prints how many of each there were;
``test_attack.py`` runs a part of them with the other tests. ``targets`` are for a fuzzer.
"""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
for _folder in (_TESTS, *(_TESTS / name for name in ("sources", "export", "results"))):
    if str(_folder) not in sys.path:  # as pytest does: what other tests have is used here too
        sys.path.insert(0, str(_folder))
