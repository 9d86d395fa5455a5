"""Slots as rows, on a clock that is made up: never above the limit, and every slot comes back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from imapipe.cluster import slot_rows
from imapipe.cluster.process import Process
from imapipe.cluster.reaping import AUTOLOGOUT_MS, Reaper
from imapipe.cluster.schema import COMPONENT, STEPS
from imapipe.cluster.slot_rows import Answer, SlotRequest, Worker
from imapipe.database import Connection, Database, migrate
from imapipe.database.sqlite import SqliteConnection
from imapipe.net.pool.connection_limit import REFUSED_PAUSE_SECONDS
from imapipe.runtime.process import look

LEASE_MS: Final = 3_000
GRACE_MS: Final = 300
ELSEWHERE: Final = Process("another machine", 1, "1")


@dataclass
class Clock:
    now_ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


def connect(path: Path, clock: Clock) -> Connection:
    connection = Database(path).connect()
    assert isinstance(connection, SqliteConnection)
    connection._connection.create_function("now_ms", 0, clock)
    connection._connection.execute("PRAGMA synchronous = OFF")
    migrate(connection, COMPONENT, STEPS)
    return connection


def worker(name: str, its: Process = ELSEWHERE) -> Worker:
    return Worker(name, its, LEASE_MS, GRACE_MS, fresh_ms=1_000)


def ask(connection: Connection, who: Worker, held: int, wanted: int, *, maximum: int = 3, **more: object) -> Answer:
    request = SlotRequest(f"{who.name}.1", "ann", maximum, held, wanted, **more)  # type: ignore[arg-type]
    answer = slot_rows.exchange(connection, who, request)
    assert answer is not None
    return answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rows(tmp_path: Path, clock: Clock) -> Iterator[Connection]:
    with connect(tmp_path / "slots.db", clock) as connection:
        for name in ("a", "b", "c"):
            slot_rows.register(connection, worker(name))
        yield connection


def test_slots_are_given_up_to_the_limit_and_again_when_they_come_back(rows: Connection) -> None:
    a, b = worker("a"), worker("b")
    assert ask(rows, a, 0, 2) == Answer(granted=2, asked_for=0, share=0, limit=3, taken=2)
    assert ask(rows, b, 0, 2).granted == 1
    assert ask(rows, b, 1, 2) == Answer(granted=0, asked_for=0, share=0, limit=3, taken=3)
    assert slot_rows.contested(rows, a) == {"ann"}
    # It has what is fair, and the other one has no right to more.
    assert ask(rows, a, 2, 2) == Answer(granted=0, asked_for=1, share=2, limit=3, taken=3)
    assert ask(rows, a, 1, 1).granted == 0
    assert ask(rows, b, 1, 2).granted == 1
    assert slot_rows.contested(rows, a) == set()
    for who in (a, b):
        ask(rows, who, 0, 0)
    assert rows.query("SELECT * FROM imapipe_slots") == []


def test_what_is_written_twice_counts_once(rows: Connection) -> None:
    a, b = worker("a"), worker("b")
    # The answer to the first one was lost with the connection.
    assert ask(rows, a, 0, 2).granted == 2
    assert ask(rows, a, 0, 2).granted == 2
    assert ask(rows, b, 0, 3).granted == 1


def test_a_dead_workers_slots_are_free_after_its_lease_and_grace_and_not_before(rows: Connection, clock: Clock) -> None:
    a, b = worker("a"), worker("b")
    reaper = Reaper(b)
    assert ask(rows, a, 0, 3).granted == 3

    def wait(ms: int) -> int:
        clock.now_ms += ms
        slot_rows.renew(rows, b)
        reaper.look(rows)
        return ask(rows, b, 0, 1).granted

    for _ in range(10):
        assert wait(LEASE_MS // 10) == 0
    # Its lease is over from the next moment on, and the grace begins when that is seen.
    assert wait(1) == 0
    assert wait(GRACE_MS) == 0
    assert wait(1) == 1
    assert not slot_rows.renew(rows, a)
    assert slot_rows.exchange(rows, a, SlotRequest("a.1", "ann", 3, 3, 3)) is None
    # Another one that was silent for as long has gone with it.
    assert rows.query("SELECT worker FROM imapipe_workers") == [("b",)]


@pytest.fixture
def stopped_process() -> Iterator[Process]:
    """A process that stands still, as SIGSTOP leaves one."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # Once it answers it is loaded. One that waits for the disk that it is loaded from counts as stopped, too,
        # before it is and when it goes on.
        os.write(child.stdin.fileno(), b"x")
        assert os.read(child.stdout.fileno(), 1) == b"x"
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        seen = look(child.pid)
        assert seen is not None
        assert seen.state == "stopped"
        yield Process(Process.this().host, child.pid, seen.birth)
        child.kill()


