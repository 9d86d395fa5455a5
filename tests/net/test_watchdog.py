"""The inactivity timer, on a clock of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from tests.middleware.fakes import block, run_in_fake_time

from imapipe.net.watchdog import LAST_LOOK_SECONDS, Watchdog


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """As much of an event loop as the watchdog knows."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.made += 1
        self.timers.append(Timer(self.now + delay, callback))
        return self.timers[-1]

    @property
    def running(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def go_to(self, when: float) -> None:
        while (due := min((t for t in self.running), key=lambda t: t.when, default=None)) and due.when <= when:
            self.now = due.when
            self.timers.remove(due)
            due.callback()
        self.now = when


class Case:
    def __init__(self, silence_allowed: float | None = 60.0, shortest: float = 30.0) -> None:
        self.clock = Clock()
        self.silence_allowed = silence_allowed
        self.expired: list[tuple[float, float | None]] = []
        loop = cast(asyncio.AbstractEventLoop, self.clock)
        self.left_until = float("inf")
        self.dog = Watchdog(
            loop, lambda: self.silence_allowed, lambda: self.left_until - self.clock.now, shortest, self._expire
        )

    def _expire(self, silence_allowed: float | None) -> None:
        self.expired.append((self.clock.now, silence_allowed))


def test_silence_ends_it() -> None:
    case = Case()
    case.dog.watch()
    case.clock.go_to(159.0)
    assert case.expired == []
    case.clock.go_to(161.0)
    assert case.expired == [(160.0 + LAST_LOOK_SECONDS, 60.0)]
    assert case.clock.running == []


def test_hearing_touches_no_timer() -> None:
    case = Case()
    case.dog.watch()
    for second in range(101, 1101):
        case.clock.go_to(second)
        case.dog.hear()
    assert case.expired == []
    # One for each time the shortest silence allowed passed, not one for each sign of life.
    assert case.clock.made <= 36
    assert len(case.clock.running) == 1


def test_a_allowed_that_became_shorter_is_noticed_in_time() -> None:
    case = Case(silence_allowed=60.0, shortest=30.0)
    case.dog.watch()
    case.clock.go_to(129.0)
    case.dog.hear()
    case.silence_allowed = 30.0
    case.clock.go_to(1000.0)
    assert case.expired == [(159.0 + LAST_LOOK_SECONDS, 30.0)]


def test_rush_looks_at_once() -> None:
    case = Case(silence_allowed=60.0, shortest=5.0)
    case.dog.watch()
    case.clock.go_to(104.0)
    case.silence_allowed = 5.0
    case.dog.rush()
    assert len(case.clock.running) == 1
    case.clock.go_to(1000.0)
    assert case.expired == [(105.0 + LAST_LOOK_SECONDS, 5.0)]


def test_a_pause_is_no_silence_and_is_added_up() -> None:
    case = Case(silence_allowed=10.0, shortest=10.0)
    case.dog.watch()
    case.clock.go_to(105.0)
    case.dog.pause()
    case.dog.pause()
    assert case.clock.running == []
    case.clock.go_to(1105.0)
    case.dog.watch()
    assert case.clock.running == []
    assert case.dog.paused_seconds == 1000.0
    case.dog.resume()
    case.dog.resume()
    assert case.dog.paused_seconds == 1000.0
    assert len(case.clock.running) == 1
    case.clock.go_to(1114.0)
    assert case.expired == []
    case.clock.go_to(1116.0)
    assert case.expired == [(1115.0 + LAST_LOOK_SECONDS, 10.0)]


def test_nobody_waits() -> None:
    case = Case(silence_allowed=None)
    case.dog.watch()
    assert case.clock.running == []
    case.silence_allowed = 10.0
    case.dog.watch()
    case.dog.watch()
    assert len(case.clock.running) == 1
    # Who waited has gone; the timer goes when it is due.
    case.silence_allowed = None
    case.clock.go_to(1000.0)
    assert case.clock.running == []
    assert case.expired == []


def test_what_it_may_take_in_all_ends_though_it_is_never_silent() -> None:
    case = Case(silence_allowed=10.0, shortest=10.0)
    case.left_until = 123.0
    case.dog.watch()
    for second in range(101, 130):
        case.clock.go_to(second)
        case.dog.hear()
    assert case.expired == [(123.0 + LAST_LOOK_SECONDS, None)]
    assert case.clock.running == []


async def silent_after(answer_at_last: bool) -> list[float | None]:
    """The loop is blocked, beyond the silence allowed, by what runs in the turn in which the timer is due."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    expired: list[float | None] = []
    dog = Watchdog(loop, lambda: 10.0, lambda: float("inf"), 10.0, expired.append)

    def hear() -> None:
        here.recv(100)
        dog.hear()

    def answer_while_the_loop_is_busy() -> None:
        block(1.0)
        if answer_at_last:
            there.send(b"* OK still here")

    with here, there:
        loop.add_reader(here, hear)
        dog.heard_at = loop.time()
        # Due in the same turn as the timer of the watchdog, and before it.
        loop.call_at(dog.heard_at + 9.999_999, answer_while_the_loop_is_busy)
        dog.watch()
        await asyncio.sleep(15)
        loop.remove_reader(here)
        dog.stop()
    return expired


def test_what_came_while_the_loop_was_busy_is_heard_first() -> None:
    """Defect: a blocking handler in the turn of the timer ended a connection whose answer had arrived."""
    assert run_in_fake_time(silent_after(answer_at_last=True), lateness=0.001) == []
    assert run_in_fake_time(silent_after(answer_at_last=False), lateness=0.001) == [10.0]


def test_stop() -> None:
    case = Case(silence_allowed=10.0)
    case.dog.watch()
    case.clock.go_to(101.0)
    case.dog.pause()
    case.clock.go_to(103.0)
    case.dog.stop()
    assert case.clock.running == []
    case.clock.go_to(200.0)
    assert case.dog.paused_seconds == 2.0
    assert case.expired == []
