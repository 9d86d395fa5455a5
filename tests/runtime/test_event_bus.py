"""The event bus: what a listener raises is told, and changes nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from imapipe.models.event import Event, Wait
from imapipe.runtime.event_bus import EventBus


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, event: Event) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), asyncio.CancelledError()])
@pytest.mark.asyncio
async def test_what_a_listener_raises_is_told_to_the_loop_and_nobody_else(error: BaseException) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    bus, heard = EventBus(), list[Event]()
    bus.subscribe(Failing(error))
    bus.subscribe(heard.append)
    bus.emit(Wait("rate", 1.0))
    assert heard == [Wait("rate", 1.0)]
    assert [context["exception"] for context in told] == [error]
    assert [context["message"] for context in told] == ["imapipe: a listener to events failed at Wait"]


def test_without_a_loop_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    bus.subscribe(Failing(ValueError("x")))
    with caplog.at_level(logging.ERROR):
        bus.emit(Wait("rate", 1.0))
    assert "a listener to events failed at Wait" in caplog.text


def test_the_end_of_the_process_is_no_defect() -> None:
    bus = EventBus()
    bus.subscribe(Failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bus.emit(Wait("rate", 1.0))
