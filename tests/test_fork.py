"""A Reconstructor that was made before a fork, as servers and data loaders do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Event, Thread, Timer

import pytest
from shell import ROOT, run

from sadr_cli.errors import UsageError
from sadr_cli.native import Lock, Native

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
PHOTO = ROOT / "examples" / "photos" / "hopper.jpg"

SCRIPT = f"""
import os, signal, sys
import numpy as np
from sadr_cli import Reconstructor, read_image
image = read_image({str(PHOTO)!r})
reconstructor = Reconstructor(device="cpu")
before = []
if sys.argv[1] == "used":
    before = [reconstructor.reconstruct(image) for _ in range(2)]
    assert reconstructor.runner.name == "openvino" or "openvino" not in sys.modules
child = os.fork()
signal.alarm(800)  # ends either, should it hang
for faces in [reconstructor.reconstruct(image)] + before:
    assert len(faces) == 1
    error = np.abs(faces[0].vertices - reconstructor.reconstruct(image)[0].vertices).max()
    assert error < 0.1, error
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both")
# and both end as programs do, with everything taken down
"""


@pytest.mark.slow  # two processes load everything
@pytest.mark.parametrize("parent", ["unused", "used"])
def test_a_reconstructor_made_before_a_fork_works_in_the_child(parent, tmp_path: Path) -> None:
    assert run(tmp_path, sys.executable, "-c", SCRIPT, parent).split() == ["both"]


def in_child(check) -> bool:
    """Whether ``check()`` is true in a forked process."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if check() else 1)
        finally:  # never back into pytest
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_what_is_native_is_made_anew_in_a_child_and_locks_are_free() -> None:
    thing = Native(os.getpid, lambda _: None)
    lock = Lock()
    with lock, thing.alone() as made:
        assert made == os.getpid()

        def check() -> bool:
            with lock, thing.alone() as mine:
                return mine == os.getpid() != made

        assert in_child(check)
    assert thing() == made


def test_on_a_gpu_a_child_says_what_to_do() -> None:
    from sadr_cli.model.device import Device, check_process

    here = os.getpid()
    check_process(here, Device("cuda"))
    assert in_child(lambda: check_process(here, Device("cpu")) is None)

    def refused() -> bool:
        try:
            check_process(here, Device("cuda"))
        except UsageError as error:
            return "create it after the fork" in str(error)
        return False

    assert in_child(refused)


def test_a_fork_waits_for_what_is_being_loaded() -> None:
    began, go_on, loaded = Event(), Event(), []

    def load() -> None:
        began.set()
        assert go_on.wait(300)
        loaded.append(True)

    loading = Thread(target=Native(load, lambda _: None))
    loading.start()
    assert began.wait(300)
    Timer(0.2, go_on.set).start()
    assert in_child(lambda: loaded == [True])
    loading.join()
