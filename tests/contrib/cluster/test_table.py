"""What is to be done, in the database: who gets which task when, what is refused, what is found again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest

from imapipe.contrib.cluster import listing, sweeping, table
from imapipe.contrib.cluster.begun import Begun
from imapipe.contrib.cluster.feeding import feed
from imapipe.contrib.cluster.jobs import make_tables
from imapipe.contrib.cluster.part import Part
from imapipe.contrib.cluster.planning import JobRequest, Planned
from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.contrib.cluster.task import Claim
from imapipe.database import Connection, Database, Parameters, Row
from imapipe.database.postgres import PostgresConnection
from imapipe.errors import AuthenticationFailed, CheckpointLocked, ConnectionFailed
from postgres_server import PostgresServer

AT_ONCE = 3


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    with Database(dsn).connect() as connection:
        yield connection


class Queue:
    """What Procrastinate has for workers, and a worker that takes it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.worker = connection.query("SELECT worker_id FROM procrastinate_register_worker_v1()")[0][0]

    def fetch(self) -> tuple[int, int, int] | None:
        """The next carrier, with the task and the ticket on it."""
        ((carrier, task, ticket),) = self.connection.query(
            "SELECT id, (args->>'task')::int, (args->>'ticket')::int FROM procrastinate_fetch_job_v2(NULL, :worker)",
            {"worker": self.worker},
        )
        return None if carrier is None else (carrier, task, ticket)

    def claim(self) -> Claim | None:
        """Take the next task, as a worker does."""
        fetched = self.fetch()
        if fetched is None:
            return None
        _, task, ticket = fetched
        return table.claim(self.connection, task, ticket, holder=f"{task} {ticket}", worker="w")

    def claim_all(self) -> list[Claim]:
        """Take all that is queued now."""
        return list(iter(self.claim, None))

    def die(self) -> None:
        """Let the heart of the worker have stopped long ago."""
        self.connection.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = :worker",
            {"worker": self.worker},
        )


def ask(connection: Connection, account: str, *, priority: int = 0, origin: str = "", **parameters: int) -> int:
    with connection.transaction():
        job = table.defer(
            connection,
            JobRequest(account=account, job="scan", parameters=parameters),
            priority=priority,
            due_ms=None,
            origin=origin or f"{account} {parameters}",
        )
        feed(connection, account, AT_ONCE)
    return job


def plan(connection: Connection, held: Claim, tasks: int) -> None:
    with connection.transaction():
        parts = [[Part(f"Box {number}")] for number in range(tasks)]
        assert table.planned(connection, held, Planned(parts), AT_ONCE)


def end(connection: Connection, held: Claim, *, planned: int, done: int, failed: int = 0) -> bool:
    outcomes = {part.key: MailboxOutcome(planned=planned, done=done, failed=failed) for part in held.parts}
    with connection.transaction():
        return table.ended(connection, held, outcomes, {}, AT_ONCE)


def began(connection: Connection, job: int) -> datetime | None:
    found = listing.find(connection, job)
    assert found is not None
    assert found.state == "running"
    return found.started_at


def test_a_job_begins_when_somebody_takes_it_and_not_when_it_is_queued(connection: Connection) -> None:
    queue = Queue(connection)
    job = ask(connection, "ann")
    assert began(connection, job) is None
    held = queue.claim()
    assert held is not None
    first = began(connection, job)
    assert first is not None
    plan(connection, held, 1)
    assert queue.claim() is not None
    assert began(connection, job) == first


def test_an_account_with_many_tasks_keeps_no_other_one_waiting(connection: Connection) -> None:
    queue = Queue(connection)
    ask(connection, "large")
    held = queue.claim()
    assert held is not None
    plan(connection, held, 50)
    ask(connection, "small")
    order = []
    while (held := queue.claim()) is not None:
        order.append(held.request.account)
        if held.kind == "plan":
            plan(connection, held, 2)
        else:
            assert end(connection, held, planned=1, done=1)
    assert Counter(order) == {"large": 50, "small": 3}
    # Between two tasks of the small one no more of the large one than may be queued.
    places = [at for at, account in enumerate(order) if account == "small"]
    assert places[0] == AT_ONCE
    assert max(after - before for before, after in pairwise(places)) <= AT_ONCE + 1
    assert listing.counts(connection) == {"waiting": 0, "queued": 0, "running": 0}


