"""A headless Chromium that is driven: it opens, clicks, types, measures and takes photographs.

It is spoken to through a pipe (`--remote-debugging-pipe`), one JSON message after the other, each
ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 60.0
KEYS = {"Escape": 27, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40}
OVERFLOWING = """[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && !e.closest(".tracks, .seen, .hidden, .skip")
    && (box.left < -0.5 || box.right > document.documentElement.clientWidth + 0.5);
}).map(e => e.outerHTML.slice(0, 120))"""


class DrivenBrowser:
    """One page of a browser with a profile of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--no-first-run", "--disable-extensions", "--disable-background-networking"]
        command += ["--disable-component-update", "--hide-scrollbars", f"--user-data-dir={profile}"]
        command += ["--remote-debugging-pipe", "about:blank"]
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        placed = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(placed, pass_fds=(theirs_in, theirs_out), **quiet)
        os.close(theirs_in)
        os.close(theirs_out)
        self._text, self._number, self.events = b"", 0, []
        self._session: str | None = None
        pages = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in pages if each["type"] == "page")
        about = {"targetId": target, "flatten": True}
        self._session = self.call("Target.attachToTarget", **about)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **about: Any) -> dict[str, Any]:
        """Ask for something; what is answered."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": about}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return dict(found["result"])
            self.events.append(found)

    def _message(self) -> dict[str, Any]:
        until = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._text:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._text += data
        message, _, self._text = self._text.partition(b"\0")
        return dict(json.loads(message))

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """How large the window is, and which colours are preferred."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address, afresh."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)

    def run(self, code: str) -> Any:
        """The value of an expression."""
        about = {"expression": code, "returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", **about)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, code: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + TIMEOUT_S
        asked = f"(() => {{ try {{ return !!({code}) }} catch {{ return false }} }})()"
        while not self.run(asked):  # false, too, while there is no page yet
            assert time.monotonic() < until, (code, self.run("document.body.innerText")[:2000])
            time.sleep(0.03)

    def press(self, key: str) -> None:
        """Press a key."""
        about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, 0)}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Press one key after the other."""
        for key in text:
            self.press(key)

    def click(self, selector: str) -> None:
        """Click the middle of the first element that is selected, scrolled to where it is."""
        middle = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest', behavior: 'instant'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        about = {"x": middle[0], "y": middle[1], "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **about)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **about)

    def photograph(self, file: Path) -> Path:
        """A picture of what the window shows."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return file

    def overflowing(self) -> list[str]:
        """Elements that reach beyond the sides of the window, and the page if it does."""
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return [*(["the page"] if self.run(wide) else []), *self.run(OVERFLOWING)]

    def complaints(self) -> list[str]:
        """What the browser has complained of: errors, exceptions, refused requests."""
        self.run("1")  # what is under way has arrived
        found = []
        for event in self.events:
            about = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(about["exceptionDetails"]))
            if event.get("method") == "Log.entryAdded" and about["entry"]["level"] != "info":
                found.append(about["entry"]["text"])
            if event.get("method") == "Runtime.consoleAPICalled" and about["type"] == "error":
                found.append(str(about["args"]))
        return found
