"""What a job on many mailboxes keeps to: connections, sinks that cannot be divided."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from tests.account.test_each import NAMES

import imapipe
from imapipe import search as q
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages


def _server(messages: int = 12) -> Server:
    return Server({name: Mailbox(make_messages(messages, seed=3)) for name in ("INBOX", *NAMES)})


@pytest.mark.asyncio
@pytest.mark.parametrize(("connections", "mailboxes"), [(1, 7), (2, 7), (3, 2), (3, 1)])
async def test_connections_are_counted_over_all_mailboxes(connections: int, mailboxes: int) -> None:
    async with _server() as server, imapipe.create_pool(server.url, password=server.password, max_size=6) as pool:
        names = ("INBOX", *NAMES)[:mailboxes]
        job = pool.each(*names).search(q.ALL).batch(1).fetch("flags")

        async def handle(message: imapipe.Message) -> None:
            await asyncio.sleep(0.001)

        report = await job.run(handle, connections=connections)
        assert report.complete
        assert report.done == 12 * mailboxes
        # None was closed, so this is how many there were at a time.
        assert pool.stats.opened <= connections
    assert len(report.reports) == mailboxes


@pytest.mark.asyncio
@pytest.mark.parametrize("connections", [-1, 0, 7, True])
async def test_a_number_of_connections_that_cannot_be(connections: int) -> None:
    async with _server() as server, imapipe.create_pool(server.url, password=server.password, max_size=6) as pool:
        with pytest.raises((ValueError, TypeError), match="connections"):
            await pool.each().search(q.ALL).run(_nothing, connections=connections)


async def _nothing(message: imapipe.Message) -> None:
    pass


class _Whole:
    """A sink of which INBOX has one of its own, and the others have none."""

    def __init__(self) -> None:
        self.at_work = 0
        self.written = 0

    def __len__(self) -> int:
        """Nothing at first: it is not to be taken for no sink."""
        return self.written

    def for_mailbox(self, name: str, delimiter: str | None) -> _Whole | None:
        return _Whole() if name == "INBOX" else None

    async def open(self, run: object) -> None:
        self.at_work += 1
        assert self.at_work == 1

    async def write(self, messages: Sequence[imapipe.Message]) -> Mapping[int, Exception]:
        self.written += len(messages)
        await asyncio.sleep(0.001)
        return {}

    async def commit(self) -> None:
        pass

    async def close(self) -> None:
        self.at_work -= 1


@pytest.mark.asyncio
async def test_a_sink_that_cannot_be_divided_for_each_mailbox_serves_one_after_the_other() -> None:
    sink = _Whole()
    async with _server() as server, imapipe.create_pool(server.url, password=server.password) as pool:
        report = await pool.each().search(q.ALL).fetch("flags").run(sink)
    assert report.complete
    assert sink.written == 6 * 12
