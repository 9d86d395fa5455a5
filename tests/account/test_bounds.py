"""What a job on many mailboxes keeps to: connections, sinks that cannot be divided."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from tests.account.test_each import NAMES

import imapipe
from imapipe import search as q
from imapipe.account import report as account_report
from imapipe.models.report import RunReport
from imapipe.testing import Mailbox, Reply, Server
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
async def test_of_many_errors_the_first_ones_hold_what_was_in_hand() -> None:
    """A trace holds its functions, and they what they worked on: 35 KB for each mailbox that a server refuses."""
    names = [f"m{number}" for number in range(30)]
    refused = Reply("NO", "no", "NOPERM", command="EXAMINE", times=1000)
    server = Server({name: Mailbox(make_messages(1)) for name in ("INBOX", *names)}, faults=[refused])
    traced: list[bool] = []

    def told(name: str, result: RunReport | Exception) -> None:
        assert isinstance(result, Exception)
        traced.append(result.__traceback__ is not None)

    async with server, imapipe.create_pool(server.url, password=server.password) as pool:
        report = await pool.each(*names).search(q.ALL).fetch("flags").run(_nothing, on_mailbox=told)
    errors = list(report.errors.values())
    assert len(errors) == 30
    assert all(isinstance(error, imapipe.CommandNo) for error in errors)
    # Whoever is told of each has it whole.
    assert traced == [True] * 30
    assert [error.__traceback__ is not None for error in errors] == [True] * 20 + [False] * 10


@pytest.mark.asyncio
@pytest.mark.parametrize("failing", [0, 1])
async def test_failures_of_all_mailboxes_share_the_room_for_details(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    monkeypatch.setattr(account_report, "MAX_FAILURE_DETAILS", 30)
    async with _server() as server, imapipe.create_pool(server.url, password=server.password) as pool:

        async def fail(message: imapipe.Message) -> None:
            if failing:
                raise OSError("no")

        report = await pool.each("*").search(q.ALL).fetch("flags").run(fail)
    assert report.failed == failing * 7 * 12
    assert sum(len(each.failures) for each in report.reports.values()) == failing * 30
    assert sum(len(each.failed_uids) for each in report.reports.values()) == failing * 7 * 12


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