def test_a_stopped_process_keeps_its_slots_while_it_is_seen_and_its_server_may_count_them(
    rows: Connection, clock: Clock, stopped_process: Process
) -> None:
    here, number = stopped_process.host, stopped_process.number
    workers = {
        "stopped": worker("stopped", stopped_process),
        # Its number is another's now.
        "killed": worker("killed", Process(here, number, "of another birth")),
        "elsewhere": worker("elsewhere", Process("another machine", number, stopped_process.birth)),
        # It runs and says nothing: its connections have ended with its lease.
        "closed": worker("closed", Process.this()),
        "other": worker("other", Process.this()),
    }
    for who in workers.values():
        slot_rows.register(rows, who)
        assert ask(rows, who, 0, 1, maximum=9).granted == 1
    other = workers["other"]
    reaper = Reaper(other)

    def see() -> set[str]:
        slot_rows.renew(rows, other)
        reaper.look(rows)
        return {name for (name,) in rows.query("SELECT worker FROM imapipe_workers")}

    for _ in range(10):
        clock.now_ms += LEASE_MS // 3
        see()
    assert see() == {"stopped", "other"}
    clock.now_ms += AUTOLOGOUT_MS
    see()
    clock.now_ms += GRACE_MS + 1
    assert see() == {"other"}