def test_of_an_account_no_more_than_so_many_tasks_are_at_work(connection: Connection) -> None:
    queue = Queue(connection)
    ask(connection, "ann")
    held = queue.claim()
    assert held is not None
    plan(connection, held, 10)
    claims = [queue.claim() for _ in range(5)]
    assert [claim is not None for claim in claims] == [True] * AT_ONCE + [False] * 2
    assert listing.counts(connection) == {"waiting": 10 - AT_ONCE, "queued": 0, "running": AT_ONCE}


def test_many_tasks_take_as_many_statements_as_one(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    execute, query = PostgresConnection.execute, PostgresConnection.query

    def executed(self: PostgresConnection, statement: str, parameters: Parameters | None = None) -> int:
        sent.append(statement)
        return execute(self, statement, parameters)

    def queried(self: PostgresConnection, statement: str, parameters: Parameters | None = None) -> list[Row]:
        sent.append(statement)
        return query(self, statement, parameters)

    monkeypatch.setattr(PostgresConnection, "execute", executed)
    monkeypatch.setattr(PostgresConnection, "query", queried)
    queue = Queue(connection)
    counts = []
    for account, tasks in (("ann", 1), ("bob", 200)):
        queue.claim_all()
        ask(connection, account)
        held = queue.claim()
        assert held is not None
        sent.clear()
        with connection.transaction():
            assert table.planned(connection, held, Planned([[Part(f"Box {n}")] for n in range(tasks)]), 100)
        counts.append(len(sent))
    assert counts[0] == counts[1]
    # In their order, and each carrier with its own task.
    boxes = [claim.parts[0].mailbox for claim in queue.claim_all() if claim.request.account == "bob"]
    assert boxes == [f"Box {n}" for n in range(100)]


def test_what_has_priority_goes_first_of_all_accounts(connection: Connection) -> None:
    queue = Queue(connection)
    for account, priority in (("ann", 0), ("bob", 5), ("eve", -1), ("dan", 5)):
        ask(connection, account, priority=priority)
    claims = [queue.claim() for _ in range(4)]
    assert [claim.request.account for claim in claims if claim is not None] == ["bob", "dan", "ann", "eve"]


def test_what_has_priority_goes_first_of_what_waits_of_an_account(connection: Connection) -> None:
    queue = Queue(connection)
    ask(connection, "ann", number=1)
    held = queue.claim()
    assert held is not None
    plan(connection, held, 5)
    urgent = ask(connection, "ann", priority=9, number=2)
    for claim in queue.claim_all()[:1]:
        assert end(connection, claim, planned=1, done=1)
    after = queue.claim()
    assert after is not None
    assert after.job_id == urgent


def test_a_ticket_is_taken_once_but_by_who_lost_the_answer(connection: Connection) -> None:
    queue = Queue(connection)
    ask(connection, "ann")
    fetched = queue.fetch()
    assert fetched is not None
    _, task, ticket = fetched
    assert table.claim(connection, task, ticket, holder="one", worker="w") is not None
    assert table.claim(connection, task, ticket, holder="one", worker="w") is not None
    assert table.claim(connection, task, ticket, holder="two", worker="w") is None
    assert table.claim(connection, task, ticket + 1, holder="one", worker="w") is None


def test_a_task_of_a_worker_that_died_goes_on_and_the_dead_can_write_nothing(connection: Connection) -> None:
    first, second = Queue(connection), Queue(connection)
    ask(connection, "ann")
    held = first.claim()
    assert held is not None
    plan(connection, held, 1)
    mine = first.claim()
    assert mine is not None
    assert sweeping.lost_tasks(connection, 30.0) == []
    first.die()
    ((task, ticket, account),) = sweeping.lost_tasks(connection, 30.0)
    assert (task, ticket, account) == (mine.task, mine.ticket, "ann")
    for expected in (True, False):
        # Two who sweep at once: the second one finds it done.
        with connection.transaction():
            taken = sweeping.take_back(connection, task, ticket, account, stale_seconds=30.0, at_once=AT_ONCE)
        assert taken is expected
    yours = second.claim()
    assert yours is not None
    assert (yours.task, yours.ticket) == (mine.task, mine.ticket + 1)
    # The first one only slept: what it has to say is refused, and its carrier is gone.
    assert not end(connection, mine, planned=1, done=1)
    with connection.transaction():
        assert not table.hand_back(connection, mine, {}, AT_ONCE)
        assert not table.failed(connection, mine, OSError("x"), {}, AT_ONCE, is_of_account=True)
        assert not table.cancelled(connection, mine, AT_ONCE)
    assert end(connection, yours, planned=1, done=1)
    (task_row,) = listing.tasks_of(connection, yours.job_id)[1:]
    assert (task_row.state, task_row.losses) == ("complete", 1)


def test_a_task_whose_carrier_is_gone_is_found(connection: Connection) -> None:
    ask(connection, "ann")
    connection.execute("DELETE FROM procrastinate_jobs")
    ((task, ticket, account),) = sweeping.lost_tasks(connection, 30.0)
    with connection.transaction():
        assert sweeping.take_back(connection, task, ticket, account, stale_seconds=30.0, at_once=AT_ONCE)
    held = Queue(connection).claim()
    assert held is not None
    assert (held.task, held.ticket) == (task, ticket + 1)


def test_a_task_that_kills_its_workers_is_given_up(connection: Connection) -> None:
    job = ask(connection, "ann")
    deaths = 0
    while (queue := Queue(connection)).claim() is not None:
        deaths += 1
        queue.die()
        ((task, ticket, account),) = sweeping.lost_tasks(connection, 30.0)
        with connection.transaction():
            assert sweeping.take_back(connection, task, ticket, account, stale_seconds=30.0, at_once=AT_ONCE)
        connection.execute("UPDATE imapipe_tasks SET due_ms = now_ms() WHERE state = 'waiting'")
        with connection.transaction():
            feed(connection, account, AT_ONCE)
    assert deaths == 20
    found = listing.find(connection, job)
    assert found is not None
    assert found.state == "failed"
    assert found.report is not None
    (outcome,) = found.report.mailboxes.values()
    assert outcome.error is not None
    assert outcome.error.text == "20 workers died, one after the other, while they had this task"


@pytest.mark.parametrize(("losses", "are_apart"), [(1, False), (2, True)])
def test_tasks_that_lost_their_workers_together_again_and_again_begin_apart(
    connection: Connection, losses: int, *, are_apart: bool
) -> None:
    """Else one that kills its workers takes the others along, until all of them are given up."""
    count = 10
    queue = Queue(connection)
    for number in range(count):
        ask(connection, f"ann{number}")
        assert queue.claim() is not None
    connection.execute("UPDATE imapipe_tasks SET losses = :losses", {"losses": losses})
    queue.die()
    for task, ticket, account in sweeping.lost_tasks(connection, 30.0):
        with connection.transaction():
            assert sweeping.take_back(connection, task, ticket, account, stale_seconds=30.0, at_once=AT_ONCE)
    rows = connection.query("SELECT due_ms - now_ms(), losses FROM imapipe_tasks")
    assert [lost for _, lost in rows] == [losses + 1] * count
    assert all(left <= 30_000 for left, _ in rows)
    # That all ten are due already is next to impossible, even five seconds later: a sixth of a sixth, ten times.
    assert any(left > 0 for left, _ in rows) is are_apart


def test_a_task_that_gets_on_in_between_is_not_given_up(connection: Connection) -> None:
    job = ask(connection, "ann")
    for deaths in range(30):
        queue = Queue(connection)
        held = queue.claim()
        assert held is not None
        assert held.losses == min(deaths, 1)
        with connection.transaction():
            assert table.got_on(connection, held, deaths + 1)
            assert not table.got_on(connection, held, deaths + 1)
        queue.die()
        ((task, ticket, account),) = sweeping.lost_tasks(connection, 30.0)
        with connection.transaction():
            assert sweeping.take_back(connection, task, ticket, account, stale_seconds=30.0, at_once=AT_ONCE)
    found = listing.find(connection, job)
    assert found is not None
    assert not found.is_ended


@pytest.mark.parametrize(("error", "losses"), [(None, 0), (CheckpointLocked("held"), 19)])
def test_a_task_that_a_worker_lived_with_is_not_given_up(
    connection: Connection, error: Exception | None, losses: int
) -> None:
    ask(connection, "ann")
    held = Queue(connection).claim()
    assert held is not None
    connection.execute("UPDATE imapipe_tasks SET losses = 19")
    with connection.transaction():
        assert table.hand_back(connection, held, {}, AT_ONCE, error=error)
    assert connection.query("SELECT losses FROM imapipe_tasks") == [(losses,)]


def test_how_much_there_is_to_do_is_kept_of_mailboxes_of_any_name(connection: Connection) -> None:
    queue = Queue(connection)
    ask(connection, "ann")
    held = queue.claim()
    assert held is not None
    begun = {" a\0b": Begun("s", 1, 5, 5, 0, 0), " INBOX": Begun("s", 1, 3, 2, 1, 0)}
    for key, each in begun.items():
        with connection.transaction():
            table.note_begun(connection, held, key, each)
    with connection.transaction():
        table.note_begun(connection, replace(held, ticket=held.ticket + 1), " INBOX", Begun("s", 2, 0, 0, 0, 0))
    again = table.claim(connection, held.task, held.ticket, holder=f"{held.task} {held.ticket}", worker="w")
    assert again is not None
    assert again.begun == begun


def test_a_job_that_has_begun_waits_for_none_that_came_later(connection: Connection) -> None:
    """Its look was handed back, and one of the same kind with a higher priority waits for it to end."""
    queue = Queue(connection)
    first = ask(connection, "ann", origin="first")
    held = queue.claim()
    assert held is not None
    ask(connection, "ann", priority=5, origin="second")
    with connection.transaction():
        assert table.hand_back(connection, held, {}, AT_ONCE)
    again = queue.claim()
    assert again is not None
    assert again.job_id == first


def test_an_account_that_rests_is_tried_with_one_task(connection: Connection) -> None:
    queue = Queue(connection)
    ask(connection, "ann")
    held = queue.claim()
    assert held is not None
    plan(connection, held, 6)
    claims = queue.claim_all()
    refused = AuthenticationFailed("LOGIN", "NO", "", "no")
    for claim in claims:
        with connection.transaction():
            assert table.hand_back(
                connection, claim, {}, AT_ONCE, error=refused, wait_seconds=900.0, is_fault=True, rests=True
            )
    # Nothing of the account is queued, for as long as it rests.
    assert queue.claim() is None
    with connection.transaction():
        assert sweeping.hungry_accounts(connection, AT_ONCE, since_ms=None) == []
    connection.execute("UPDATE imapipe_resting SET rests_until_ms = now_ms() - 1")
    connection.execute("UPDATE imapipe_tasks SET due_ms = now_ms() - 1 WHERE state = 'waiting'")
    with connection.transaction():
        assert sweeping.hungry_accounts(connection, AT_ONCE, since_ms=None) == ["ann"]
        feed(connection, "ann", AT_ONCE)
    probe = queue.claim()
    assert probe is not None
    assert (probe.task, probe.tries) == (claims[0].task, 1)
    assert queue.claim() is None
    assert end(connection, probe, planned=1, done=1)
    # It works again.
    assert len(queue.claim_all()) == AT_ONCE


def test_where_the_account_is_of_no_use_the_whole_job_has_failed(connection: Connection) -> None:
    queue = Queue(connection)
    job = ask(connection, "ann")
    held = queue.claim()
    assert held is not None
    plan(connection, held, 6)
    claims = queue.claim_all()
    assert end(connection, claims[0], planned=3, done=3)
    error = AuthenticationFailed("LOGIN", "NO", "", "no")
    with connection.transaction():
        assert table.failed(connection, claims[1], error, {}, AT_ONCE, is_of_account=True)
    assert end(connection, claims[2], planned=2, done=1, failed=1)
    found = listing.find(connection, job)
    assert found is not None
    assert found.report is not None
    assert found.state == "partial"
    report = found.report
    assert (report.planned, report.done, report.failed, report.complete) == (5, 4, 1, False)
    errors = [each.error.type for each in report.mailboxes.values() if each.error is not None]
    assert errors == ["AuthenticationFailed"] * 4


def test_what_failed_is_done_again_on_demand_and_what_is_complete_is_not(connection: Connection) -> None:
    queue = Queue(connection)
    job = ask(connection, "ann")
    held = queue.claim()
    assert held is not None
    plan(connection, held, 3)
    one, two, three = queue.claim_all()
    assert end(connection, one, planned=3, done=3)
    with connection.transaction():
        assert table.failed(connection, two, OSError("no"), {}, AT_ONCE, is_of_account=False)
        partial = {part.key: MailboxOutcome(planned=2, done=1, failed=1, complete=False) for part in three.parts}
        assert table.ended(connection, three, partial, {}, AT_ONCE)
    before = listing.find(connection, job)
    assert before is not None
    assert (before.state, dict(before.tasks)) == ("partial", {"complete": 2, "failed": 1, "partial": 1})
    with connection.transaction():
        listing.retry(connection, job)
        feed(connection, "ann", AT_ONCE)
    again = queue.claim_all()
    assert [claim.task for claim in again] == [two.task, three.task]
    assert [claim.tries for claim in again] == [0, 0]
    for claim in again:
        assert end(connection, claim, planned=2, done=2)
    after = listing.find(connection, job)
    assert after is not None
    assert after.state == "complete"
    assert after.report is not None
    assert (after.report.planned, after.report.done, after.report.failed) == (7, 7, 0)


def test_a_job_that_is_cancelled_begins_nothing_more(connection: Connection) -> None:
    queue = Queue(connection)
    job = ask(connection, "ann")
    other = ask(connection, "ann", number=2)
    held = queue.claim()
    assert held is not None
    plan(connection, held, 6)
    running = [claim for claim in queue.claim_all() if claim.job_id == job]
    with connection.transaction():
        listing.cancel(connection, job)
        listing.cancel(connection, 999)
    found = listing.find(connection, job)
    assert found is not None
    assert found.state == "cancelling"
    # Procrastinate tells whoever has one of them.
    aborting = connection.query("SELECT count(*) FROM procrastinate_jobs WHERE abort_requested")
    assert aborting == [(len(running),)]
    for claim in running:
        with connection.transaction():
            # One that was about to be handed back, and one that heard of it.
            assert table.hand_back(connection, claim, {}, AT_ONCE, error=ConnectionFailed("x"), wait_seconds=9.0)
    found = listing.find(connection, job)
    assert found is not None
    assert found.state == "cancelled"
    assert found.report is not None
    assert not found.report.complete
    left = listing.find(connection, other)
    assert left is not None
    assert not left.is_ended


def test_old_jobs_are_forgotten_and_young_ones_are_not(connection: Connection) -> None:
    queue = Queue(connection)
    old, young = ask(connection, "ann"), ask(connection, "bob")
    for _ in range(2):
        held = queue.claim()
        assert held is not None
        plan(connection, held, 0)
    connection.execute("UPDATE imapipe_jobs SET ended_ms = ended_ms - 100000 WHERE id = :job", {"job": old})
    with connection.transaction():
        assert sweeping.forget_old(connection, 50.0) == 1
    assert listing.find(connection, old) is None
    assert listing.tasks_of(connection, old) == []
    kept = listing.find(connection, young)
    assert kept is not None
    assert kept.state == "complete"


def test_a_task_with_a_time_is_not_begun_before(connection: Connection) -> None:
    queue = Queue(connection)
    with connection.transaction():
        ((now_ms,),) = connection.query("SELECT now_ms()")
        request = JobRequest(account="ann", job="scan")
        table.defer(connection, request, priority=0, due_ms=now_ms + 3_600_000, origin="later")
        feed(connection, "ann", AT_ONCE)
        assert sweeping.hungry_accounts(connection, AT_ONCE, since_ms=None) == []
    assert queue.claim() is None
    connection.execute("UPDATE imapipe_tasks SET due_ms = now_ms() - 10")
    with connection.transaction():
        ((now_ms,),) = connection.query("SELECT now_ms()")
        assert sweeping.hungry_accounts(connection, AT_ONCE, since_ms=now_ms) == []
        assert sweeping.hungry_accounts(connection, AT_ONCE, since_ms=now_ms - 1_000) == ["ann"]
        assert sweeping.hungry_accounts(connection, AT_ONCE, since_ms=None) == ["ann"]


def test_many_may_make_the_tables_at_once(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()

    def make(_: int) -> bool:
        with Database(dsn).connect() as connection:
            make_tables(connection)
            return connection.has_table("imapipe_tasks")

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(make, range(3))) == [True] * 3
