"""A real browser for the tests: headless Chromium, driven through chromedriver by the W3C's WebDriver protocol.

The protocol is JSON over HTTP, so the standard library is client enough. In a lab everything runs inside of its
namespace: the page's requests are real connections there.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pytest

from tests.lab import LabProcess

T = TypeVar("T")
DEADLINE = 120.0  # seconds, for the first start of a browser on a machine that is busy
_STARTS = 5
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's reference, by the specification
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en",
)  # fmt: skip


class Browser:
    """One window; it ends with the ``with`` block. ``scripts`` off is a browser without JavaScript."""

    def __init__(self, folder: Path, lab: LabProcess | None = None, *, scripts: bool = True) -> None:
        for program in ("chromium", "chromedriver"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        self._lab = lab
        self._driver, self._port = self._started(folder)
        arguments = [*_ARGUMENTS, f"--user-data-dir={folder}/chromium"]
        arguments += [] if scripts else ["--blink-settings=scriptEnabled=false"]
        options = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self._session = ""
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._session = f"/session/{_object(answer)['sessionId']}"
        self.open("about:blank")  # instead of Chromium's own first page
        self.requests()

    def _started(self, folder: Path) -> tuple[subprocess.Popen[str], int]:
        """A chromedriver that listens, and its port. It ends where its port is taken in one of the two families."""
        command = ["chromedriver", "--port=0", f"--log-path={folder}/chromedriver.log"]
        said = folder / "chromedriver.said"
        for _ in range(_STARTS):
            with said.open("w") as output:
                if self._lab is not None:
                    driver = self._lab.popen(command, stdout=output, stderr=output)
                else:
                    driver = subprocess.Popen(command, stdout=output, stderr=output, text=True)

            def port(driver: subprocess.Popen[str] = driver) -> str:
                match = re.search(r"successfully on port (\d+)", said.read_text())
                return match[1] if match else "none" if driver.poll() is not None else ""

            found = self.wait(port, "chromedriver")
            if found != "none":
                return driver, int(found)
        raise AssertionError(f"chromedriver ended {_STARTS} times, and said: {said.read_text()}")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._ask("DELETE", "", None)
        finally:
            self._driver.kill()
            self._driver.wait(DEADLINE)

    def open(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: object) -> object:
        """The value that a script returns; a promise is waited for."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": arguments})

    def text(self, selector: str) -> str:
        """The text of an element as it is shown."""
        return str(self._ask("GET", f"{self._element(selector)}/text", None))

    def label(self, selector: str) -> str:
        """An element's accessible name, as the browser tells it to a screen reader."""
        return str(self._ask("GET", f"{self._element(selector)}/computedlabel", None))

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that match, shown or not."""
        found = self.run("return [...document.querySelectorAll(arguments[0])].map((it) => it.textContent)", selector)
        assert isinstance(found, list)
        return [str(text) for text in found]

    def click(self, selector: str) -> None:
        """Click where the element is, with a real mouse's events."""
        actions = [
            {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {_ELEMENT: self._reference(selector)}},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._ask("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def press(self, *keys: str) -> None:
        """Press keys, each down and up, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def command(self, name: str, **parameters: object) -> Mapping[str, object]:
        """A command of the DevTools protocol, for what WebDriver does not have."""
        return _object(self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters}))

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1.0) -> None:
        """Take a size, a scale and a colour scheme."""
        mobile = width < 700
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command(
            "Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}]
        )

    def screenshot(self, *, whole: bool = True) -> bytes:
        """The page as a PNG."""
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(str(answer["data"]))

    def complaints(self) -> list[str]:
        """What the console has said since this was asked last: errors, refusals of the policy, failed loads."""
        return [str(entry["message"]) for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since this was asked last."""
        events = [_object(json.loads(str(entry["message"]))["message"]) for entry in self._log("performance")]
        sent = [_object(event["params"]) for event in events if event["method"] == "Network.requestWillBeSent"]
        return [str(_object(params["request"])["url"]) for params in sent]

    def wait(self, found: Callable[[], T | None], what: str) -> T:
        """Ask *found* until it has an answer that is not empty."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            answer = found()
            if answer:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"waited {DEADLINE:g} s in vain for {what}")

    def _log(self, kind: str) -> list[Mapping[str, object]]:
        entries = self._ask("POST", "/se/log", {"type": kind})
        assert isinstance(entries, list)
        return [_object(entry) for entry in entries]

    def _reference(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(_object(found)[_ELEMENT])

    def _element(self, selector: str) -> str:
        return f"/element/{self._reference(selector)}"

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None) -> object:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        if self._lab is not None:
            connection.sock = self._lab.connect("127.0.0.1", self._port, timeout=DEADLINE)
        try:
            connection.request(method, self._session + path, None if body is None else json.dumps(body))
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message']}")
        return value


def _object(value: object) -> Mapping[str, object]:
    assert isinstance(value, dict)
    return value
