from __future__ import annotations

import asyncio

import pytest

from imapipe.runtime.ticker import Ticker


async def spin(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_ticks_until_stopped_and_leaves_no_task() -> None:
    ticks = asyncio.Queue[int]()

    async def tick() -> None:
        ticks.put_nowait(1)

    ticker = Ticker(tick, 0.001, name="test")
    ticker.start()
    for _ in range(3):
        await ticks.get()
    await ticker.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await ticker.stop()


@pytest.mark.asyncio
async def test_stop_cancels_a_tick_under_way_and_waits_for_its_end() -> None:
    inside, ended = asyncio.Event(), False

    async def tick() -> None:
        nonlocal ended
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            await spin()
            ended = True

    ticker = Ticker(tick, 0.001, name="test")
    ticker.start()
    await inside.wait()
    await ticker.stop()
    assert ended


@pytest.mark.asyncio
async def test_what_a_tick_raises_comes_out_of_stop() -> None:
    raised = asyncio.Event()

    async def tick() -> None:
        raised.set()
        raise ZeroDivisionError

    ticker = Ticker(tick, 0.001, name="test")
    ticker.start()
    await raised.wait()
    await spin()
    with pytest.raises(ZeroDivisionError):
        await ticker.stop()


@pytest.mark.asyncio
async def test_a_cancelled_stop_raises_the_cancellation_and_the_task_still_ends() -> None:
    inside = asyncio.Event()

    async def tick() -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            await spin(5)

    ticker = Ticker(tick, 0.001, name="test")
    ticker.start()
    await inside.wait()
    stopping = asyncio.create_task(ticker.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await spin()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_it_starts_once_and_needs_a_time() -> None:
    async def tick() -> None:
        raise AssertionError("never reached")

    ticker = Ticker(tick, 60, name="test")
    ticker.start()
    with pytest.raises(RuntimeError, match="running"):
        ticker.start()
    await ticker.stop()
    with pytest.raises(ValueError, match="above 0"):
        Ticker(tick, 0, name="test")
