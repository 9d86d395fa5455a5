"""A command always ends, whatever is raised while its answer is routed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import imapipe
from imapipe import search as q
from imapipe.errors import ConnectionLost
from imapipe.models.message import Message, MessageContext
from imapipe.net.command import Command, FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.session import Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Response, Tagged
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import AnsweringServer, FakeTransport

SIZES = [b"abc", b"-1", b"", b"9" * 5000, b"9" * 30, b"(1)", b"NIL", b'"5"', b"{1}\r\nx"]


@contextmanager
def told() -> Iterator[list[BaseException]]:
    """What is told to the event loop."""
    heard: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    yield heard


def plane_of(session: Session) -> tuple[Dataplane, FakeTransport]:
    plane = Dataplane(session)
    transport = FakeTransport(plane)
    transport.feed(b"* OK ready\r\n")
    return plane, transport


# -- one size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.asyncio
async def test_a_size_that_is_none_costs_one_message_its_place_in_a_batch(size: bytes) -> None:
    """Asked ahead of batches that are bounded in bytes, all in the packet of the tagged reply."""

    def answer(command: bytes) -> bytes | None:
        if command.startswith(b"UID FETCH"):
            value = b"FLAGS ()" if b"FLAGS" in command else b"RFC822.SIZE 600"
            first = value if b"FLAGS" in command else b"RFC822.SIZE " + size
            rest = b"".join(b"* %d FETCH (UID %d %b)\r\n" % (uid, uid, value) for uid in (2, 3))
            return b"* 1 FETCH (UID 1 " + first + b")\r\n" + rest + b"TAG OK done\r\n"
        return None

    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    async with AnsweringServer(answer) as server, imapipe.create_pool(server.url, password="secret") as pool:
        job = pool.mailbox("INBOX").search(q.ALL).batch(imapipe.FixedBatch(10, max_bytes=1000)).fetch("flags")
        report = await job.run(handle)
        assert pool.stats.opened == 1
    assert report.complete
    assert sorted(set(handled)) == [1, 2, 3]
    asked = [command for command in server.commands if b"FLAGS" in command]
    assert len(asked) in (2, 3)


# -- whoever listens ---------------------------------------------------------------------------------------------------


class Raising(Session):
    """An owner that raises at a reply, an untagged response, or the end of the connection."""

    def __init__(self, at: str, error: BaseException) -> None:
        super().__init__(logged_in=True)
        self.at = at
        self.raised = error

    def completed(self, command: Command, tagged: Tagged) -> None:
        if self.at == "completed":
            raise self.raised
        super().completed(command, tagged)

    def heard(self, text: bytes, literals: tuple[Literal, ...], response: Response | None = None) -> None:
        if self.at == "heard" and text.startswith(b"* 7"):
            raise self.raised
        super().heard(text, literals, response)


@pytest.mark.parametrize("at", ["completed", "heard"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), asyncio.CancelledError("x")])
@pytest.mark.asyncio
async def test_what_is_raised_at_an_answer_is_the_end_of_all_commands(at: str, error: BaseException) -> None:
    with told() as heard:
        plane, transport = plane_of(Raising(at, error))
        commands = [Command("NOOP", [b"NOOP\r\n"]) for _ in range(2)]
        for command in commands:
            plane.submit(command)
        transport.feed(b"* 7 EXISTS\r\nP1 OK done\r\n")
        for command in commands:
            with pytest.raises(ConnectionLost, match=type(error).__name__):
                await command.finished
        assert heard == [error]


@pytest.mark.asyncio
async def test_a_command_that_cannot_take_its_reply_fails() -> None:
    class Unwilling(Command):
        def complete(self, tagged: Tagged) -> None:
            raise ZeroDivisionError

    with told() as heard:
        plane, transport = plane_of(Session(logged_in=True))
        command = Unwilling("NOOP", [b"NOOP\r\n"])
        plane.submit(command)
        transport.feed(b"P1 OK done\r\n")
        with pytest.raises(ConnectionLost, match="ZeroDivisionError"):
            await command.finished
        assert [type(error) for error in heard] == [ZeroDivisionError]


@pytest.mark.asyncio
async def test_the_end_of_the_process_leaves_nobody_waiting() -> None:
    plane, transport = plane_of(Raising("completed", KeyboardInterrupt()))
    commands = [Command("NOOP", [b"NOOP\r\n"]) for _ in range(2)]
    for command in commands:
        plane.submit(command)
    with pytest.raises(KeyboardInterrupt):
        transport.feed(b"P1 OK done\r\n")
    for command in commands:
        with pytest.raises(ConnectionLost):
            await command.finished


@pytest.mark.asyncio
async def test_each_listener_hears_of_the_end() -> None:
    with told() as heard:
        session = Session(logged_in=True)
        plane, transport = plane_of(session)
        ends: list[BaseException] = []

        def fail(_: BaseException) -> None:
            raise ZeroDivisionError

        session.lost_listeners += [fail, ends.append]
        command = Command("NOOP", [b"NOOP\r\n"])
        plane.submit(command)
        transport.close()
        with pytest.raises(ConnectionLost):
            await command.finished
        assert len(ends) == 1
        assert [type(error) for error in heard] == [ZeroDivisionError]


@pytest.mark.asyncio
async def test_one_who_cannot_take_his_messages_takes_nothing_from_others() -> None:
    """Several FETCHes end with the connection; each gives what is whole to whom it belongs."""
    with told() as heard:
        plane, transport = plane_of(Session(logged_in=True))
        found: list[Message] = []

        def fail(_: list[Message]) -> None:
            raise ZeroDivisionError

        def fetch(uids: str, deliver: object) -> FetchCommand:
            wanted = Fetch("full")
            command = FetchCommand(
                [b"UID FETCH\r\n"],
                UidSet.parse(uids),
                MessageContext("INBOX", 1, wanted),
                compile_shape(("UID", *wanted.names)),
                deliver,  # type: ignore[arg-type]
            )
            plane.submit(command)
            return command

        first, second = fetch("1", fail), fetch("2", found.extend)
        answers = b"".join(
            b'* 1 FETCH (UID %d FLAGS () INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 1 BODY[] {1}\r\nx)\r\n'
            % uid
            for uid in (1, 2)
        )
        transport.feed(answers)
        for command in (first, second):
            with pytest.raises(ConnectionLost, match="ZeroDivisionError"):
                await command.finished
        assert [message.uid for message in found] == [2]
        assert [type(error) for error in heard] == [ZeroDivisionError]
        plane.release(found[0])
        assert plane.holdings.is_empty


@pytest.mark.asyncio
async def test_a_listener_to_events_that_raises_costs_nobody_anything() -> None:
    with told() as heard:

        def answer(command: bytes) -> bytes | None:
            if command.startswith(b"UID FETCH"):
                answers = b"".join(b"* %d FETCH (UID %d FLAGS ())\r\n" % (uid, uid) for uid in (1, 2, 3))
                return answers + b"TAG OK [THROTTLED] slower, please\r\n"
            return None

        async def handle(message: imapipe.Message) -> None:
            pass

        async with AnsweringServer(answer) as server, imapipe.create_pool(server.url, password="secret") as pool:

            def fail(_: object) -> None:
                raise ZeroDivisionError

            pool.events.subscribe(fail)
            job = (
                pool.mailbox("INBOX")
                .search(q.ALL)
                .fetch("flags")
                .use(imapipe.Retry(wait_initial_seconds=0, wait_max_seconds=0))
            )
            report = await job.run(handle)
        assert report.complete
        assert {type(error) for error in heard} == {ZeroDivisionError}
