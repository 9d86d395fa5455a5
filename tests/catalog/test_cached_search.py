"""The search cache on the wire: what a search costs that is remembered, and what ends an answer (S10)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from imaplib import IMAP4

import pytest

import imapipe
from dovecot_server import DovecotServer, Mail
from imapipe import search as q
from imapipe.testing import Mailbox, Rewrite, SearchCap, Server, SyntheticMailbox

ROUND_TRIPS = ("EXAMINE", "SELECT", "STATUS", "NOOP", "UID SEARCH", "SEARCH")


def costs(server: Server) -> list[str]:
    """The commands since the last call, logging in left out."""
    names = [name for name in server.commands.names if name in ROUND_TRIPS]
    server.commands.clear()
    return names


def cached_pool(server: Server, **options: object) -> tuple[imapipe.Pool, imapipe.SearchCache]:
    cache = imapipe.SearchCache(**options)  # type: ignore[arg-type]  # whatever the test says
    return imapipe.create_pool(server.url, password=server.password, search_cache=cache), cache


def append(box: Mailbox) -> None:
    box.append(b"Subject: new\r\n\r\nHello.\r\n")


def expunge(box: Mailbox) -> None:
    box.expunge([2])


def expunge_and_append(box: Mailbox) -> None:
    box.expunge([2])
    append(box)


def change_flag(box: Mailbox) -> None:
    box.set_flags(2, ["\\Seen"])


def renumber(box: Mailbox) -> None:
    box.change_uidvalidity()


@pytest.mark.asyncio
@pytest.mark.parametrize("criteria", [q.ALL, q.UNSEEN, q.since(days=10_000) & q.larger(10), q.modseq(1)])
@pytest.mark.parametrize("profile", ["modern", "dovecot"])
async def test_s10_what_is_remembered_costs_one_examine(criteria: imapipe.SearchKey, profile: str) -> None:
    async with Server(SyntheticMailbox(100), extensions=profile) as server:
        pool, cache = cached_pool(server)
        async with pool:
            mailbox = pool.mailbox("INBOX")
            found = await mailbox.search(criteria).uids()
            assert costs(server) == ["EXAMINE", "UID SEARCH"]
            for times in range(1, 4):
                again = await mailbox.search(criteria).uids()
                assert costs(server) == ["EXAMINE"]
                assert (again.uids, again.uidvalidity) == (found.uids, found.uidvalidity)
                assert cache.stats.hits == times


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("criteria", "change"),
    [
        (q.ALL, append),
        (q.ALL, expunge),
        (q.ALL, expunge_and_append),
        (q.ALL, renumber),
        (q.UNSEEN, append),
        (q.UNSEEN, expunge),
        (q.UNSEEN, expunge_and_append),
        (q.UNSEEN, change_flag),
        (q.UNSEEN, renumber),
        (q.modseq(1), change_flag),
    ],
)
async def test_s10_each_change_ends_an_answer(criteria: imapipe.SearchKey, change: Callable[[Mailbox], None]) -> None:
    async with Server(SyntheticMailbox(100)) as server:
        pool, cache = cached_pool(server)
        async with pool, imapipe.create_pool(server.url, password=server.password) as plain:
            mailbox = pool.mailbox("INBOX")
            await mailbox.search(criteria).uids()
            change(server.mailboxes["INBOX"])
            server.commands.clear()
            found = await mailbox.search(criteria).uids()
            assert costs(server) == ["EXAMINE", "UID SEARCH"]
            assert cache.stats.outdated == 1
            assert found.uids == (await plain.mailbox("INBOX").search(criteria).uids()).uids
            server.commands.clear()
            await mailbox.search(criteria).uids()
            assert costs(server) == ["EXAMINE"]


@pytest.mark.asyncio
async def test_a_change_of_flags_costs_other_searches_nothing() -> None:
    async with Server(SyntheticMailbox(100)) as server:
        pool, _ = cached_pool(server)
        async with pool:
            await pool.mailbox("INBOX").search(q.from_("ann")).uids()
            change_flag(server.mailboxes["INBOX"])
            server.commands.clear()
            await pool.mailbox("INBOX").search(q.from_("ann")).uids()
            assert costs(server) == ["EXAMINE"]


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", ["plain", "exchange"])
async def test_s10_without_condstore_flags_are_searched_for_each_time(profile: str) -> None:
    async with Server(SyntheticMailbox(100), extensions=profile) as server:
        pool, cache = cached_pool(server)
        async with pool:
            for criteria, second in ((q.UNSEEN, ["EXAMINE", "UID SEARCH"]), (q.larger(10), ["EXAMINE"])):
                await pool.mailbox("INBOX").search(criteria).uids()
                costs(server)
                await pool.mailbox("INBOX").search(criteria).uids()
                assert costs(server) == second
            assert len(cache) == 1
            expunge_and_append(server.mailboxes["INBOX"])
            server.commands.clear()
            assert 101 in (await pool.mailbox("INBOX").search(q.larger(10)).uids())
            assert costs(server) == ["EXAMINE", "UID SEARCH"]


@pytest.mark.asyncio
async def test_age_ends_an_answer() -> None:
    clock = iter((0.0, 59.0, 60.0, 60.0, 61.0))
    async with Server(SyntheticMailbox(100)) as server:
        pool, cache = cached_pool(server, ttl_seconds=60, clock=lambda: next(clock))
        async with pool:
            # The clock is read when an answer is kept, and when there is one to recall.
            for cost in (2, 1, 2, 1):
                await pool.mailbox("INBOX").search().uids()
                assert len(costs(server)) == cost
        assert cache.stats.expired == 1


@pytest.mark.asyncio
async def test_runs_and_plans_are_answered_too() -> None:
    async with Server(SyntheticMailbox(100)) as server:
        pool, _ = cached_pool(server)
        async with pool:
            job = pool.mailbox("INBOX").search(q.UNSEEN).fetch("flags")
            assert len([message async for message in job]) == 30
            costs(server)
            assert len([message.uid async for message in job.newest_first().limit(5)]) == 5
            assert (await job.plan()).messages == 30
            assert costs(server) == ["EXAMINE", "EXAMINE"]


@pytest.mark.asyncio
async def test_two_accounts_and_two_mailboxes_do_not_mix() -> None:
    async with Server({"INBOX": 10, "Other": 20}) as server, Server(30) as second:
        cache = imapipe.SearchCache()
        async with (
            imapipe.create_pool(server.url, password=server.password, search_cache=cache) as pool,
            imapipe.create_pool(second.url, password=second.password, search_cache=cache) as other,
        ):
            for _ in range(2):
                assert len(await pool.mailbox("INBOX").search().uids()) == 10
                assert len(await pool.mailbox("Other").search().uids()) == 20
                assert len(await other.mailbox("INBOX").search().uids()) == 30
        assert (cache.stats.hits, cache.stats.misses, len(cache)) == (3, 3, 3)


@pytest.mark.asyncio
async def test_another_connection_without_mod_sequences_does_no_harm() -> None:
    async with Server(SyntheticMailbox(100)) as server:
        pool, _ = cached_pool(server)
        async with pool:
            async with pool.acquire() as connection:
                await connection.select("INBOX")
            await pool.mailbox("INBOX").search(q.UNSEEN).uids()
            change_flag(server.mailboxes["INBOX"])
            found = await pool.mailbox("INBOX").search(q.UNSEEN).uids()
            assert 2 not in found


@pytest.mark.asyncio
async def test_an_answer_that_is_short_is_not_kept() -> None:
    async with Server(SyntheticMailbox(100), faults=[SearchCap(90)]) as server:
        pool, cache = cached_pool(server)
        async with pool:
            assert (await pool.mailbox("INBOX").search(q.ALL).uids()).unaccounted == 10
            assert len(cache) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 60, 2**31 - 1, 2**32 - 1])
async def test_a_made_up_uidnext_proves_nothing(number: int) -> None:
    """A message goes and another one comes: UIDNEXT and EXISTS stay as they are."""
    odd = Rewrite(lambda line: re.sub(rb"UIDNEXT \d+", b"UIDNEXT %d" % number, line), command="EXAMINE")
    async with Server(SyntheticMailbox(100), faults=[odd]) as server:
        server.mailboxes["INBOX"].expunge(range(1, 51))
        pool, cache = cached_pool(server)
        async with pool:
            for _ in range(3):
                box = server.mailboxes["INBOX"]
                box.expunge(box.uids[:1])
                append(box)
                found = await pool.mailbox("INBOX").search(q.ALL).uids()
                assert list(found) == list(box.uids)
            assert len(cache) == 0


@pytest.mark.asyncio
async def test_another_mailbox_of_the_same_numbers_is_asked() -> None:
    async with Server(SyntheticMailbox(100)) as server:
        pool, cache = cached_pool(server)
        async with pool:
            await pool.mailbox("INBOX").search(q.ALL).uids()
            server.mailboxes["INBOX"].mailbox_id = "F-another"
            server.commands.clear()
            await pool.mailbox("INBOX").search(q.ALL).uids()
            assert costs(server) == ["EXAMINE", "UID SEARCH"]
            assert cache.stats.outdated == 1


@pytest.mark.asyncio
async def test_a_view_that_is_capped_proves_nothing() -> None:
    async with Server(SyntheticMailbox(100), extensions="yahoo", visible_limit=50) as server:
        cache = imapipe.SearchCache()
        async with imapipe.create_pool(server.url, password=server.password, uidonly=False, search_cache=cache) as pool:
            assert (await pool.mailbox("INBOX").search(q.larger(1)).uids()).uids.min == 51
            # The server shows another one instead: UIDNEXT and EXISTS stay as they are.
            server.mailboxes["INBOX"].expunge([60])
            found = await pool.mailbox("INBOX").search(q.larger(1)).uids()
            assert (found.uids.min, len(found)) == (50, 50)


@pytest.mark.asyncio
async def test_relative_dates_count_from_the_day_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Tomorrow:
            return super().now(tz) + datetime.timedelta(days=1)

    async with Server(SyntheticMailbox(100)) as server:
        pool, _ = cached_pool(server)
        async with pool:
            await pool.mailbox("INBOX").search(q.since(days=3)).uids()
            await pool.mailbox("INBOX").search(q.since(datetime.date(2024, 1, 1))).uids()
            costs(server)
            monkeypatch.setattr("imapipe.pipeline.run.datetime", Tomorrow)
            await pool.mailbox("INBOX").search(q.since(days=3)).uids()
            assert costs(server) == ["EXAMINE", "UID SEARCH"]
            await pool.mailbox("INBOX").search(q.since(datetime.date(2024, 1, 1))).uids()
            assert costs(server) == ["EXAMINE"]


# -- a real server ---------------------------------------------------------------------------------


class CountingPool:
    """A pool on Dovecot, and what its searches cost."""

    def __init__(self, pool: imapipe.Pool, cache: imapipe.SearchCache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pool = pool
        self.cache = cache
        self._sent: list[str] = []
        execute = imapipe.Connection.execute

        async def counted(connection: imapipe.Connection, command: object) -> object:
            self._sent.append(getattr(command, "name", ""))
            return await execute(connection, command)  # type: ignore[arg-type]  # passed on as it is

        monkeypatch.setattr(imapipe.Connection, "execute", counted)

    async def search(self, criteria: imapipe.SearchKey) -> tuple[list[int], list[str]]:
        self._sent.clear()
        found = await self.pool.mailbox("INBOX").search(criteria).uids()
        return list(found), [name for name in self._sent if name in ROUND_TRIPS]


@contextmanager
def selected(dovecot: DovecotServer, user: str) -> Iterator[IMAP4]:
    with dovecot.login(user) as client:
        client.select("INBOX")
        yield client


@pytest.mark.asyncio
async def test_s10_on_dovecot(dovecot: DovecotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", [Mail(b"Subject: a\r\n\r\nx\r\n", flags=("\\Seen",) * (n % 2)) for n in range(10)])
    cache = imapipe.SearchCache()
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password, search_cache=cache) as pool:
        counting = CountingPool(pool, cache, monkeypatch)
        both, once = ["EXAMINE", "UID SEARCH"], ["EXAMINE"]
        even = [1, 3, 5, 7, 9]
        assert await counting.search(q.UNSEEN) == (even, both)
        assert await counting.search(q.UNSEEN) == (even, once)
        assert await counting.search(q.subject("a")) == (list(range(1, 11)), both)
        assert await counting.search(q.subject("a")) == (list(range(1, 11)), once)
        with selected(dovecot, user) as client:
            client.uid("STORE", "1", "+FLAGS", "(\\Seen)")
            assert await counting.search(q.UNSEEN) == (even[1:], both)
            assert await counting.search(q.UNSEEN) == (even[1:], once)
            assert await counting.search(q.subject("a")) == (list(range(1, 11)), once)
            # There and back again: the flags are what they were, but something happened.
            client.uid("STORE", "3", "+FLAGS", "(\\Seen)")
            client.uid("STORE", "3", "-FLAGS", "(\\Seen)")
            assert await counting.search(q.UNSEEN) == (even[1:], both)

            client.append("INBOX", "", "", b"Subject: b\r\n\r\ny\r\n")
            assert await counting.search(q.UNSEEN) == ([*even[1:], 11], both)
            assert await counting.search(q.subject("a")) == (list(range(1, 11)), both)

            client.uid("STORE", "5", "+FLAGS", "(\\Deleted)")
            client.expunge()
            assert await counting.search(q.UNSEEN) == ([3, 7, 9, 11], both)
            assert await counting.search(q.subject("a")) == ([1, 2, 3, 4, 6, 7, 8, 9, 10], both)
        assert await counting.search(q.UNSEEN) == ([3, 7, 9, 11], once)
        assert await counting.search(q.subject("a")) == ([1, 2, 3, 4, 6, 7, 8, 9, 10], once)
