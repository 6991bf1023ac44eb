"""The benchmarks: each module here is one, found by its file name.

It defines ``PROTOCOL``, a :class:`sadr_cli.evaluation.report.record.Protocol`. The file name of a
benchmark whose name starts with a digit has the prefix ``lm``.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from sadr_cli.errors import MissingDataError

if TYPE_CHECKING:
    from sadr_cli.evaluation.report.record import Protocol

_MODULES = {
    re.sub(r"^lm(?=\d)", "", module.name): f"{__name__}.{module.name}"
    for module in iter_modules(__path__)
}
NAMES = tuple(_MODULES)


def get(name: str) -> Protocol[Any]:
    """The protocol of the benchmark ``name``, one of :data:`NAMES`."""
    protocol: Protocol[Any] = import_module(_MODULES[name]).PROTOCOL
    return protocol


def reading(folder: Path) -> Protocol[Any]:
    """The protocol that fits the files in ``folder``; MissingDataError when none does."""
    if not folder.is_dir():
        raise MissingDataError(f"no folder {folder}: {_HINT}")
    for name in NAMES:
        protocol = get(name)
        if protocol.reads(folder):
            return protocol
    raise MissingDataError(f"no landmarks in {folder}: {_HINT}")


_HINT = "give a folder of images with a .mat (AFLW2000-3D) or .pts (300-W) beside each"
