"""Following: how long it takes from the arrival of a message to its handler, at the testing server in the same process.

Options: `way` ("notify", "idle": imapipe; "loop": IDLE, DONE and FETCH in turn by aioimaplib), `messages`, and
`round_trip_ms` of the line, by which the server answers each command later; it tells of arrivals, and answers DONE,
at once.
Notes: `p50_ms` and `p95_ms`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal, cast

import aioimaplib

import imapipe
import imapipe.client
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally
from imapipe import events
from imapipe import search as q
from imapipe.testing import Mailbox, Server

VERSION: Final = imapipe.__version__
_MAIL: Final = b"Message-ID: <new@example.org>\r\nSubject: new\r\n\r\n" + b"x" * 2000 + b"\r\n"
_BEFORE: Final = 3


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    seconds = asyncio.run(_run(job, meter))
    seconds.sort()
    tally.count = len(seconds)
    return {"p50_ms": 1000 * seconds[len(seconds) // 2], "p95_ms": 1000 * seconds[len(seconds) * 95 // 100]}


async def _run(job: Job, meter: Meter) -> list[float]:
    round_trip = float(job.options["round_trip_ms"]) / 1000
    count = 5 if job.verify else int(job.options["messages"])
    async with Server({"INBOX": _BEFORE}, latency_seconds=round_trip) as server:
        box = server.mailboxes["INBOX"]
        if job.options["way"] == "loop":
            seconds = await _loop(server, box, count)
        else:
            seconds = await _follow(server, box, count, job.options["way"], 4 * round_trip)
    meter.stop()
    return seconds


async def _follow(server: Server, box: Mailbox, count: int, way: str, pause: float) -> list[float]:
    came, watched = asyncio.Event(), asyncio.Event()
    arrived_at = 0.0
    seconds: list[float] = []

    async def handle(message: imapipe.Message) -> None:
        if message.uid > _BEFORE:
            seconds.append(time.perf_counter() - arrived_at)
            came.set()

    def listen(event: events.Event) -> None:
        if isinstance(event, events.MailboxFollowed) and event.way == way:
            watched.set()

    async with imapipe.create_pool(server.url, password=server.password) as pool:
        pool.events.subscribe(listen)
        job = pool.mailbox("INBOX").search(q.ALL).fetch("full")
        following = job.follow(handle, way=cast(Literal["notify", "idle"], way))

        async def follow() -> None:
            await following

        task = asyncio.create_task(follow())
        await watched.wait()
        for _ in range(count):
            await asyncio.sleep(0.02 + pause)
            came.clear()
            arrived_at = time.perf_counter()
            box.append(_MAIL)
            await came.wait()
        following.stop()
        await task
    return seconds


async def _loop(server: Server, box: Mailbox, count: int) -> list[float]:
    client = aioimaplib.IMAP4("127.0.0.1", server.port)
    await client.wait_hello_from_server()
    await client.login(server.user, server.password)
    await client.select("INBOX")
    seconds = []
    for number in range(count):
        idle = await client.idle_start(timeout=60)
        arrived_at = time.perf_counter()
        box.append(_MAIL)
        await client.wait_server_push()
        client.idle_done()
        await idle
        await client.uid("fetch", f"{_BEFORE + 1 + number}:*", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
        seconds.append(time.perf_counter() - arrived_at)
    await client.logout()
    return seconds
