"""The ring of events of a job, and who listens to it."""

from __future__ import annotations

import asyncio

import pytest

from imapipe.contrib.job_events import EventRing, JobEvent, Subscription


def _ring(events: int, *, capacity: int = 4) -> EventRing:
    ring = EventRing(capacity)
    for number in range(1, events + 1):
        ring.append("progress", {"number": number})
    return ring


async def _rest(subscription: Subscription) -> list[JobEvent]:
    return [event async for event in subscription]


def _told(events: list[JobEvent]) -> list[object]:
    return [event.data.get("number", event.kind) for event in events]


@pytest.mark.asyncio
async def test_who_comes_late_is_told_what_is_kept() -> None:
    ring = _ring(6)
    ring.close()
    assert _told(await _rest(ring.subscribe())) == [3, 4, 5, 6]


@pytest.mark.asyncio
async def test_what_is_kept_is_bounded_also_where_events_are_long() -> None:
    """A server may say as much as it likes of each message that fails."""
    ring = EventRing(256)
    long = {"text": "x" * 100_000}
    for _ in range(200):
        ring.append("failures", long)
    listening = ring.subscribe(ring.id_of(100))
    ring.append("end", {"text": "y" * 5_000_000})
    ring.close()
    kept = await _rest(ring.subscribe())
    assert [event.kind for event in kept] == ["end"]
    told = await _rest(listening)
    assert [(event.kind, event.data.get("count")) for event in told] == [("lost", 100), ("end", None)]
    ring = EventRing(256)
    for _ in range(200):
        ring.append("failures", long)
    assert ring.last - ring.first + 1 == 10


@pytest.mark.asyncio
@pytest.mark.parametrize("number", ["9" * 5000, "9" * 18, "-1", "\u0663", ""])
async def test_an_id_that_is_none_is_one_of_another_ring(number: str) -> None:
    ring = _ring(2)
    ring.close()
    after = ring.id_of(1).rpartition("-")[0] + "-" + number
    assert _told(await _rest(ring.subscribe(after))) == ["lost", 1, 2]


@pytest.mark.asyncio
async def test_who_was_there_before_goes_on_behind_what_it_knows() -> None:
    ring = _ring(6)
    ring.close()
    assert _told(await _rest(ring.subscribe(ring.id_of(4)))) == [5, 6]
    at_the_end = ring.subscribe(ring.id_of(6))
    assert at_the_end.is_at_end
    assert await _rest(at_the_end) == []


@pytest.mark.asyncio
async def test_who_is_slow_is_told_how_many_were_lost() -> None:
    ring = _ring(2)
    slow = ring.subscribe()
    assert (await anext(slow)).data == {"number": 1}
    for number in range(3, 11):
        ring.append("progress", {"number": number})
    ring.close()
    lost, *rest = await _rest(slow)
    assert (lost.kind, lost.data) == ("lost", {"count": 5})
    assert _told(rest) == [7, 8, 9, 10]
    # What it was told last is where it goes on, also behind the marker.
    assert _told(await _rest(ring.subscribe(lost.id))) == [7, 8, 9, 10]


@pytest.mark.asyncio
@pytest.mark.parametrize("after", ["0badcafe-2", "nonsense", "{token}-99", "{token}-x"])
async def test_an_id_of_another_process_is_not_taken_for_ours(after: str) -> None:
    ring = _ring(3)
    ring.close()
    lost, *rest = await _rest(ring.subscribe(after.format(token=ring.id_of(0).partition("-")[0])))
    assert lost.data == {"count": None}
    assert _told(rest) == [1, 2, 3]


@pytest.mark.asyncio
async def test_listeners_wait_for_what_comes_and_may_go_at_any_time() -> None:
    ring = _ring(0)
    waiting = [asyncio.create_task(_rest(ring.subscribe())) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    ring.append("progress", {"number": 1})
    ring.close()
    cancelled, *told = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [_told(each) for each in told if isinstance(each, list)] == [[1], [1]]


@pytest.mark.asyncio
async def test_an_event_is_one_line_and_encoded_once() -> None:
    ring = EventRing()
    ring.append("news", {"text": "a\nb\u2028\r"})
    one, two = [await anext(ring.subscribe()) for _ in range(2)]
    assert one is two
    assert one.line.count("\n") == 1
    assert one.data == {"text": "a\nb\u2028\r"}


def test_a_ring_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 event or more"):
        EventRing(0)
