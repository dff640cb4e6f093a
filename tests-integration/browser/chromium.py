"""Chromium without a window, driven by its own protocol over two pipes: no package is needed for that."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 60.0

# Chromium reads commands from file descriptor 3 and writes answers to 4.
LAUNCH = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """The browser's program; ``FX_CHROMIUM`` names another one."""
    return os.environ.get("FX_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
    """The browser did not do what it was asked for."""


class Browser:
    """A running Chromium; one page at a time."""

    def __init__(self, profile: Path):
        program = find()
        if program is None:
            raise BrowserError(f"No Chromium here (looked for {', '.join(NAMES)}): install it, or set FX_CHROMIUM.")
        theirs_in, self._commands = (_high(end) for end in os.pipe())
        self._answers, theirs_out = (_high(end) for end in os.pipe())
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--hide-scrollbars", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), program, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers, self._buffer = itertools.count(1), b""
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer; events that come in between are kept."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait_for(self, method: str) -> None:
        """Wait until an event has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def close(self) -> None:
        """End the browser."""
        self.session = None
        try:
            self.call("Browser.close")
            self._process.wait(PATIENCE)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for end in (self._commands, self._answers):
            os.close(end)

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            piece = os.read(self._answers, 1 << 20) if ready else b""
            if not piece:
                raise BrowserError("Chromium ended." if ready else f"Chromium said nothing for {PATIENCE:.0f} s.")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Page:
    """A page in the browser, and what it did wrong."""

    def __init__(self, browser: Browser, file: Path, width: int = 1240, height: int = 900, scheme: str = "light"):
        browser.session, browser.events = None, []
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._browser = browser
        for domain in ("Page", "Runtime", "Network", "Log"):
            browser.call(f"{domain}.enable")
        self.resize(width, height)
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        started = time.monotonic()
        browser.call("Page.navigate", url=file.resolve().as_uri())
        browser.wait_for("Page.loadEventFired")
        self.evaluate("1")
        self.seconds = time.monotonic() - started

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size."""
        self._browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        result = self._browser.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def box(self, selector: str, index: int = 0) -> dict[str, float]:
        """Where an element is in the window; it is scrolled into it first."""
        element = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        return self.evaluate(
            f"{element}.scrollIntoView({{block: 'center'}}), {element}.getBoundingClientRect().toJSON()"
        )

    def move(self, x: float, y: float) -> None:
        """Move the pointer."""
        self._browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str, index: int = 0) -> None:
        """Click on the middle of an element."""
        box = self.box(selector, index)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind in ("mousePressed", "mouseReleased"):
            self._browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self._browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, file: Path, whole: bool = False) -> None:
        """Write a picture of the window, or of the whole page, as PNG."""
        data = self._browser.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        self.evaluate("1")
        return [e["params"]["request"]["url"] for e in self._said("Network.requestWillBeSent")]

    def complaints(self) -> list[Any]:
        """Errors and messages of the page."""
        self.evaluate("1")
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed")
        return [event["params"] for kind in kinds for event in self._said(kind)]

    def _said(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("method") == method]


def _high(descriptor: int) -> int:
    """The same file under a number that is out of the way of 3 and 4."""
    import fcntl

    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy


Opener = Callable[..., Page]
