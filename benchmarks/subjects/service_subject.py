"""A service with one job, and clients on its events, in a process of their own (`benchmarks.listeners`).

Options: `face` ("fastapi" under uvicorn, "aiohttp"), `listeners` ("yes"). The clock runs from the job's first command
to its end. Notes: `events`, that each client which reads was told at least.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import uvicorn
from aiohttp import web
from fastapi import FastAPI

import imapipe
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import search as q
from imapipe.contrib import aiohttp as of_aiohttp
from imapipe.contrib import fastapi as of_fastapi
from imapipe.contrib.jobs import JobManager, Pools, Work

VERSION: Final = imapipe.__version__


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    return asyncio.run(_run(job, tally, meter))


async def _run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    go = asyncio.Event()

    def open_pool(_: str) -> imapipe.Pool:
        return imapipe.create_pool(f"imap://{job.user}@{job.host}:{job.port}", password=job.password, max_size=1)

    jobs = JobManager(Pools(open_pool))

    @jobs.job
    async def scan(pool: imapipe.Pool) -> object:
        await go.wait()
        pipeline = pool.mailbox("INBOX").search(q.ALL).fetch("flags")
        return Work(pipeline, lambda pipeline: pipeline.run(_reader(tally, verify=job.verify)))

    async with _SERVES[job.options.get("face", "fastapi")](jobs) as port:
        started = await jobs.start("scan", job.user)
        clients = None
        if job.options.get("listeners"):
            command = (sys.executable, "-m", "benchmarks.listeners", str(port), f"/jobs/{started.id}/events")
            clients = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            assert clients.stdout is not None
            if await clients.stdout.readline() != b"here\n":
                raise RuntimeError("the clients did not come")
        meter.start()
        go.set()
        status = await started.wait()
        meter.stop()
        if status.state != "complete":
            raise RuntimeError(f"the job is {status.state}: {status.error}")
        if clients is None:
            return {}
        told, _ = await clients.communicate()
        return {"events": float(min(json.loads(told)["events"]))}


def _reader(tally: Tally, *, verify: bool) -> Callable[[imapipe.Message], Awaitable[None]]:
    async def read(message: imapipe.Message) -> None:
        if verify:
            tally.flags(message.uid, message.flags)
            return
        tally.count += 1
        tally.total += message.uid + len(message.flags)

    return read


@asynccontextmanager
async def _fastapi_serves(jobs: JobManager) -> AsyncIterator[int]:
    """FastAPI under uvicorn; gives the port."""
    service = of_fastapi.Service(jobs)
    app = FastAPI(lifespan=service.lifespan)
    app.include_router(service.router())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
            assert not serving.done()
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving


@asynccontextmanager
async def _aiohttp_serves(jobs: JobManager) -> AsyncIterator[int]:
    """Aiohttp; gives the port."""
    app = web.Application()
    of_aiohttp.Service(jobs).add_to(app)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await web.SockSite(runner, listening).start()
        yield listening.getsockname()[1]
        await runner.cleanup()


_SERVES: Final[dict[str, Callable[[JobManager], AbstractAsyncContextManager[int]]]] = {
    "fastapi": _fastapi_serves,
    "aiohttp": _aiohttp_serves,
}
