"""Native runtimes meet several threads: what must not stand still, in processes of their own."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from sadr_cli.native import LIBRARIES, Native, library

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "sadr_cli").rglob("*.py"))
# By hand: SADR_TRIALS=200 pytest -m slow tests/test_native.py
TRIALS = int(os.environ.get("SADR_TRIALS", "30"))

BARRIER = """
import faulthandler, os, sys, threading
import numpy as np
faulthandler.dump_traceback_later(600, exit=True)  # works though the interpreter stands still
{prepare}
barrier = threading.Barrier(len(calls))
failures = []
def meet(call):
    barrier.wait()
    try:
        call(), call()
    except BaseException as error:
        failures.append(error)
sys.setswitchinterval(1e-6)  # threads change as often as they can
threads = [threading.Thread(target=meet, args=(call,)) for call in calls]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failures, failures
os._exit(0)
"""
DETECTORS = """
from sadr_cli.detection import centerface, create_detector
image = np.random.default_rng(0).integers(0, 255, (320, 320, 3), np.uint8)
calls = [lambda: create_detector().detect(image)] * 4
"""
DETECTORS_AND_NETWORK = f"""{DETECTORS}
from sadr_cli.model.network import NetworkConfig, SADRNet
from sadr_cli.model.checkpoint import Checkpoint, find_weights, load_layout
from sadr_cli.model.runtime import OpenVINONetwork
network = SADRNet(NetworkConfig(64, width=0.25)).eval()
checkpoint = Checkpoint(network, load_layout(find_weights()))
made = []
def network():
    if not made:
        made.append(OpenVINONetwork(checkpoint))
    made[0](np.zeros((1, 64, 64, 3), np.uint8))
calls[0] = network
"""


def _photos() -> str:
    """Photos in several formats, whose decoders a fresh process has not met."""
    files = []
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"):
        buffer = io.BytesIO()
        Image.linear_gradient("L").convert("RGB").resize((16, 16)).save(buffer, kind)
        files.append(buffer.getvalue())
    return f"""
from sadr_cli.sources.images import read_image
calls = [lambda data=data: read_image(data) for data in {files!r}]
"""


READERS = _photos()


def _hangs(code: str) -> str:
    """Empty, or what a fresh process that ran ``code`` said before it had to be ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=700)
    except subprocess.TimeoutExpired as error:
        return f"killed: {error.stderr!r}"
    return done.stderr.decode() or f"exit {done.returncode}" if done.returncode else ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "trials"),
    [(DETECTORS, TRIALS), (DETECTORS_AND_NETWORK, -(-TRIALS // 5)), (READERS, -(-TRIALS // 5))],
    ids=["detectors", "detectors and network", "photos"],
)
def test_first_inferences_of_several_threads_never_hang(prepare, trials) -> None:
    pytest.importorskip("openvino")
    code = BARRIER.format(prepare=prepare)
    with ThreadPoolExecutor(2) as pool:
        hung = [said for said in pool.map(_hangs, [code] * trials) if said]
    assert not hung, f"{len(hung)} of {trials}: {hung[0]}"


def test_loaded_and_used_once_before_anyone_else_may_call() -> None:
    happened, barrier = [], threading.Barrier(4)

    def load() -> list[str]:
        happened.append(f"load {threading.get_ident()}")
        return happened

    thing = Native(load, lambda made: made.append(f"use {threading.get_ident()}"))

    def call() -> None:
        barrier.wait()
        thing().append("call")

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(call) for _ in range(4)]:
            future.result()
    first, second, *rest = happened
    assert first.split()[0] == "load" and second == first.replace("load", "use")
    assert rest == ["call"] * 4


def test_nothing_else_is_first_used_meanwhile() -> None:
    inside: list[str] = []
    other = Native(lambda: inside.append("other"), lambda _: None)

    def slow() -> None:
        thread.start()
        thread.join(0.2)
        inside.append("slow")

    thread = threading.Thread(target=other)
    Native(slow, lambda _: None)()
    thread.join(300)
    assert inside == ["slow", "other"]


def test_a_first_use_may_need_another() -> None:
    inner = Native(lambda: 2, lambda _: None)
    assert Native(lambda: inner() + 1, lambda _: None)() == 3


def test_what_loading_raises_is_raised_and_the_next_call_tries_again() -> None:
    answers = [ImportError("not installed"), 7]

    def load() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    thing = Native(load, lambda _: None)
    with pytest.raises(ImportError, match="not installed"):
        thing()
    assert thing() == 7


def test_libraries_are_loaded_nowhere_else() -> None:
    with pytest.raises(RuntimeError, match="is loaded by a sadr_cli"):
        library("av")
    with pytest.raises(ValueError, match="numpy"):
        library("numpy")
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
            assert not {str(n).split(".")[0] for n in names} & set(LIBRARIES), path


def test_whoever_makes_a_network_of_opencv_makes_it_a_native() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if "cv2.dnn.readNet" in text or "FaceDetectorYN" in text:
            assert "Native(" in text, path


def test_an_inference_that_fails_takes_no_request_from_the_others() -> None:
    from queue import LifoQueue
    from types import SimpleNamespace

    from sadr_cli.compiled import _infer

    class Request:
        output_tensors = (SimpleNamespace(data=1.0),)

        def start_async(self, inputs: list[str], share_inputs: bool) -> None:
            self.bad = inputs == ["bad"]

        def wait(self) -> None:
            if self.bad:
                raise RuntimeError("out of memory")

    requests: LifoQueue[Request] = LifoQueue()
    for _ in range(2):
        requests.put(Request())
    for inputs in (["bad"], ["good", "bad", "good"], ["good", "good", "bad", "good"]):
        with pytest.raises(RuntimeError, match="out of memory"):
            list(_infer(requests, [[name] for name in inputs]))
        assert requests.qsize() == 2
    assert len(list(_infer(requests, [["good"]] * 5))) == 5
