"""Fixtures that several test packages share. (This file also puts ``tests`` on the path.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from synthetic import layout

from sadr_cli.uv import UVLayout


@pytest.fixture(scope="session")
def uv() -> UVLayout:
    """A made-up face layout, see :mod:`synthetic`."""
    return layout()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Research data that the project may not ship; tests that want it skip without it."""
    root = Path(os.environ.get("SADR_SHARED", Path(__file__).parents[2] / "shared"))
    folder = root / "data"
    if not folder.is_dir():
        pytest.skip("needs research data that is not shipped")
    return folder
