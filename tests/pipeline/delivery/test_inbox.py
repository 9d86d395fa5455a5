"""The inbox: no message without a consumer, no consumer woken for nothing that stays, nothing after the end."""

from __future__ import annotations

import asyncio

import pytest

from imapipe.models.message import Message, MessageContext
from imapipe.pipeline.delivery.flight import Flight
from imapipe.pipeline.delivery.inbox import Inbox
from imapipe.pipeline.ledger import Ledger
from imapipe.wire.command.fetch import Fetch


def _messages(count: int) -> list[Message]:
    context = MessageContext("INBOX", 1, Fetch())
    return [Message.from_items(context, uid, 10, {}) for uid in range(1, count + 1)]


@pytest.mark.asyncio
async def test_a_wake_up_that_was_cancelled_is_passed_on() -> None:
    inbox = Inbox()
    flight = Flight(inbox, Ledger())
    first, second = asyncio.create_task(inbox.wait()), asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    inbox.put(flight, _messages(1))
    # It was the first one's turn, and it is gone.
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(inbox.items) == 1


@pytest.mark.asyncio
async def test_a_consumer_that_is_just_being_cancelled_is_passed_over() -> None:
    inbox = Inbox()
    flight = Flight(inbox, Ledger())
    waiting = [asyncio.create_task(inbox.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    inbox.put(flight, _messages(1))
    assert await waiting[2]
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.asyncio
async def test_as_many_are_woken_as_there_is_work_for() -> None:
    inbox = Inbox()
    flight = Flight(inbox, Ledger())
    waiting = [asyncio.create_task(inbox.wait()) for _ in range(5)]
    await asyncio.sleep(0)
    inbox.put(flight, _messages(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == 2
    inbox.close()
    assert await asyncio.gather(*waiting) == [True] * 5
    inbox.items.clear()
    assert await inbox.wait() is False


@pytest.mark.asyncio
async def test_nothing_is_given_out_after_it_discards() -> None:
    inbox = Inbox()
    flight = Flight(inbox, Ledger())
    inbox.put(flight, _messages(3))
    inbox.discard()
    inbox.put(flight, _messages(2))
    assert not inbox.items
    assert await inbox.wait() is False
    assert inbox.delivered == 5


def test_one_flight_is_forgotten() -> None:
    inbox = Inbox()
    one, other = Flight(inbox, Ledger()), Flight(inbox, Ledger())
    inbox.put(one, _messages(2))
    inbox.put(other, _messages(1))
    inbox.put(one, _messages(1))
    items = inbox.items
    inbox.forget(one)
    assert inbox.items is items
    assert [flight for flight, _ in items] == [other]


@pytest.mark.asyncio
async def test_what_is_held_is_given_out_later_in_order() -> None:
    inbox = Inbox()
    flight = Flight(inbox, Ledger())
    messages = _messages(4)
    inbox.put(flight, messages[:2])
    inbox.hold()
    inbox.put(flight, messages[2:])
    assert not inbox.items
    waiting = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.go_on()
    assert await waiting
    assert [message.uid for _, message in inbox.items] == [1, 2, 3, 4]


@pytest.mark.parametrize("end", ["give_up", "close", "discard"])
@pytest.mark.asyncio
async def test_no_end_is_held(end: str) -> None:
    """A message that is held for ever would keep its batch, and so the run."""
    inbox = Inbox()
    flight, ended = Flight(inbox, Ledger()), Flight(inbox, Ledger())
    inbox.put(flight, _messages(2))
    inbox.put(ended, _messages(3))
    inbox.hold()
    inbox.forget(ended)
    getattr(inbox, end)()
    assert len(inbox.items) == (0 if end == "discard" else 2)
    inbox.hold()
    assert await asyncio.wait_for(inbox.wait(), 60) is (end != "discard")
