"""A headless Chromium, spoken to by its own protocol (CDP): no driver and no package is needed beside the browser."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_KEYS = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowDown": 40}


class Page:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.errors: list[str] = []

    async def call(self, method: str, **parameters: object) -> dict[str, object]:
        """Call a method of the protocol; errors that the page logs meanwhile are kept."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json(timeout=30)
            if told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(told["params"]))
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                return dict(told["result"])

    async def run(self, expression: str) -> object:
        """What an expression gives, or its promise."""
        told = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        result = told["result"]
        assert isinstance(result, dict)
        return result.get("value")

    async def until(self, expression: str, *, seconds: float = 30.0) -> object:
        """Wait until an expression gives something true; gives that."""
        async with asyncio.timeout(seconds):
            return await self.run(f"""new Promise((resolve) => {{
                const look = () => {{ const value = {expression}; value ? resolve(value) : setTimeout(look, 30); }};
                look();
            }})""")

    async def open(self, url: str) -> None:
        """Open an address, and wait until it is there."""
        for domain in ("Page", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(30):
            # The page that was there before takes its promises with it, so this one is asked again and again.
            while await self.run("document.readyState + location.href") != f"complete{url}":
                await asyncio.wait_for(asyncio.sleep(0.05), 1)

    async def press(self, key: str) -> None:
        """Press a key, as a person does."""
        code = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"Enter": "\r", "Space": " "}.get(key)
        await self.call("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    async def look(self, *, width: int, height: int, scheme: str = "light") -> None:
        """Give the window a size, and the page a colour scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, path: Path) -> None:
        """Write what is to be seen as a PNG."""
        told = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(str(told["data"])))


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A page of a browser of its own, which ends with the block."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        switches = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server")
        browser = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *switches,
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert browser.stderr is not None
        try:
            async with asyncio.timeout(60):
                while not (found := re.search(rb"ws://([\d.:]+)/", line := await browser.stderr.readline())):
                    assert line, "Chromium ended"
            draining = asyncio.create_task(browser.stderr.read())
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://{found[1].decode()}/json/list") as answer:
                    pages = [each for each in await answer.json() if each["type"] == "page"]
                async with http.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
            browser.terminate()
            await draining
        finally:
            if browser.returncode is None:
                browser.kill()
            await browser.wait()
