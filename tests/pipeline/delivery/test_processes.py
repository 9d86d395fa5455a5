"""S6: CPU-bound handlers run in worker processes, and a process that dies fails one message."""

from __future__ import annotations

import asyncio
import multiprocessing
import operator
import os
import pickle
import re
import threading
import time
import zlib

import psutil
import pytest

import imapipe
from imapipe import search as q
from imapipe.cli.account import PASSWORD_VARIABLE
from imapipe.pipeline.delivery.processes import _serve
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


class _InWorker:
    """Pickles as code, because a worker cannot import a test file."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __call__(self, argument: object) -> object:
        raise AssertionError("only its pickled form is ever called")

    def __reduce__(self) -> tuple[object, ...]:
        return eval, (self.code,)


@pytest.mark.asyncio
async def test_a_worker_has_no_password_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    others = ("IMAPIPE_TARGET_PASSWORD", "IMAPIPE_CLIENT_SECRET")
    for name in (PASSWORD_VARIABLE, *others):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("IMAPIPE_OTHER", "kept")
    handler = imapipe.in_processes(_InWorker("lambda name: dict(__import__('os').environ)"), workers=1)
    try:
        environment = await handler._call("")
    finally:
        handler.close()
    assert isinstance(environment, dict)
    assert environment["IMAPIPE_OTHER"] == "kept"
    assert not environment.keys() & {PASSWORD_VARIABLE, *others}
    # What it starts itself is given that environment, and this process keeps its own.
    assert os.environ[PASSWORD_VARIABLE] == "hunter2"


_THROWS = "type('T', (), {{'__call__': lambda self, _: (_ for _ in ()).throw({error})}})()"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            "__import__('imapipe').NotFetched('body', 'ask for it')",
            imapipe.NotFetched,
            "'body' was not fetched; ask for it",
        ),
        ("__import__('imapipe').SpoolError(28, 'No space left')", imapipe.SpoolError, "No space left"),
        # It takes two arguments and passes one on, so it is pickled and cannot be made again.
        (
            "type('Odd', (ValueError,), {'__init__': lambda self, a, b: ValueError.__init__(self, a + b)})('x', 'y')",
            TypeError,
            "Odd cannot cross to the parent process: xy",
        ),
        ("__import__('json').JSONDecodeError('bad', 'doc', 2)", ValueError, "bad: line 1 column 3"),
        ("__import__('ssl').SSLError(1, 'x')", OSError, "x"),
    ],
)
@pytest.mark.asyncio
async def test_what_a_worker_raises_is_what_the_caller_gets(error: str, kind: type[Exception], words: str) -> None:
    handler = imapipe.in_processes(_InWorker(_THROWS.format(error=error)), workers=1)
    try:
        for _ in range(2):
            with pytest.raises(kind, match=re.escape(words)):
                await handler._call(1)
        # It lives on.
        assert len(handler._idle) == 1
    finally:
        handler.close()


class _Unreadable:
    """What cannot be pickled for want of its file."""

    def __reduce__(self) -> tuple[object, ...]:
        raise imapipe.SpoolError(5, "Input/output error")


@pytest.mark.asyncio
async def test_what_cannot_be_sent_fails_its_call_only() -> None:
    """It is an OSError like that of a pipe whose other end has died, and nobody waits for a process to die."""
    handler = imapipe.in_processes(zlib.crc32, workers=1)
    try:
        with pytest.raises(imapipe.SpoolError):
            await handler._call(_Unreadable())
        assert await handler._call(b"x") == zlib.crc32(b"x")
    finally:
        handler.close()


@pytest.mark.asyncio
async def test_a_result_that_cannot_cross_is_told_in_words() -> None:
    handler = imapipe.in_processes(_InWorker("lambda _: (lambda: 0)"), workers=1)
    try:
        with pytest.raises(TypeError, match="the result cannot cross to the parent process"):
            await handler._call(1)
    finally:
        handler.close()


def test_what_cannot_be_imported_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="top of a module"):
        imapipe.in_processes(lambda message: None)
    with pytest.raises(ValueError, match="1 or more"):
        imapipe.in_processes(zlib.crc32, workers=0)
    with pytest.raises(TypeError, match="plain function"):
        imapipe.in_processes(asyncio.sleep)


class _Unspoken(Exception):
    """Pickles without complaint, and cannot be read back."""

    def __init__(self, text: str, more: str) -> None:
        super().__init__(text)


def _worked(argument: object) -> object:
    match argument:
        case "raise":
            raise KeyError("no such thing")
        case "raise what cannot cross":
            raise _Unspoken("words", "more")
        case "give what cannot cross":
            return threading.Lock()
        case _:
            return argument, PASSWORD_VARIABLE in os.environ


def test_what_a_worker_answers_and_that_it_ends_with_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    ours, theirs = multiprocessing.Pipe()
    worker = threading.Thread(target=_serve, args=(theirs, _worked))
    worker.start()
    answers = []
    for argument in ("hello", "raise", "raise what cannot cross", "give what cannot cross", "again"):
        ours.send_bytes(pickle.dumps(argument))
        assert ours.poll(60)
        answers.append(pickle.loads(ours.recv_bytes()))
    ours.close()
    worker.join(60)
    assert not worker.is_alive()
    theirs.close()
    # The password is gone from the environment of a worker, here from that of the test.
    assert [answers[0], answers[4]] == [(True, ("hello", False)), (True, ("again", False))]
    assert [(returned, type(value)) for returned, value in answers[1:4]] == [
        (False, KeyError), (False, TypeError), (False, TypeError),
    ]  # fmt: skip
    assert [str(value) for _, value in answers[1:3]] == [
        "'no such thing'", "_Unspoken cannot cross to the parent process: words",
    ]  # fmt: skip
    assert str(answers[3][1]).startswith("the result cannot cross to the parent process: ")


def test_an_argument_that_cannot_be_read_fails_its_call_alone() -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.send_bytes(b"no pickle")
    ours.send_bytes(pickle.dumps("hello"))
    worker = threading.Thread(target=_serve, args=(theirs, str.upper))
    worker.start()
    returned, value = pickle.loads(ours.recv_bytes())
    assert (returned, isinstance(value, pickle.UnpicklingError)) == (False, True)
    assert pickle.loads(ours.recv_bytes()) == (True, "HELLO")
    ours.close()
    worker.join(60)
    theirs.close()
