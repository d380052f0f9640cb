"""Chromium as the tests drive it: the DevTools protocol over a pair of pipes, so that nothing listens on a port."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip


class Browser:
    """A Chromium without a window; use it in a ``with`` statement."""

    def __init__(self) -> None:
        assert CHROMIUM is not None
        self.events: list[dict[str, Any]] = []
        self._number, self._rest = 0, b""
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4; copies far from these let neither overwrite the other.
        far = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for descriptor in (commands, answers)]
        self._process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, f"--user-data-dir={self._profile}", "--remote-debugging-pipe", "about:blank"],
            close_fds=False,
            preexec_fn=lambda: (os.dup2(far[0], 3), os.dup2(far[1], 4)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (commands, answers, *far):
            os.close(descriptor)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self.call("Browser.close", timeout=5)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, params: dict[str, Any] | None = None, session: str = "", *, timeout: float = 60) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before it are kept in `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        end = time.monotonic() + timeout
        while True:
            answer = self._receive(end, method)
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return dict(answer["result"])

    def wait(self, method: str, session: str, *, timeout: float = 60) -> dict[str, Any]:
        """Wait for an event, and give its parameters."""
        end = time.monotonic() + timeout
        while True:
            for i, event in enumerate(self.events):
                if event.get("method") == method and event.get("sessionId") == session:
                    return dict(self.events.pop(i).get("params", {}))
            self.events.append(self._receive(end, method))

    def _receive(self, end: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium gave no answer to {what}")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._rest += part
        one, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(one))

    def tab(self, *, width: int = 1400, height: int = 1000, dark: bool = False, scripts: bool = True) -> Tab:
        """Open an empty tab."""
        return Tab(self, width, height, dark=dark, scripts=scripts)


class Tab:
    """One page."""

    def __init__(self, browser: Browser, width: int, height: int, *, dark: bool, scripts: bool) -> None:
        self.browser = browser
        self.target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self.session = browser.call("Target.attachToTarget", {"targetId": self.target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", {"value": True})
        self.call("Page.bringToFront")  # what is behind another tab is not painted
        self.look(width=width, height=height, dark=dark)

    def call(self, method: str, params: dict[str, Any] | None = None, *, timeout: float = 60) -> dict[str, Any]:
        """Send a command to this tab."""
        return self.browser.call(method, params, self.session, timeout=timeout)

    def look(self, *, width: int = 1400, height: int = 1000, dark: bool = False, media: str = "") -> None:
        """Set the size, the colour scheme and the medium that the page is shown in."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})

    def open(self, path: Path) -> None:
        """Load a file and wait until it has loaded."""
        self.browser.events = [e for e in self.browser.events if e.get("sessionId") != self.session]
        self.call("Page.navigate", {"url": path.resolve().as_uri()})
        self.browser.wait("Page.loadEventFired", self.session)

    def first_paint(self) -> float:
        """Give the milliseconds from the start of loading to the first contentful paint, which is waited for."""
        self.call("Page.bringToFront")
        return float(
            self.evaluate(
                "new Promise((done) => new PerformanceObserver((list) => list.getEntriesByName('first-contentful-paint')"
                ".forEach((entry) => done(entry.startTime))).observe({ type: 'paint', buffered: true }))"
            )
        )

    def before(self, script: str) -> None:
        """Run a script in every page that this tab opens from now on, before the page's own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def evaluate(self, expression: str, *, timeout: float = 60) -> Any:
        """Give the value of an expression in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True}, timeout=timeout)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"].get("exception", answer["exceptionDetails"])))
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Give the addresses that the page asked for, its own file left out."""
        asked = [e["params"]["request"]["url"] for e in self.browser.events if self._is(e, "Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith("file:///")]

    def complaints(self) -> list[str]:
        """Give what the browser logged: policy violations, errors."""
        logged = [e["params"]["entry"] for e in self.browser.events if self._is(e, "Log.entryAdded")]
        thrown = [str(e["params"]) for e in self.browser.events if self._is(e, "Runtime.exceptionThrown")]
        return [f"{e['level']}: {e['text']}" for e in logged if e["level"] in ("error", "warning")] + thrown

    def _is(self, event: dict[str, Any], method: str) -> bool:
        return event.get("method") == method and event.get("sessionId") == self.session

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Write the page as it is printed."""
        made = self.call("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": False})
        path.write_bytes(base64.b64decode(made["data"]))

    def close(self) -> None:
        """Close the tab."""
        self.browser.call("Target.closeTarget", {"targetId": self.target})
