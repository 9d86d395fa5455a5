"""What listeners cost a job: a service with one job and 50 clients on its events, half of them slow or gone.

    python -m benchmarks.listeners [--face aiohttp] [--messages 100000] [--pairs 5]

The mail server and the clients are processes of their own, so what is measured is the service: the job, and telling of
it. Telling goes by the clock, so what it costs is a share of a processor, which a job can lose that needs all of it.
Each pair is a job without listeners and one with them, in turns; told are the medians: that share, the ratio of the
times, and how much more memory the service had in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import psutil
import uvicorn
from aiohttp import web
from fastapi import FastAPI

import imapipe
from imapipe import search as q
from imapipe.contrib import aiohttp as of_aiohttp
from imapipe.contrib import fastapi as of_fastapi
from imapipe.contrib.jobs import Job, JobManager, Pools, Work
from imapipe.testing import Server, SyntheticMailbox

CLIENTS: Final = 50
SLOW: Final = 15
GONE: Final = 10


async def serve_mail(messages: int) -> None:
    """The mail server, until standard input ends."""
    async with Server(SyntheticMailbox(messages, size=1000)) as server:
        print(server.url, server.password, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def listen(port: int, path: str) -> None:
    """The clients, until the streams of those that read have ended."""

    async def come() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readline()
        return reader, writer

    there = [await come() for _ in range(CLIENTS)]
    for _, writer in there[:GONE]:
        writer.close()
    for _, writer in there[GONE : GONE + SLOW]:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, whatever the type says
    print("here", flush=True)

    async def read(reader: asyncio.StreamReader) -> int:
        count = 0
        while line := await reader.readline():
            count += line.startswith(b"event:")
            if line.startswith(b"event: end"):
                break
        return count

    counts = await asyncio.gather(*(read(reader) for reader, _ in there[GONE + SLOW :]))
    print(json.dumps({"events": counts}), flush=True)


async def _nothing(message: imapipe.Message) -> None:
    """What is done with a message."""


def make_jobs(url: str, password: str, go: asyncio.Event) -> JobManager:
    """The job: all envelopes, once it may go."""
    jobs = JobManager(Pools(lambda _: imapipe.create_pool(url, password=password)))

    @jobs.job
    async def scan(pool: imapipe.Pool) -> object:
        await go.wait()
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope")
        return Work(job, lambda job: job.run(_nothing))

    return jobs


@asynccontextmanager
async def fastapi_serves(jobs: JobManager) -> AsyncIterator[int]:
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
async def aiohttp_serves(jobs: JobManager) -> AsyncIterator[int]:
    """Aiohttp; gives the port."""
    app = web.Application()
    of_aiohttp.Service(jobs).add_to(app)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await web.SockSite(runner, listening).start()
        yield listening.getsockname()[1]
        await runner.cleanup()


SERVES: Final[dict[str, Callable[[JobManager], AbstractAsyncContextManager[int]]]] = {
    "fastapi": fastapi_serves,
    "aiohttp": aiohttp_serves,
}


async def run_job(face: str, url: str, password: str, *, with_listeners: bool) -> dict[str, float]:
    """One job, with listeners or without; what it cost."""
    go = asyncio.Event()
    jobs = make_jobs(url, password, go)
    async with SERVES[face](jobs) as port:
        job: Job = await jobs.start("scan", "ann")
        clients = None
        if with_listeners:
            command = (sys.executable, "-m", "benchmarks.listeners", "--listen", str(port), f"/jobs/{job.id}/events")
            clients = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            assert clients.stdout is not None
            assert await clients.stdout.readline() == b"here\n"
        process = psutil.Process()
        before = process.memory_info().rss
        cpu, began = time.process_time(), time.perf_counter()
        go.set()
        status = await job.wait()
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - began}
        assert status.state == "complete"
        grown = process.memory_info().rss - before
        events = 0
        if clients is not None:
            out, _ = await clients.communicate()
            events = min(json.loads(out)["events"])
            assert events > 0
    return {**took, "grown": grown, "events": events}


def compare(face: str, messages: int, pairs: int) -> dict[str, float]:
    """Pairs of jobs, and what they say together."""
    command = (sys.executable, "-m", "benchmarks.listeners", "--mail", str(messages))
    mail = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert mail.stdout is not None
    url, password = mail.stdout.readline().split()
    try:
        found = []
        for _ in range(pairs + 1):
            alone = asyncio.run(run_job(face, url, password, with_listeners=False))
            found.append((alone, asyncio.run(run_job(face, url, password, with_listeners=True))))
    finally:
        mail.communicate()
    # The first pair imports what is imported when it is needed.
    del found[0]
    return {
        "messages": messages,
        "cpu_seconds_alone": statistics.median(alone["cpu"] for alone, _ in found),
        "wall_seconds_alone": statistics.median(alone["wall"] for alone, _ in found),
        "share_of_a_processor": statistics.median(
            (listened["cpu"] - alone["cpu"]) / listened["wall"] for alone, listened in found
        ),
        "wall_ratio": statistics.median(listened["wall"] / alone["wall"] for alone, listened in found),
        "more_memory_bytes": statistics.median(listened["grown"] - alone["grown"] for alone, listened in found),
        "events_told_to_each": found[-1][1]["events"],
    }


def main() -> None:
    """Read the arguments, and be what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face", choices=tuple(SERVES), default="fastapi")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--mail", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--listen", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mail:
        asyncio.run(serve_mail(options.mail))
    elif options.listen:
        asyncio.run(listen(int(options.listen[0]), options.listen[1]))
    else:
        print(json.dumps(compare(options.face, options.messages, options.pairs), indent=2))


if __name__ == "__main__":
    main()
