"""Both faces of a service on real sockets, and a client that knows of neither."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from aiohttp import web
from fastapi import FastAPI

import imapipe
from imapipe import search as q
from imapipe.contrib import aiohttp as of_aiohttp
from imapipe.contrib import fastapi as of_fastapi
from imapipe.contrib.jobs import JobManager, Pools, Work
from imapipe.contrib.service import ServiceCore
from imapipe.models.json_value import JSON
from imapipe.testing import Server

FACES = ("fastapi", "aiohttp")


@dataclass
class Running:
    """A service that runs.

    Attributes:
        http: A client of it.
        service: The service itself, in this process.
        server: The mail server.
        gate: Handlers wait for it.
    """

    http: httpx.AsyncClient
    service: ServiceCore
    server: Server
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, name: str = "scan", account: str = "ann", **parameters: JSON) -> str:
        """Start a job; gives its path."""
        answer = await self.http.post("/jobs", json={"name": name, "account": account, "parameters": parameters})
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]

    async def events(self, path: str, **headers: str) -> list[tuple[str, str, dict[str, JSON]]]:
        """The events of a job until the stream ends: id, kind and data."""
        async with self.http.stream("GET", f"{path}/events", headers=headers) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            return [event async for event in sse(answer)]


async def sse(answer: httpx.Response) -> AsyncIterator[tuple[str, str, dict[str, JSON]]]:
    """The events of a stream, read as a browser reads them."""
    told: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if not line:
            if told:
                yield told["id"], told["event"], httpx.Response(200, text=told["data"]).json()
            told = {}
            continue
        name, _, value = line.partition(":")
        told[name] = value.removeprefix(" ")


def manager(server: Server, folder: Path | None, gate: asyncio.Event) -> JobManager:
    """Jobs on a mail server: `scan`, and `held`, whose handlers wait for the gate."""

    async def open_pool(account: str) -> imapipe.Pool:
        if account == "nobody":
            raise LookupError(account)
        password = "wrong" if account == "mallory" else server.password
        return imapipe.create_pool(server.url, password=password)

    jobs = JobManager(Pools(open_pool), folder=folder, tell_every_seconds=0.05)

    async def handle(message: imapipe.Message) -> None:
        if message.uid == 7:
            raise OSError("no room")

    async def hold(message: imapipe.Message) -> None:
        await gate.wait()

    @jobs.job
    def scan(pool: imapipe.Pool, mailbox: str = "INBOX") -> object:
        """Look at every message."""
        return Work(pool.mailbox(mailbox).search(q.ALL).fetch("flags"), lambda job: job.run(handle))

    @jobs.job
    def held(pool: imapipe.Pool) -> object:
        return Work(pool.mailbox("INBOX").search(q.ALL).fetch("flags"), lambda job: job.run(hold))

    return jobs


@asynccontextmanager
async def fastapi_serves(jobs: JobManager) -> AsyncIterator[tuple[ServiceCore, str]]:
    """The FastAPI face under uvicorn."""
    service = of_fastapi.Service(jobs)
    app = FastAPI(lifespan=service.lifespan)
    app.include_router(service.router())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
            assert not serving.done()
        try:
            yield service, f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            # What a signal does.
            service.begin_to_end()
            server.should_exit = True
            await serving


@asynccontextmanager
async def aiohttp_serves(jobs: JobManager) -> AsyncIterator[tuple[ServiceCore, str]]:
    """The aiohttp face."""
    service = of_aiohttp.Service(jobs)
    app = web.Application()
    service.add_to(app)
    runner = web.AppRunner(app, shutdown_timeout=5)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        try:
            await web.SockSite(runner, listening).start()
            yield service, f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            await runner.cleanup()


@asynccontextmanager
async def running(face: str, server: Server, folder: Path | None = None) -> AsyncIterator[Running]:
    """A service of this face on a mail server, until the block ends."""
    gate = asyncio.Event()
    serves = fastapi_serves if face == "fastapi" else aiohttp_serves
    async with (
        serves(manager(server, folder, gate)) as (service, url),
        # No proxy of the environment is asked, and no answer waited for without an end.
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http,
    ):
        yield Running(http, service, server, gate)
