"""Fixtures that several test packages share. (This file also puts ``tests`` on the path.)"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before PyTorch is imported: test processes beside each other (pytest -n) share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from pictures import PHOTOS, photo
from synthetic import layout
from typer.testing import CliRunner

import sadr_cli
from sadr_cli.cli import app
from sadr_cli.uv import UVLayout

# Before any test replaces a name: a module first loaded meanwhile would take the replacement by
# ``from ... import``, and keep it for all later tests.
for _module in pkgutil.walk_packages(sadr_cli.__path__, "sadr_cli."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)

# A shell's background job and nohup hand down ignored signals, which tests would send in vain.
for _name in ("SIGINT", "SIGHUP"):
    if getattr(signal, _name, None) and signal.getsignal(signal.Signals[_name]) is signal.SIG_IGN:
        signal.signal(signal.Signals[_name], signal.SIG_DFL)

# A busy machine is no failure of a property. In CI the examples are the same in every run, so that
# a failure is the fault of the change; at home new ones are tried each time.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", _patient)
settings.register_profile("ci", _patient, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws does not depend on those that ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def uv() -> UVLayout:
    """A made-up face layout, see :mod:`synthetic`."""
    return layout()


@pytest.fixture
def sadr(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``sadr`` with the layout of :class:`fakes.FakeReconstructor` for that of the weights."""
    made = layout(0.25)
    monkeypatch.setattr("sadr_cli.model.checkpoint.find_weights", lambda weights: "none")
    monkeypatch.setattr("sadr_cli.model.checkpoint.load_layout", lambda path: made)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Research data that the project may not ship; tests that want it skip without it."""
    root = Path(os.environ.get("SADR_SHARED", Path(__file__).parents[2] / "shared"))
    folder = root / "data"
    if not folder.is_dir():
        pytest.skip("needs research data that is not shipped")
    return folder


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """512 x 512, one frontal face of about 100 pixels, see ``examples/README.md``."""
    return photo("astronaut")


@pytest.fixture(scope="session")
def group() -> np.ndarray:
    """1760 x 1000, six faces from about 200 down to 30 pixels."""
    return photo("group")


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of the photographs that come with the project."""
    return PHOTOS
