"""The decisions of the pool, without a loop, a socket or a clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from imapipe.net.pool.connection_limit import FAILED_PAUSE_SECONDS, REFUSED_PAUSE_SECONDS
from imapipe.net.pool.decisions import Decisions, Orders
from imapipe.net.pool.lease import Holder
from imapipe.net.session import SelectedMailbox


@dataclass(eq=False)
class Line:
    """A connection."""

    selected: SelectedMailbox | None = None
    is_clean: bool = True
    is_quiet: bool = True
    expires_at: float = float("inf")


@dataclass(eq=False)
class Guest:
    """Somebody who waits."""

    mailbox: str | None = None
    write: bool = False
    holder: Holder | None = None
    is_over: bool = False


@dataclass
class Run:
    leases_held: int

    def is_of(self, pool: object) -> bool:
        raise AssertionError(pool)


Books = Decisions[Line, Guest]


def books(size: int, *, waiting: int = 0) -> tuple[Books, list[Guest]]:
    decisions: Books = Decisions(size)
    guests = [Guest() for _ in range(waiting)]
    decisions.waiting.extend(guests)
    return decisions, guests


def opened(decisions: Books, count: int = 1) -> list[Line]:
    """Connections that were ordered are there."""
    lines = [Line() for _ in range(count)]
    for line in lines:
        decisions.opened(line)
    return lines


def reading(name: str) -> Line:
    return Line(SelectedMailbox(name, read_only=True))


def writing(name: str) -> Line:
    return Line(SelectedMailbox(name, read_only=False))


def test_as_many_are_opened_as_wait_and_may_be() -> None:
    decisions, guests = books(3, waiting=5)
    assert decisions.decide(0.0) == Orders(open=3)
    # What is being opened is not ordered again.
    assert decisions.decide(0.0) == Orders()
    first, second = opened(decisions, 2)
    orders = decisions.decide(0.0)
    assert orders.grants == [(guests[0], second), (guests[1], first)]
    assert (decisions.stats.leased, decisions.stats.opening, decisions.stats.waiting) == (2, 1, 3)


def test_who_waits_no_more_gets_nothing_and_his_turn_is_the_next_ones() -> None:
    decisions, guests = books(1, waiting=3)
    decisions.decide(0.0)
    guests[0].is_over = True
    decisions.withdraw(guests[1])
    (line,) = opened(decisions)
    assert decisions.decide(0.0).grants == [(guests[2], line)]
    assert not decisions.waiting


@pytest.mark.parametrize(
    ("mailbox", "write", "best"),
    [("a", False, 0), ("a", True, 1), ("b", False, 2), ("b", True, 2), (None, False, 3), ("c", False, 4)],
)
def test_the_connection_that_needs_least_is_given(mailbox: str | None, write: bool, best: int) -> None:
    decisions, _ = books(5)
    lines = [reading("a"), writing("a"), reading("b"), Line(), reading("d")]
    decisions.idle.extend(lines)
    guest = Guest(mailbox, write)
    decisions.waiting.append(guest)
    assert decisions.decide(0.0).grants == [(guest, lines[best])]


def test_a_lease_comes_back_or_is_dismissed() -> None:
    for keeps, line in ((True, Line()), (False, Line(is_clean=False)), (False, Line(expires_at=10.0))):
        decisions, _ = books(1)
        decisions.leased.add(line)
        decisions.take_back(line, 10.0)
        assert (line in decisions.idle) is keeps
        assert decisions.decide(10.0) == (Orders() if keeps else Orders(goodbyes=[line]))


def test_until_a_goodbye_is_over_the_connection_counts() -> None:
    decisions, _ = books(1)
    old = Line(expires_at=10.0)
    decisions.idle.append(old)
    decisions.waiting.append(Guest())
    assert decisions.decide(10.0) == Orders(goodbyes=[old])
    decisions.closed()
    assert decisions.decide(10.0) == Orders(open=1)


def test_what_cannot_be_told_goodbye_is_aborted_and_counts_no_more() -> None:
    decisions, _ = books(1)
    dead = Line(is_clean=False, is_quiet=False)
    decisions.idle.append(dead)
    decisions.waiting.append(Guest())
    assert decisions.decide(0.0) == Orders(aborts=[dead], open=1)


def test_a_refusal_lowers_the_limit_to_what_works_and_says_when_to_look_again() -> None:
    decisions, guests = books(4, waiting=4)
    assert decisions.decide(0.0).open == 4
    opened(decisions, 2)
    decisions.failed_to_open()
    decisions.refused(0.0)
    # Two work, one is still being made.
    assert (decisions.stats.limit, decisions.stats.refused) == (3, 1)
    orders = decisions.decide(0.0)
    assert ([guest for guest, _ in orders.grants], orders.open) == (guests[:2], 0)
    assert orders.look_again_at == REFUSED_PAUSE_SECONDS
    orders = decisions.decide(REFUSED_PAUSE_SECONDS)
    assert (orders.open, decisions.stats.limit) == (1, 4)


def test_after_a_failure_the_server_has_a_moment_of_peace() -> None:
    decisions, _ = books(2, waiting=1)
    decisions.decide(0.0)
    decisions.failed_to_open()
    assert not decisions.has_company
    decisions.limit.fail(0.0)
    assert decisions.decide(0.0) == Orders(look_again_at=FAILED_PAUSE_SECONDS)
    assert decisions.decide(FAILED_PAUSE_SECONDS) == Orders(open=1)


def test_a_connection_that_ends_while_it_is_idle_is_forgotten() -> None:
    decisions, _ = books(1)
    idle, leased = Line(), Line()
    decisions.idle.append(idle)
    decisions.leased.add(leased)
    assert decisions.lost(idle)
    assert not decisions.lost(idle)
    assert not decisions.lost(leased)
    assert (decisions.stats.idle, decisions.stats.leased) == (0, 1)


def test_who_waits_for_his_own_run() -> None:
    decisions, _ = books(2)
    decisions.leased.update([Line(), Line()])
    his, other = Guest(holder=Run(2)), Guest(holder=Run(1))
    decisions.waiting.extend([other, his])
    assert not decisions.waits_for_itself(None)
    assert decisions.take_self_waits() == [his]
    assert list(decisions.waiting) == [other]
    decisions.idle.append(Line())
    assert not decisions.waits_for_itself(his.holder)


@dataclass
class World:
    """Carries orders out as a pool does, in any order."""

    decisions: Books
    dice: random.Random
    opening: int = 0
    closing: list[Line] = field(default_factory=list)
    held: list[Line] = field(default_factory=list)
    turns: list[Guest] = field(default_factory=list)
    now: float = 0.0

    def look(self) -> None:
        orders = self.decisions.decide(self.now)
        for guest, line in orders.grants:
            assert line.is_clean
            assert line.expires_at > self.now
            assert guest is self.turns.pop(0)
            self.held.append(line)
        self.closing += orders.goodbyes
        self.opening += orders.open
        stats = self.decisions.stats
        assert stats.leased + stats.idle + stats.opening + len(self.closing) <= stats.max_size
        assert (stats.leased, stats.opening, stats.waiting) == (len(self.held), self.opening, len(self.turns))
        # Nobody waits for a thing that nobody does.
        assert not (stats.waiting and stats.idle)
        if stats.waiting and not (self.opening or self.held or self.closing):
            assert orders.look_again_at is not None

    def step(self) -> None:
        self.now += self.dice.choice([0.0, 1.0, 20.0])
        match self.dice.randrange(6):
            case 0 | 1:
                guest = Guest(self.dice.choice([None, "a", "b"]), self.dice.random() < 0.5)
                self.turns.append(guest)
                self.decisions.waiting.append(guest)
            case 2 if self.opening:
                self.opening -= 1
                self.decisions.opened(Line(expires_at=self.now + 100))
            case 3 if self.opening:
                self.opening -= 1
                self.decisions.failed_to_open()
                self.dice.choice([self.decisions.refused, self.decisions.limit.fail])(self.now)
            case 4 if self.held:
                line = self.held.pop(self.dice.randrange(len(self.held)))
                line.selected = SelectedMailbox(self.dice.choice("ab"))
                line.is_clean = self.dice.random() < 0.8
                line.is_quiet = line.is_clean or self.dice.random() < 0.5
                self.decisions.take_back(line, self.now)
            case 5 if self.closing:
                self.closing.pop()
                self.decisions.closed()
            case _:
                if self.turns:
                    self.decisions.withdraw(self.turns.pop(self.dice.randrange(len(self.turns))))
        self.look()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_books_agree(seed: int) -> None:
    world = World(Decisions(3), random.Random(seed))
    for _ in range(500):
        world.step()
