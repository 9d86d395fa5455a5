"""Work that comes to its end though whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from tests.middleware.fakes import run_in_fake_time

from imapipe.runtime.completion import to_the_end


@pytest.mark.asyncio
async def test_it_gives_what_the_work_gives_and_raises_what_it_raises() -> None:
    async def give(value: int) -> int:
        await asyncio.sleep(0)
        if not value:
            raise ValueError("nothing")
        return value

    assert await to_the_end(give(5)) == 5
    with pytest.raises(ValueError, match="nothing"):
        await to_the_end(give(0))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.asyncio
async def test_any_number_of_cancellations_is_raised_when_the_work_has_ended(fails: bool) -> None:
    go_on, ended = asyncio.Event(), []

    async def work() -> None:
        await go_on.wait()
        ended.append(1)
        if fails:
            raise ValueError("the disk is full")

    waiting = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert ended == [1]
    assert isinstance(caught.value.__cause__, ValueError) is fails
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_work_that_does_not_end_is_cancelled_some_time_after_the_waiting() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(to_the_end(asyncio.Event().wait(), limit_seconds=30))
        # Without a cancellation it may take as long as it likes.
        await asyncio.sleep(1_000)
        assert not waiting.done()
        began = loop.time()
        waiting.cancel()
        await asyncio.sleep(20)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return loop.time() - began

    assert run_in_fake_time(scenario()) == pytest.approx(30, abs=0.1)
