"""What only the FastAPI face can get wrong: what FastAPI does for it."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI
from starlette.types import Message
from tests.contrib.faces import manager

from imapipe.contrib import fastapi as of_fastapi
from imapipe.contrib.job_events import EventRing
from imapipe.testing import Server


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", ["events", "events.ndjson"])
async def test_a_listener_that_goes_in_the_middle_is_no_error_to_be_logged(stream: str) -> None:
    """Whatever the application raises, its server logs with a traceback."""
    async with Server(30) as server:
        jobs = manager(server, None, asyncio.Event())
        service = of_fastapi.Service(jobs)
        app = FastAPI()
        app.include_router(service.router())
        async with service:
            job = await jobs.start("scan", "ann")
            await job.wait()
            gone = asyncio.Event()
            bodies = []

            async def receive() -> Message:
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                if message.get("body"):
                    bodies.append(message["body"])
                    # Whoever makes events has filled what holds them meanwhile.
                    for _ in range(50):
                        await asyncio.sleep(0)
                    gone.set()
                    # A client that takes no more is waited for, until it is known to have gone.
                    await asyncio.Event().wait()

            scope = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "path": f"/jobs/{job.id}/{stream}",
                "query_string": b"",
                "headers": [],
            }
            await app(scope, receive, send)
            assert len(bodies) == 1


@pytest.mark.asyncio
async def test_a_stream_with_nothing_to_tell_shows_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_fastapi, "_PING_SECONDS", 0.01)
    ring = EventRing()
    events = of_fastapi._sse(ring.subscribe())
    assert await anext(events) == ": ping\n\n"
    ring.append("state", {"state": "running"})
    ring.close()
    told = [each async for each in events if not each.startswith(":")]
    assert told == [f'id: {ring.id_of(1)}\nevent: state\ndata: {{"state":"running"}}\n\n']
