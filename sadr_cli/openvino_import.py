"""OpenVINO, silent; apart from what imports PyTorch, which the detectors do without."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import Any

_importing = threading.Lock()


def import_openvino() -> Any:
    """The module ``openvino``, silent: left alone, importing it reports to its maker."""
    reporter = "openvino_telemetry"
    with _importing:
        if (loaded := sys.modules.get("openvino")) is not None:
            return loaded
        before = sys.modules.get(reporter)
        sys.modules[reporter] = None  # type: ignore[assignment]  # not to be had: a stub serves
        try:
            return import_module("openvino")
        finally:
            if before is None:
                del sys.modules[reporter]
            else:
                sys.modules[reporter] = before