def test_who_comes_when_nobody_saw_that_a_process_was_stopped_frees_nothing_of_it(
    rows: Connection, clock: Clock, stopped_process: Process
) -> None:
    """The others of its machine were dead or cut off, so its lease is over; a new one comes and wants its slots."""
    stopped, new = worker("stopped", stopped_process), worker("new", Process.this())
    slot_rows.register(rows, stopped)
    assert ask(rows, stopped, 0, 3).granted == 3
    clock.now_ms += 2 * LEASE_MS
    slot_rows.register(rows, new)
    reaper = Reaper(new)
    for _ in range(2 * LEASE_MS // GRACE_MS):
        reaper.look(rows)
        slot_rows.renew(rows, new)
        assert ask(rows, new, 0, 3).granted == 0
        clock.now_ms += GRACE_MS
    assert slot_rows.renew(rows, stopped)
    # It goes on, and its connections end with its lease, which nobody renews in its place any more.
    os.kill(stopped_process.number, signal.SIGCONT)
    for _ in range(LEASE_MS // GRACE_MS + 2):
        reaper.look(rows)
        assert ask(rows, new, 0, 3).granted == 0
        clock.now_ms += GRACE_MS
        slot_rows.renew(rows, new)
    clock.now_ms += 1
    reaper.look(rows)
    assert ask(rows, new, 0, 3).granted == 3


def test_one_that_goes_on_when_it_is_seen_first_has_the_grace_to_end_its_connections(
    rows: Connection, clock: Clock
) -> None:
    """Its lease has been over for long: it was stopped, and nobody could see it."""
    slow, new = worker("slow", Process.this()), worker("new", Process.this())
    slot_rows.register(rows, slow)
    assert ask(rows, slow, 0, 3).granted == 3
    clock.now_ms += 2 * LEASE_MS
    slot_rows.register(rows, new)
    reaper = Reaper(new)
    reaper.look(rows)
    assert ask(rows, new, 0, 3).granted == 0
    # It was heard of, so all begins anew.
    clock.now_ms += GRACE_MS
    assert slot_rows.renew(rows, slow)
    clock.now_ms += LEASE_MS + 1
    slot_rows.renew(rows, new)
    reaper.look(rows)
    assert ask(rows, new, 0, 3).granted == 0
    clock.now_ms += GRACE_MS + 1
    reaper.look(rows)
    assert ask(rows, new, 0, 3).granted == 3


def test_a_refusal_lowers_the_number_for_all_and_it_grows_again(rows: Connection, clock: Clock) -> None:
    a, b, c = worker("a"), worker("b"), worker("c")
    pause = round(REFUSED_PAUSE_SECONDS * 1_000)
    assert ask(rows, a, 0, 2, maximum=5).granted == 2
    assert ask(rows, b, 0, 2, maximum=5).granted == 2
    # Two of b's were refused in one moment: only a's work.
    assert ask(rows, b, 0, 2, maximum=5, refused=0).limit == 2
    assert ask(rows, b, 0, 2, maximum=5, refused=0).limit == 2
    assert rows.query("SELECT refusals, pause_ms FROM imapipe_accounts") == [(1, 2 * pause)]

    def live() -> None:
        for who in (a, b, c):
            slot_rows.renew(rows, who)

    # Nothing at all is given for a while, though one comes back.
    assert ask(rows, a, 1, 1, maximum=5).limit == 2
    assert ask(rows, c, 0, 1, maximum=5).granted == 0
    clock.now_ms += pause
    live()
    assert ask(rows, c, 0, 1, maximum=5).limit == 3
    assert ask(rows, b, 0, 2, maximum=5).granted == 1
    assert ask(rows, b, 1, 2, maximum=5).granted == 0
    clock.now_ms += pause
    live()
    assert ask(rows, b, 1, 2, maximum=5).limit == 4
    # One that was made shows that the server has room: the next refusal is a first one again.
    ask(rows, b, 2, 2, maximum=5, made=True)
    assert rows.query("SELECT pause_ms FROM imapipe_accounts") == [(pause,)]


def test_the_limit_follows_what_is_said(rows: Connection) -> None:
    a = worker("a")
    assert ask(rows, a, 0, 9, maximum=2).granted == 2
    assert ask(rows, a, 2, 9, maximum=4).granted == 2
    assert ask(rows, a, 4, 9, maximum=1) == Answer(granted=0, asked_for=0, share=0, limit=1, taken=4)


# -- whatever happens, in any order ------------------------------------------------------------------------------------


@dataclass
class Holder:
    """A worker as it sees itself."""

    worker: Worker
    clock: Clock
    reaper: Reaper
    held: int = 0
    wanted: int = 0
    lease_ends: int = 0
    open_sockets: int = 0
    is_cut_off: bool = False

    @property
    def has_lease(self) -> bool:
        return self.clock.now_ms < self.lease_ends


WHO = st.integers(0, 2)


class Slots(RuleBasedStateMachine):
    """Workers that take, give back, are cut off, come back, and die and are followed by others, on one account."""

    LIMIT = 3
    empty: tuple[Connection, Clock]

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.clock = self.empty
        for table in ("workers", "accounts", "slots"):
            self.rows.execute(f"DELETE FROM imapipe_{table}")
        self.count = 0
        self.all = [self.come() for _ in range(3)]

    def come(self) -> Holder:
        self.count += 1
        who = worker(f"w{self.count}")
        holder = Holder(who, self.clock, Reaper(who))
        self.register(holder)
        return holder

    def register(self, holder: Holder) -> None:
        holder.lease_ends = self.clock.now_ms + LEASE_MS
        slot_rows.register(self.rows, holder.worker)

    def end_if_late(self, holder: Holder) -> None:
        """What its clock thread does."""
        if not holder.has_lease:
            holder.open_sockets = holder.held = 0

    @rule(
        who=WHO,
        wanted=st.sampled_from([3, 4, 1, 0]),
        gone=st.sampled_from([0, 0, 0, 1, 2]),
        answered=st.sampled_from([True, True, True, False]),
    )
    def exchange(self, who: int, wanted: int, gone: int, answered: bool) -> None:
        holder = self.all[who]
        if holder.is_cut_off:
            return
        self.end_if_late(holder)
        holder.reaper.look(self.rows)
        holder.open_sockets -= min(gone, holder.open_sockets)
        holder.held, holder.wanted = holder.open_sockets, wanted
        if not holder.has_lease:
            self.renew_or_register(holder)
        request = SlotRequest(f"{holder.worker.name}.1", "ann", self.LIMIT, holder.held, wanted)
        answer = slot_rows.exchange(self.rows, holder.worker, request)
        if answer is None:
            holder.open_sockets = holder.held = 0
            self.register(holder)
            self.exchange(who, wanted, 0, answered)
            return
        if answered:
            holder.held += answer.granted
            holder.open_sockets = holder.held

    @rule(who=WHO)
    def renew(self, who: int) -> None:
        holder = self.all[who]
        if not holder.is_cut_off:
            self.end_if_late(holder)
            self.renew_or_register(holder)

    def renew_or_register(self, holder: Holder) -> None:
        if slot_rows.renew(self.rows, holder.worker):
            holder.lease_ends = self.clock.now_ms + LEASE_MS
        else:
            assert not holder.open_sockets
            self.register(holder)

    @rule(who=WHO)
    def kill(self, who: int) -> None:
        self.all[who] = self.come()

    @rule(who=WHO)
    def be_cut_off_or_come_back(self, who: int) -> None:
        """Cut off it renews nothing, and its clock thread ends its connections in time."""
        self.all[who].is_cut_off = not self.all[who].is_cut_off

    @rule(ms=st.sampled_from([LEASE_MS // 4, LEASE_MS // 2, GRACE_MS, 1]))
    def wait(self, ms: int) -> None:
        self.clock.now_ms += ms
        for holder in self.all:
            self.end_if_late(holder)

    @invariant()
    def never_above_the_limit(self) -> None:
        assert sum(holder.open_sockets for holder in self.all) <= self.LIMIT

    def teardown(self) -> None:
        """When all are dead and their leases are over, a new one gets every slot."""
        self.clock.now_ms += LEASE_MS + GRACE_MS + 1
        last = Holder(worker("last"), self.clock, Reaper(worker("last")))
        self.register(last)
        last.reaper.look(self.rows)
        self.clock.now_ms += GRACE_MS + 1
        last.reaper.look(self.rows)
        request = SlotRequest("last.1", "ann", self.LIMIT, 0, 9)
        answer = slot_rows.exchange(self.rows, last.worker, request)
        assert answer is not None
        assert answer.granted == self.LIMIT
        assert self.rows.query("SELECT count(*) FROM imapipe_slots") == [(1,)]


@pytest.mark.slow
@pytest.mark.no_cover
def test_never_above_the_limit_whatever_happens_in_any_order(tmp_path: Path, clock: Clock) -> None:
    with connect(tmp_path / "slots.db", clock) as rows:
        Slots.empty = rows, clock
        run_state_machine_as_test(Slots, settings=settings(max_examples=200, stateful_step_count=25, deadline=None))
