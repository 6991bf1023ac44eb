"""One run at a time in a folder."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from sadr_cli.errors import OutputError
from sadr_cli.lock import LOCK_NAME, FolderLock

HOLD = """
import sys, time
from pathlib import Path
from sadr_cli.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_run_in_the_same_process_is_told(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(OutputError, match=f"another run is writing to {tmp_path}: wait for it"):
        FolderLock(tmp_path)
    lock.release()
    assert not (tmp_path / LOCK_NAME).exists()
    FolderLock(tmp_path).release()
    lock.release()  # twice is no error


def test_a_killed_run_leaves_no_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run"):
            FolderLock(tmp_path)
        other.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    FolderLock(tmp_path).release()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_folder_may_be_locked_by_many_one_after_another(tmp_path):
    for _ in range(50):
        FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []
