"""IDLE and NOTIFY as they are on the wire, against Dovecot and the testing server."""

from __future__ import annotations

import asyncio
import imaplib
from collections.abc import Callable

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe.errors import CommandNo, CommandTimeout, ProtocolError
from imapipe.models.news import News
from imapipe.testing import Mailbox, Reply, Server, Stall

_MAIL = b"Subject: new\r\n\r\nnew\r\n"


class Ears:
    """Hears, and lets a test wait for what it wants to hear."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.renewals = 0
        self.until = asyncio.Event()
        self._came = asyncio.Event()

    def hear(self, news: News) -> None:
        self.news.append(news)
        self._came.set()

    def renewed(self) -> None:
        self.renewals += 1
        self._came.set()

    async def wait_for(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not wanted():
                self._came.clear()
                await self._came.wait()

    def uidnext_of(self, name: str) -> int | None:
        told = [news.status.uidnext for news in self.news if news.status is not None and news.status.name == name]
        return told[-1] if told else None


def _watch(
    connection: imapipe.Connection,
    ears: Ears,
    *,
    notify: list[str] | None = None,
    renew: float = 60.0,
    answer: float = 9,
) -> asyncio.Task[None]:
    return asyncio.create_task(
        connection.watch(
            ears.hear, ears.until, renew_seconds=renew, answer_seconds=answer, renewed=ears.renewed, notify=notify
        )
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("notify", [None, ["INBOX"]])
async def test_nothing_is_lost_between_two_idles(notify: list[str] | None) -> None:
    """Each IDLE is as short as can be, and mail comes at all its moments; with NOTIFY it is told between two."""
    async with Server({"INBOX": 1}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        async with pool.acquire(None if notify else "INBOX") as connection:
            ears = Ears()
            watching = _watch(connection, ears, renew=0.0001, notify=notify)
            for number in range(2, 102):
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                server.mailboxes["INBOX"].append(_MAIL)
                await ears.wait_for(
                    lambda number=number: News(exists=number) in ears.news or ears.uidnext_of("INBOX") == number + 1  # type: ignore[misc]
                )
            assert ears.renewals > 3
            ears.until.set()
            await watching
            await connection.noop()
        # Without NOTIFY it can be used for anything afterwards.
        assert pool.stats.idle == (0 if notify else 1)


@pytest.mark.asyncio
async def test_notify_tells_of_other_mailboxes_and_names() -> None:
    async with (
        Server({"INBOX": 1, "a": 2, "b": 0}) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        async with pool.acquire() as connection:
            ears = Ears()
            watching = _watch(connection, ears, notify=[])
            await ears.wait_for(lambda: ears.renewals == 1)
            assert (ears.uidnext_of("INBOX"), ears.uidnext_of("a"), ears.uidnext_of("b")) == (2, 3, 1)
            server.mailboxes["b"].append(_MAIL)
            await ears.wait_for(lambda: ears.uidnext_of("b") == 2)
            server.mailboxes.add("c", Mailbox())
            await ears.wait_for(lambda: News(has_new_names=True) in ears.news)
            ears.until.set()
            await watching
        # Nobody gets a connection on which a server tells of other mailboxes.
        assert pool.stats.idle == 0
        assert [record.arguments for record in server.commands.named("NOTIFY")] == [
            "SET STATUS (personal (MessageNew MessageExpunge MailboxName))"
        ]


@pytest.mark.asyncio
async def test_a_server_that_is_silent_at_the_end_of_idle_is_dead() -> None:
    stalled = [Stall(command="IDLE")]
    async with (
        Server({"INBOX": 1}, faults=stalled) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
        pool.acquire("INBOX") as connection,
    ):
        with pytest.raises(CommandTimeout, match="IDLE"):
            await _watch(connection, Ears(), renew=0.01, answer=0.1)
        assert not connection.is_open


@pytest.mark.asyncio
async def test_refusals_and_an_idle_that_ends_by_itself() -> None:
    faults = [Reply("NO", "not here", command="IDLE", times=1), Reply("OK", "enough", command="IDLE", times=1)]
    async with Server({"INBOX": 1}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        for fault, error in zip(faults, (CommandNo, ProtocolError), strict=True):
            server.faults.add(fault)
            async with pool.acquire("INBOX") as connection:
                with pytest.raises(error):
                    await _watch(connection, Ears())


@pytest.mark.asyncio
async def test_dovecot_by_idle_and_by_notify(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    with imaplib.IMAP4("127.0.0.1", dovecot.port) as other:
        other.login(user, dovecot.password)
        other.create("&ANw-nter")
        url = f"imap://{user}@127.0.0.1:{dovecot.port}"
        async with (
            imapipe.create_pool(url, password=dovecot.password) as pool,
            pool.acquire("INBOX") as idling,
            pool.acquire() as notified,
        ):
            by_idle, by_notify = Ears(), Ears()
            tasks = [_watch(idling, by_idle), _watch(notified, by_notify, notify=[])]
            await by_notify.wait_for(lambda: by_notify.uidnext_of("Ünter") == 1)
            other.append("INBOX", "", "", _MAIL)
            other.append("&ANw-nter", "", "", _MAIL)
            await by_idle.wait_for(lambda: News(exists=1) in by_idle.news)
            await by_notify.wait_for(lambda: (by_notify.uidnext_of("INBOX"), by_notify.uidnext_of("Ünter")) == (2, 2))
            for ears in (by_idle, by_notify):
                ears.until.set()
            await asyncio.gather(*tasks)
