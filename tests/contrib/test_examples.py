"""The services of `examples/`, as programs: killed in the middle, gone on with, and looked at in a browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path

import httpx
import pytest
from tests.contrib.chromium import CHROMIUM, open_page
from tests.contrib.faces import sse

from imapipe.testing import Server, SyntheticMailbox

EXAMPLES = Path(__file__).parents[2] / "examples"
# The proof of full size: IMAPIPE_PROOF_MESSAGES=20000.
MESSAGES = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "2000"))


@asynccontextmanager
async def _program(
    name: str, *arguments: str, **environment: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Callable[[], None]]]:
    """A service as a process: a client of it, and what tells it to end; after the block it has ended in good order.

    It is told once: a second SIGTERM meets a process that may hear none any more, since it is all but over.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *("--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    end = cache(partial(process.send_signal, signal.SIGTERM))
    try:
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
            yield http, end
        end()
        # Within this, streams or no streams: else it is killed, and that is not 0.
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _exported(folder: Path) -> list[int]:
    """The UIDs in the file that the job wrote."""
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line)["uid"] for line in file.read_bytes().splitlines()]


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["fastapi_service.py", "aiohttp_service.py"])
async def test_sigterm_in_the_middle_loses_nothing(name: str, tmp_path: Path) -> None:
    async with Server(SyntheticMailbox(MESSAGES, size=1000)) as server:
        arguments = ("--folder", str(tmp_path), "--url", server.url)
        async with _program(name, *arguments, IMAPIPE_PASSWORD=server.password) as (http, end):
            wanted = {"name": "export", "account": "ann", "parameters": {"per_second": MESSAGES // 5}}
            started = await http.post("/mail/jobs", json=wanted)
            path = started.headers["Location"]
            async with http.stream("GET", f"{path}/events") as answer:
                events = sse(answer)
                async for _, kind, told in events:
                    if kind == "progress" and told["done"]:
                        break
                end()
                last = [event async for event in events][-1]
            assert (last[1], last[2]["state"]) == ("end", "interrupted")
        async with _program(name, *arguments, IMAPIPE_PASSWORD=server.password) as (http, _):
            async with http.stream("GET", f"{path}/events", headers={"Last-Event-ID": last[0]}) as answer:
                events_now = [(kind, told) async for _, kind, told in sse(answer)]
            assert events_now[0] == ("lost", {"count": None})
            assert events_now[-1][1]["state"] == "complete"
            report = (await http.get(f"{path}/result")).json()["report"]
            assert report["skipped"] > 0
            assert (report["planned"], report["skipped"] + report["done"]) == (MESSAGES, MESSAGES)
    assert sorted(_exported(tmp_path)) == list(range(1, MESSAGES + 1))


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt install chromium)")
async def test_the_page_starts_a_job_and_shows_it_by_keyboard_alone(tmp_path: Path) -> None:
    """IMAPIPE_SCREENSHOTS names a folder for pictures of it."""
    pictures = Path(os.environ.get("IMAPIPE_SCREENSHOTS", tmp_path))
    async with _program("fastapi_service.py", "--messages", "700") as (http, _), open_page() as page:
        await page.look(width=1180, height=860)
        await page.open(str(http.base_url.join("/")))
        await page.until("document.getElementById('name').options.length")
        assert await page.run("document.getElementById('detail').checkVisibility()") is False
        # Account, then the kind of job (the second), then its parameters, then the button.
        await page.press("Tab")
        assert await page.run("document.activeElement.id") == "account"
        await page.press("Tab")
        await page.press("ArrowDown")
        await page.until("document.getElementById('name').value === 'classify'")
        for _ in range(3):
            await page.press("Tab")
        assert await page.run("document.activeElement.textContent") == "Start"
        await page.press("Enter")
        await page.until("document.getElementById('state').textContent === 'running'")
        await page.until("parseInt(document.getElementById('rate').textContent) > 0")
        await page.until("document.querySelector('#failures li')")
        # The list of jobs knows what the events say, and does not wait for its next look.
        told = "document.querySelector('#jobs [aria-current]').lastElementChild.textContent"
        await page.run("globalThis.asked = fetch, globalThis.fetch = () => new Promise(() => {}), 0")
        before = await page.run(told)
        assert await page.run("document.getElementById('title').textContent") == "classify for ann"
        await page.until(f"{told} !== {before!r} && parseInt({told}) > 0")
        await page.run("globalThis.fetch = asked, 0")
        for scheme, width, height in (("light", 1180, 860), ("dark", 1180, 860), ("light", 390, 1600)):
            await page.look(width=width, height=height, scheme=scheme)
            assert await page.run("document.scrollingElement.scrollWidth <= innerWidth")
            await page.screenshot(pictures / f"{scheme}-{width}.png")
        await page.until("document.getElementById('state').textContent === 'partial'", seconds=60)
        assert await page.run(told) == "partial"
        assert await page.run("document.getElementById('counts').textContent") == "700 of 700 messages"
        assert await page.run("document.getElementById('failed').textContent") == "3"
        assert await page.run("document.getElementById('said').textContent") == "The job is partial."
        assert await page.run("document.getElementById('cancel').disabled") is True
        failures = await page.run("[...document.querySelectorAll('#failures b')].map((each) => each.textContent)")
        assert failures == [f"UID {uid}" for uid in (633, 422, 211)]
        await page.run("at('account').value = 'nobody'; at('start').requestSubmit()")
        await page.until("document.getElementById('wrong').textContent === \"there is no account 'nobody'\"")
        assert await page.run("document.getElementById('state').textContent") == "partial"
        await page.run("at('account').value = 'ann'; document.querySelector('#parameters input').value = 'Nowhere'")
        await page.run("at('start').requestSubmit()")
        await page.until("document.getElementById('state').textContent === 'failed'")
        assert "CommandNo" in str(await page.run("document.getElementById('news').textContent"))
        assert page.errors == []


@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / "aiohttp_service.py"),
            *("--port", str(port), "--folder", str(tmp_path), "--messages", "1"),
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await process.communicate()
    assert process.returncode == 1
    assert told.decode() == f"port {port}: Address already in use; name another with --port\n"
