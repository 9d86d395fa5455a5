"""What is computed of large sets: in a thread, and of nothing that changes meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from imapipe.models.batch import Failure
from imapipe.pipeline import ledger as ledger_module
from imapipe.pipeline import plan as plan_module
from imapipe.pipeline.batching import FixedBatch
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.plan import Plan, Tier
from imapipe.runtime.large_sets import LARGE, beside_the_loop
from imapipe.wire.uid_set import UidSet

SMALL = UidSet.from_numbers(range(1, 100, 2))
ENTIRE = UidSet.from_numbers(range(1, 3 * LARGE, 2))


@pytest.mark.parametrize(("sets", "elsewhere"), [((), False), ((SMALL, SMALL), False), ((SMALL, ENTIRE), True)])
@pytest.mark.asyncio
async def test_only_what_is_large_gets_a_thread(sets: tuple[UidSet, ...], elsewhere: bool) -> None:
    thread = await beside_the_loop(threading.get_ident, *sets)
    assert (thread != threading.get_ident()) == elsewhere


class Held:
    """What would be computed in a thread, and is when the test says so."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.count = 0

    async def beside_the_loop(self, compute: Callable[[], object], *sets: UidSet) -> object:
        result = compute()
        self.count += 1
        self.wanted.set()
        await self.goes_on.wait()
        return result


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    for module in (plan_module, ledger_module):
        monkeypatch.setattr(module, "beside_the_loop", held.beside_the_loop)
    return held


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.asyncio
async def test_a_batch_that_is_given_out_meanwhile_is_given_out_once(held: Held, newest: bool) -> None:
    plan = Plan([Tier(UidSet.parse("1:50"), newest_first=newest), Tier(UidSet.parse("51:100"))])
    sizer = FixedBatch(10).sizer()
    skipping = asyncio.create_task(plan.skip(UidSet.parse("1:5,41:60")))
    await held.wanted.wait()
    first = plan.next_batch(sizer, 0)
    assert first is not None
    held.goes_on.set()
    taken = await skipping
    given = first.uids
    while batch := plan.next_batch(sizer, 0):
        assert not given & batch.uids
        given |= batch.uids
    assert not given & taken
    assert given | taken == UidSet.parse("1:100")
    assert first.uids & UidSet.parse("1:5,41:60")
    assert held.count == 2


@pytest.mark.asyncio
async def test_a_skip_that_is_cancelled_has_taken_nothing_out(held: Held) -> None:
    plan = Plan(UidSet.parse("1:100"))
    skipping = asyncio.create_task(plan.skip(UidSet.parse("1:5")))
    await held.wanted.wait()
    skipping.cancel()
    await asyncio.wait([skipping])
    assert skipping.cancelled()
    assert plan.remaining == plan.planned == UidSet.parse("1:100")


@pytest.mark.asyncio
async def test_a_skip_beside_one_that_takes_the_rest(held: Held) -> None:
    """What one of them has the other has not."""
    plan = Plan(UidSet.parse("1:100"))
    skipping = asyncio.create_task(plan.skip(UidSet.parse("1:5")))
    await held.wanted.wait()
    resting = asyncio.create_task(plan.take_rest())
    await asyncio.sleep(0)
    held.goes_on.set()
    assert await resting == UidSet.parse("1:100")
    assert not await skipping
    assert not plan.remaining


@pytest.mark.asyncio
async def test_a_failure_meanwhile_is_not_forgotten(held: Held) -> None:
    ledger = Ledger()
    refusing = asyncio.create_task(ledger.refuse(UidSet.parse("5:9"), "ValueError", ""))
    await held.wanted.wait()
    ledger.fail(Failure(1, "no"))
    ledger.flush()
    held.goes_on.set()
    await refusing
    assert (ledger.failed, ledger.failed_count, ledger.refused_count) == (UidSet.parse("1,5:9"), 6, 5)
