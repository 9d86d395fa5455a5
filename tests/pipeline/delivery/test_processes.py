"""S6: CPU-bound handlers run in worker processes, and a process that dies fails one message."""

from __future__ import annotations

import asyncio
import operator
import pickle
import time
import zlib

import psutil
import pytest

import imapipe
from imapipe import search as q
from imapipe.testing import Server


class _ExitOnFive:
    """Ends its process for UID 5. Pickles as code, because a worker cannot import a test file."""

    def __call__(self, uid: int) -> int:
        raise AssertionError("only its pickled form is ever called")

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("lambda uid: __import__('os')._exit(3) if uid == 5 else uid",)


def _children() -> set[int]:
    """The workers among our child processes (multiprocessing keeps a tracker of its own besides)."""
    return {
        child.pid for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())
    }


@pytest.mark.asyncio
async def test_s6_results_come_back_from_worker_processes() -> None:
    sums: dict[int, object] = {}
    bodies: dict[int, bytes] = {}

    async def then(message: imapipe.Message, result: object) -> None:
        sums[message.uid] = result
        bodies[message.uid] = message.body

    handler = imapipe.in_processes(zlib.crc32, workers=2, send=operator.attrgetter("body"), then=then)
    async with Server(messages=20, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").run(handler, concurrency=4)
    assert report.complete
    assert sums == {uid: zlib.crc32(body) for uid, body in bodies.items()}
    assert len(sums) == 20


@pytest.mark.asyncio
async def test_s6_a_crash_of_a_worker_fails_its_message_only() -> None:
    """`os._exit` ends the process without a word, as a crash in C code does."""
    handler = imapipe.in_processes(_ExitOnFive(), workers=2, send=operator.attrgetter("uid"))
    async with Server(messages=20, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("uid").run(handler, concurrency=4)
    assert (report.done, report.failed) == (19, 1)
    assert not _children()
    assert report.failures[5].reason == "WorkerDied"


@pytest.mark.asyncio
async def test_s6_cancelling_the_run_ends_the_workers() -> None:
    """Also those that are still starting."""
    before = _children()
    handler = imapipe.in_processes(time.sleep, workers=2, send=lambda message: 3600)
    async with Server(messages=4, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        job = asyncio.create_task(pool.mailbox("INBOX").search(q.ALL).fetch("uid").run(handler, concurrency=2))
        while len(_children() - before) < 2:  # noqa: ASYNC110 - processes raise no event
            await asyncio.sleep(0.01)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert not _children() - before


@pytest.mark.asyncio
async def test_a_message_crosses_with_what_was_fetched() -> None:
    async with Server(messages=3, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        async for message in pool.mailbox("INBOX").search(q.ALL).fetch("full", "envelope"):
            copy = pickle.loads(pickle.dumps(message))
            assert (copy.uid, copy.body, copy.subject, copy.flags) == (
                message.uid,
                message.body,
                message.subject,
                message.flags,
            )
            with pytest.raises(imapipe.NotFetched):
                _ = copy.structure


def test_what_cannot_be_imported_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="top of a module"):
        imapipe.in_processes(lambda message: None)
    with pytest.raises(ValueError, match="1 or more"):
        imapipe.in_processes(zlib.crc32, workers=0)
    with pytest.raises(TypeError, match="plain function"):
        imapipe.in_processes(asyncio.sleep)
