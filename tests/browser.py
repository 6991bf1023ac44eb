"""A headless Chromium for tests, driven by its DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import until
from PIL import Image

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-features=IsolateSandboxedIframes",  # else frames are targets of their own
)
# Texts of less contrast with what is behind them than WCAG 2.1 asks for at level AA.
CONTRAST = """(() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((s, v, k) => s + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const style = getComputedStyle(e), c = rgb(style.backgroundColor);
      if (style.backgroundImage !== "none") return null;
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.textContent.trim() || !e.checkVisibility() || e.closest("script,style")) continue;
    if (e.closest("button:disabled:not(.card)")) continue;
    const ground = behind(e);
    if (!ground) continue;
    const style = getComputedStyle(e);
    const ink = rgb(e instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) bad.push(n.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  return [...new Set(bad)];
})()"""
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or os.name == "nt", reason="no Chromium here: pages are not looked at"
)


class Page:
    """The browser's only page: what it shows, says on its console and asks of the network."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._number, self._session = 0, None
        self._rest = b""
        self.console: list[str] = []
        self.requests: list[str] = []
        self._loaded: set[str] = set()  # documents that have all they need
        until(self._targets)  # a browser that has just started may have none yet
        (target, *_) = self._targets()
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def _targets(self) -> list[dict[str, Any]]:
        targets = self.call("Target.getTargets")["targetInfos"]
        return [target for target in targets if target["type"] == "page"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol; what happens meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._see(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._read.read1(1 << 20)
            assert part, "the browser went away"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def _see(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.console.append(json.dumps(about["args"]))
        elif method == "Log.entryAdded":
            self.console.append(about["entry"]["text"])
        elif method == "Page.lifecycleEvent" and about["name"] == "load":
            self._loaded.add(about["loaderId"])

    def open(self, path: Path, width: int = 1200, height: int = 800, dark: bool = False) -> None:
        """Load a file in a window of that size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.console.clear()
        self.requests.clear()
        document = self.call("Page.navigate", url=path.as_uri())["loaderId"]
        while document not in self._loaded:
            self._see(self._next())

    def frame(self) -> int:
        """The page's first frame, for ``value`` and ``wait``; its document, not its variables."""
        tree = self.call("Page.getFrameTree")["frameTree"]
        frame = tree["childFrames"][0]["frame"]["id"]
        return int(self.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"])

    def value(self, expression: str, frame: int | None = None) -> Any:
        """What JavaScript makes of ``expression``, waited for."""
        asked: dict[str, Any] = {"expression": expression, "returnByValue": True}
        if frame is not None:
            asked["contextId"] = frame
        answer = self.call("Runtime.evaluate", awaitPromise=True, **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, frame: int | None = None) -> None:
        """Until it holds."""
        until(lambda: self.value(expression, frame))

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width, height of an element in the window."""
        return tuple(
            self.value(
                f"(({{x, y, width, height}}) => [x, y, width, height])"
                f"(document.querySelector({selector!r}).getBoundingClientRect())"
            )
        )

    def click(self, selector: str) -> None:
        """In the middle of an element, after scrolling to it."""
        self.value(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        x, y, width, height = self.box(selector)
        self.drag((x + width / 2, y + height / 2))

    def drag(self, start: tuple[float, float], *way: tuple[float, float]) -> None:
        """The left button pressed at ``start``, moved along ``way``, released."""
        at, held = start, {"button": "left", "buttons": 1, "clickCount": 1}
        self._mouse("mouseMoved", at)
        self._mouse("mousePressed", at, **held)
        for at in way:
            self._mouse("mouseMoved", at, **held)
        self._mouse("mouseReleased", at, **held)

    def _mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)

    def wheel(self, at: tuple[float, float], by: float) -> None:
        self._mouse("mouseWheel", at, deltaX=0, deltaY=by)

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, by its name and Windows key code; ``text`` is what it types."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                windowsVirtualKeyCode=code,
            )  # fmt: skip

    def picture(self, selector: str | None = None) -> np.ndarray:
        """(H, W, 3) float pixels of the window, or of an element of it, once all is drawn."""
        self.value("new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")
        more: dict[str, Any] = {}
        if selector is not None:
            x, y, width, height = self.box(selector)
            left, top = self.value("[scrollX, scrollY]")  # clips are in the document
            x, y = x + left, y + top
            more["clip"] = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        data = base64.b64decode(self.call("Page.captureScreenshot", **more)["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)

    def close(self) -> None:
        self._write.close()
        self._read.close()


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a browser of its own, which ends with the block."""
    to_child, ours_out = os.pipe()
    ours_in, from_child = os.pipe()

    def three_and_four() -> None:  # the numbers that the protocol's pipe has
        high = [os.dup(to_child), os.dup(from_child)]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        try:
            page = Page(ours_in, ours_out)
            yield page
            page.close()
        finally:
            process.terminate()
            process.wait(300)
