"""One budget of bytes for several processes, in a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.limits.test_byte_budget import batch_of, bring, sent, spend
from tests.middleware.fakes import FakeRun

from imapipe.cluster import Limits
from imapipe.cluster.day_bytes import DayBytes
from imapipe.database import Database
from imapipe.errors import DatabaseError
from imapipe.limits.byte_budget import SharedByteBudget
from imapipe.middleware.base import Layer
from imapipe.models.batch import Batch, BatchResult

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def budgets(dsn: str, count: int, bytes_per_day: int = 10_000) -> AsyncIterator[list[SharedByteBudget]]:
    """Budgets of so many processes, as the database sees them."""
    several = [Limits(dsn) for _ in range(count)]
    try:
        for limits in several:
            await limits.open()
        given = [limits.budget(bytes_per_day, on_exhausted="stop") for limits in several]
        yield [budget for budget in given if isinstance(budget, SharedByteBudget)]
    finally:
        for limits in several:
            await limits.close()


class Held:
    """A batch that is under way until it is let go."""

    def __init__(self, layer: Layer, run: FakeRun) -> None:
        self.has_begun, self.go = asyncio.Event(), asyncio.Event()
        self.run = run
        self.task = asyncio.create_task(layer(batch_of(10), self._call))

    async def _call(self, batch: Batch) -> BatchResult:
        self.has_begun.set()
        await self.go.wait()
        return await bring(self.run, 100)(batch)


async def test_processes_together_receive_what_one_may(dsn: str) -> None:
    async with budgets(dsn, 3) as several:
        results = await asyncio.gather(*(spend(budget, FakeRun(), 8) for budget in several))
        assert sum(sent(result) for result in results) == 10
    async with budgets(dsn, 1) as (again,):
        assert sent(await spend(again, FakeRun(), 1)) == 0
        assert again.used_bytes == 10_000
        bob = FakeRun()
        bob.account = "bob"
        assert sent(await spend(again, bob, 1)) == 1


async def test_what_others_have_under_way_counts_and_is_waited_for(dsn: str) -> None:
    async with budgets(dsn, 2, 3_000) as (one, other):
        first, second = FakeRun(), FakeRun()
        mine, theirs = await first.start(one), await second.start(other)
        assert (await mine(batch_of(10), bring(first, 100))).done
        held = Held(mine, first)
        await held.has_begun.wait()
        assert (await theirs(batch_of(10), bring(second, 100))).done
        waiting = asyncio.create_task(theirs(batch_of(10), bring(second, 100)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        held.go.set()
        assert not (await waiting).done
        await held.task
        await mine.stop()
        await theirs.stop()
        assert first.bytes_received + second.bytes_received == 3_000


async def test_what_a_dead_process_had_under_way_counts_as_received(dsn: str) -> None:
    async with budgets(dsn, 2, 3_000) as (one, other):
        first = FakeRun()
        mine = await first.start(one)
        assert (await mine(batch_of(10), bring(first, 100))).done
        held = Held(mine, first)
        await held.has_begun.wait()
        token = one._place.of(first.account).token
        with Database(dsn).connect() as connection, connection.transaction():
            # It is one that is not there any more.
            (content,) = connection.query("SELECT content FROM imapipe_bytes")[0]
            dead = bytes(content).replace(token.encode(), b"0" * 16)
            connection.execute("UPDATE imapipe_bytes SET content = :content", {"content": dead})
        assert sent(await spend(other, FakeRun(), 5)) == 1
        assert other.used_bytes == 3_000
        held.go.set()
        await held.task
        await mine.stop()


@pytest.mark.parametrize("is_changed", [False, True])
async def test_a_connection_that_is_lost_while_the_row_is_held_loses_no_bytes(dsn: str, is_changed: bool) -> None:
    async with budgets(dsn, 2) as (one, other):
        assert sent(await spend(one, FakeRun(), 2)) == 2
        place = one._place
        assert isinstance(place, DayBytes)
        account = place.of(FakeRun().account)
        account.pending.add(one._terms.clock(), 3_000)
        async with account.hold(one._terms.clock()) as row:
            row.under_way[account.token] = 1, 500
            place._drop()
            if is_changed:
                with Database(dsn).connect() as connection, connection.transaction():
                    (content,) = connection.query("SELECT content FROM imapipe_bytes")[0]
                    connection.execute(
                        "UPDATE imapipe_bytes SET content = :content",
                        {"content": bytes(content).replace(b"2000", b"2001")},
                    )
        async with other._place.of(FakeRun().account).hold(one._terms.clock()) as row:
            assert row.usage.used(one._terms.clock()) == 5_000 + is_changed
            assert row.under_way == {account.token: (1, 500)}
        assert account.pending.used(one._terms.clock()) == 0


async def test_a_block_that_raises_changes_nothing(dsn: str) -> None:
    async with budgets(dsn, 1) as (one,):
        account = one._place.of("ann")
        now = one._terms.clock()
        account.pending.add(now, 3_000)
        holding = account.hold(now)
        (await holding.__aenter__()).usage.add(now, 1)
        assert await holding.__aexit__(ZeroDivisionError, ZeroDivisionError(), None) is False
        assert account.pending.used(now) == 3_000
        async with account.hold(now) as row:
            assert row.usage.used(now) == 3_000


async def test_a_database_that_is_away_for_a_moment_is_waited_for_and_what_does_not_pass_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with budgets(str(tmp_path / "bytes.db"), 1) as (one,):
        place, now = one._place, one._terms.clock()
        assert isinstance(place, DayBytes)
        lock = place._lock
        away = DatabaseError("it does not answer", database="bytes", is_transient=True, is_lost=True)
        wrong = DatabaseError("there is no such table", database="bytes")
        errors = [away, away]

        def lock_or_not(account: str) -> tuple[bytes, set[str]]:
            if errors:
                raise errors.pop(0)
            return lock(account)

        monkeypatch.setattr(place, "_lock", lock_or_not)
        account = place.of("ann")
        account.pending.add(now, 3_000)
        async with account.hold(now) as row:
            assert row.usage.used(now) == 3_000
        account.pending.add(now, 500)
        errors = [wrong, away]
        with pytest.raises(DatabaseError, match="there is no such table"):
            async with account.hold(now):
                pytest.fail("the account is not held")
        # It is with the next change, when that can be made.
        assert account.pending.used(now) == 500
        async with account.hold(now) as row:
            assert row.usage.used(now) == 3_500
    assert errors == []
