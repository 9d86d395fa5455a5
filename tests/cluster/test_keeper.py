"""The keeper of a process's slots, turn by turn: what it does when a lease ends, or the database does not work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from imapipe.cluster import slot_rows
from imapipe.cluster.keeper import Keeper
from imapipe.cluster.member import Member
from imapipe.cluster.schema import COMPONENT, STEPS
from imapipe.cluster.slot_rows import Answer, SlotRequest, Worker
from imapipe.database import Connection, Database, migrate
from imapipe.errors import ConnectionLost, DatabaseError

pytestmark = pytest.mark.asyncio

AWAY = DatabaseError("it does not answer", database="slots", is_transient=True)


class User:
    """A pool, as its member sees it: it writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.connections: list[object] = []

    def granted(self, count: int) -> None:
        self.told.append(("granted", count))

    def asked_for(self, count: int, share: int) -> None:
        self.told.append(("asked for", count, share))

    def failed(self, error: Exception) -> None:
        self.told.append(("failed", str(error)))

    def awaited(self, reason: str, lasted_seconds: float) -> None:
        self.told.append(("awaited", reason))

    def expired(self, error: Exception) -> None:
        self.told.append(("expired", str(error)))

    def shut(self) -> Sequence[object]:
        return self.connections


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the keeper; that of the database goes on by itself."""
    now = [1_000.0]
    for name in ("keeper", "member"):
        monkeypatch.setattr(f"imapipe.cluster.{name}.uptime", lambda: now[0])
    return now


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """One whose threads are not started."""
    keeper = Keeper(Database(tmp_path / "slots.db"), lease_seconds=300.0, poll_seconds=1.0, wait_seconds=100.0)
    yield keeper
    keeper.close()


@pytest.fixture
def connection(keeper: Keeper) -> Iterator[Connection]:
    with keeper._database.connect() as connection:
        migrate(connection, COMPONENT, STEPS)
        yield connection


async def _in_use(keeper: Keeper, wanted: int) -> tuple[Member, User]:
    """A pool that wants connections."""
    member, user = keeper.member("ann", 2), User()
    member.begin(user)
    member.want(wanted)
    return member, user


async def test_slots_are_granted_under_a_lease_and_lost_with_it(
    keeper: Keeper, connection: Connection, now: list[float]
) -> None:
    member, user = await _in_use(keeper, 2)
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert user.told == [("granted", 2)]
    now[0] += 299.0
    keeper.check()
    assert (keeper.held(), keeper.leases_lost) == ({"ann": 2}, 0)
    now[0] += 1.0
    user.connections = ["a socket"]
    keeper.check()
    keeper.check()
    await asyncio.sleep(0)
    lost = "no connection: its slot among the connections of the account is lost: "
    assert user.told[1:] == [("expired", f"{lost}their lease ended while this process stood still")]
    # The server may count the one that was shut for a while.
    assert (keeper.held(), keeper.leases_lost) == ({"ann": 1}, 1)
    member.over("a socket")
    assert keeper.held() == {"ann": 0}


async def test_a_lease_that_has_ended_is_not_prolonged(
    keeper: Keeper, connection: Connection, now: list[float]
) -> None:
    """The row is there still, as it is of a process that was stopped: what was open ends, and a new lease begins."""
    _, user = await _in_use(keeper, 1)
    assert keeper._turn(connection)
    now[0] += 301.0
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert [kind for kind, *_ in user.told][:2] == ["granted", "expired"]
    assert keeper.leases_lost == 1


async def test_who_lost_its_row_is_told_so_and_registers_anew(keeper: Keeper, connection: Connection) -> None:
    _, user = await _in_use(keeper, 1)
    assert keeper._turn(connection)
    connection.execute("DELETE FROM imapipe_workers")
    (member,) = keeper._members.values()
    member.want(2)
    assert not keeper._turn(connection)
    keeper._is_registered = False
    keeper._expire("another process has freed them")
    member.want(1)
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert [kind for kind, *_ in user.told] == ["granted", "expired", "granted"]


async def test_a_lease_that_cannot_be_prolonged_is_lost(keeper: Keeper, connection: Connection) -> None:
    assert keeper._turn(connection)
    connection.execute("DELETE FROM imapipe_workers")
    keeper._renews_at = 0.0
    assert not keeper._turn(connection)


async def test_what_could_not_be_told_is_told_again(
    keeper: Keeper, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, user = await _in_use(keeper, 1)
    with monkeypatch.context() as patched:

        def fail(*_: object) -> Answer:
            raise AWAY

        patched.setattr(slot_rows, "exchange", fail)
        with pytest.raises(DatabaseError):
            keeper._turn(connection)
    assert user.told == []
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert user.told == [("granted", 1)]


async def test_what_is_granted_under_a_lease_that_ends_meanwhile_is_used_by_nobody(
    keeper: Keeper, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, user = await _in_use(keeper, 2)
    exchange = slot_rows.exchange
    granted: list[int] = []

    def late(its: Connection, worker: Worker, request: SlotRequest) -> Answer | None:
        answer = exchange(its, worker, request)
        assert answer is not None
        granted.append(answer.granted)
        if len(granted) == 1:
            keeper._expire("their lease could not be renewed in time")
        return answer

    monkeypatch.setattr(slot_rows, "exchange", late)
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert (granted, [kind for kind, *_ in user.told]) == ([2], ["expired"])
    # The database still counts them; it hears with the next lease that nothing of it is in use.
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert [told for told in user.told if told[0] == "granted"] == [("granted", 2)]
    assert connection.query("SELECT count(*) FROM imapipe_slots WHERE held <= 2")[0] == (1,)


async def test_who_has_left_is_forgotten_when_nothing_is_counted_for_it(keeper: Keeper, connection: Connection) -> None:
    member, _ = await _in_use(keeper, 1)
    assert keeper._turn(connection)
    member.leave()
    assert keeper._turn(connection)
    assert (keeper.held(), connection.query("SELECT * FROM imapipe_slots")) == ({}, [])


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_a_cancelled_closing_left_behind_counts_for_a_while(
    keeper: Keeper, connection: Connection, now: list[float], *, is_lost: bool
) -> None:
    member, _ = await _in_use(keeper, 2)
    assert keeper._turn(connection)
    _, other = await _in_use(keeper, 2)
    member.leave(1)
    if is_lost:
        keeper._expire("their lease could not be renewed in time")
    assert keeper._turn(connection)
    now[0] += 1.0
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    # One of the two was over: the other one is nobody's yet, and nothing is told again and again.
    assert [told for told in other.told if told[0] == "granted"] == [("granted", 1)]
    assert (keeper.held(), keeper._counts_lapsed) == ({"ann": 2}, True)
    assert 0.0 < keeper._idle_seconds() <= 5.0
    now[0] += 4.0
    assert keeper._idle_seconds() <= 0.0
    assert keeper._turn(connection)
    await asyncio.sleep(0)
    assert [told for told in other.told if told[0] == "granted"] == [("granted", 1)] * 2
    assert member.name not in keeper._members
    assert (keeper.held(), keeper._counts_lapsed) == ({"ann": 2}, False)


async def test_a_database_that_is_away_for_too_long_ends_the_wait_and_before_its_end_what_is_held(
    keeper: Keeper, connection: Connection, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper._outage, "pause_seconds", lambda _: 0.0)
    holds, holder = await _in_use(keeper, 1)
    assert keeper._turn(connection)
    short, waiter = await _in_use(keeper, 1)
    keeper._fail(AWAY)
    await asyncio.sleep(0)
    assert holder.told == [("granted", 1)]
    assert [kind for kind, *_ in waiter.told] == ["awaited"]
    # In the last third of the lease nothing new begins, and what does not pass is no reason to wait.
    now[0] += 201.0
    keeper._fail(DatabaseError("there is no such table", database="slots"))
    await asyncio.sleep(0)
    assert holder.told[1:] == [("asked for", 1, 0)]
    assert [kind for kind, *_ in waiter.told] == ["awaited", "awaited", "failed"]
    assert (holds.held, short.held) == (1, 0)


async def test_nothing_is_given_back_to_a_database_that_is_away(keeper: Keeper, connection: Connection) -> None:
    await _in_use(keeper, 1)
    assert keeper._turn(connection)
    keeper._outage.failed(AWAY)
    last = keeper._database.connect()
    keeper._leave(last)
    # It is free when the lease ends.
    assert len(connection.query("SELECT * FROM imapipe_workers")) == 1
    with pytest.raises(Exception, match="closed"):
        last.query("SELECT 1")


async def test_a_database_that_does_not_answer_gives_no_lease(tmp_path: Path) -> None:
    keeper = Keeper(Database(tmp_path / "slots.db"), lease_seconds=0.01, poll_seconds=1.0, wait_seconds=1.0)
    with pytest.raises(DatabaseError, match="it does not answer"):
        keeper.be_there()
    keeper.close()
    keeper.be_there()


async def test_what_is_closed_takes_no_pool_and_does_not_begin_again(keeper: Keeper) -> None:
    keeper.close()
    with pytest.raises(RuntimeError, match="these limits are closed"):
        keeper.member("ann", 2)
    with pytest.raises(RuntimeError, match="these limits were closed: make new ones"):
        keeper.start()


@pytest.mark.parametrize("wrong", ["lost", "defect", "away"])
async def test_its_thread_goes_on_whatever_happens(
    keeper: Keeper,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    turn = keeper._turn
    is_there, goes_on = threading.Event(), threading.Event()
    turns = 0

    def turn_once_wrong(its: Connection) -> bool:
        nonlocal turns
        turns += 1
        match turns, wrong:
            case 2, "lost":
                return False
            case 2, "defect":
                raise ValueError("a defect")
            case 2, "away":
                raise AWAY
        result = turn(its)
        is_there.set()
        if turns > 2:
            goes_on.set()
        return result

    monkeypatch.setattr(keeper, "_turn", turn_once_wrong)
    keeper.start()
    keeper.start()
    assert len(keeper._threads) == 2
    await asyncio.to_thread(keeper.be_there)
    # The lease is there before the first turn is over, which is not to grant anything that the second one loses.
    assert await asyncio.to_thread(is_there.wait, 100)
    member, user = await _in_use(keeper, 1)
    assert await asyncio.to_thread(goes_on.wait, 100)
    while ("granted", 1) not in user.told:  # noqa: ASYNC110 - another thread calls
        await asyncio.sleep(0)
    assert ("a defect in the keeper of slots" in caplog.text) == (wrong == "defect")
    assert keeper.leases_lost == 0
    member.leave()
    await asyncio.to_thread(keeper.close)
    assert connection.query("SELECT * FROM imapipe_workers") == []


async def test_a_thread_that_never_could_register_closes_its_connection(
    keeper: Keeper, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()
    opened: list[Connection] = []

    def turn(its: Connection) -> bool:
        opened.append(its)
        tried.set()
        raise ValueError("a defect")

    monkeypatch.setattr(keeper, "_turn", turn)
    keeper.start()
    assert await asyncio.to_thread(tried.wait, 100)
    await asyncio.to_thread(keeper.close)
    with pytest.raises(Exception, match="closed"):
        opened[0].query("SELECT 1")


async def test_a_lease_that_was_not_renewed_in_time_ends_by_the_clock_alone(tmp_path: Path) -> None:
    """Whatever the database and the event loop are doing."""
    keeper = Keeper(Database(tmp_path / "slots.db"), lease_seconds=300.0, poll_seconds=1.0, wait_seconds=100.0)
    member, user = await _in_use(keeper, 1)
    with keeper._database.connect() as connection:
        migrate(connection, COMPONENT, STEPS)
        assert keeper._turn(connection)
    keeper._deadline = 0.0
    watching = threading.Thread(target=keeper._watch)
    watching.start()
    while not any(kind == "expired" for kind, *_ in user.told):  # noqa: ASYNC110 - another thread calls
        await asyncio.sleep(0)
    keeper.close()
    watching.join()
    assert (member.held, keeper.leases_lost) == (0, 1)
    assert isinstance(member._end, ConnectionLost)
