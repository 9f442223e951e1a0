"""A headless Chromium, driven over the DevTools protocol: open a page, ask it something, take a picture of it."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
# Pages of TensorBoard nest shadow trees and frames, into which document.querySelectorAll does not look
HELPERS = """
window.everything = function* (root) {
  for (const element of root.querySelectorAll('*')) {
    yield element;
    if (element.shadowRoot) yield* window.everything(element.shadowRoot);
    if (element.contentDocument) yield* window.everything(element.contentDocument);
  }
};
window.found = (selector) => [...window.everything(document)].filter((element) => element.matches(selector));
window.shown = (element) => element.getBoundingClientRect().width > 0 && element.getBoundingClientRect().height > 0;
window.text = () => found('body, *').filter((element) => !['SCRIPT', 'STYLE', 'TEMPLATE'].includes(element.tagName))
  .flatMap((element) => [...element.childNodes, ...(element.shadowRoot ? element.shadowRoot.childNodes : [])])
  .filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.textContent.trim()).join('\\n');
"""
# What a page of the package's own complains of
LISTEN = """
window.complaints = [];
addEventListener('error', (event) => complaints.push(String(event.message || event.target.src)), true);
addEventListener('unhandledrejection', (event) => complaints.push(String(event.reason)));
addEventListener('securitypolicyviolation', (event) => complaints.push(event.violatedDirective + event.blockedURI));
for (const name of ['error', 'warn']) console[name] = (...words) => complaints.push(words.join(' '));
"""
PICTURES = Path(__file__).resolve().parents[2] / "build" / "browser"


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome, or None."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on the path (apt-get install chromium)"),
]
"""Of a file of tests that look at pages."""


class Browser:
    """One page of a browser of its own, which lives as long as the ``with`` block.

    Args:
        program: path of Chromium.
        folder: for its profile.
        size: of the window, in pixels.
    """

    def __init__(self, program: str, folder: Path, size: tuple[int, int] = (1500, 1000)) -> None:
        self.command = [program, *OPTIONS, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}"]
        self.folder = folder
        self.size = size
        self.calls = 0

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.process = subprocess.Popen(
            [*self.command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._run(self._connect())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self.session.close())
        self._stop()

    def open(self, url: str) -> None:
        """Goes to a page, and waits until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")
        self.ask(HELPERS)

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression, as far as JSON can tell it; of a promise what it comes to."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = 60) -> Any:
        """Asks until the answer is true; returns it.

        Raises:
            TimeoutError: it stays false.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.ask(script)
            if answer:
                return answer
            time.sleep(0.2)
        raise TimeoutError(f"after {seconds} s still not: {script}")

    def resize(self, width: int, height: int) -> None:
        """Gives the page another size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """Saves what is seen as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol."""
        return self._run(self._call(method, params))

    async def _connect(self) -> None:
        port_file = self.folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.is_file() and "\n" in port_file.read_text()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.command[0]} did not start (exit status {self.process.poll()})")
            await asyncio.sleep(0.1)
        port = port_file.read_text().splitlines()[0]
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self.socket = await self.session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0, autoping=True)

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        await self.socket.send_str(json.dumps({"id": self.calls, "method": method, "params": params}))
        while True:
            message = await self.socket.receive(timeout=120)
            if message.type != aiohttp.WSMsgType.TEXT:
                raise RuntimeError(f"{method}: the browser has closed the connection ({message.type.name})")
            answer = json.loads(message.data)
            if answer.get("id") == self.calls:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]  # type: ignore[no-any-return]

    def _run(self, task: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(task)

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.loop.close()
