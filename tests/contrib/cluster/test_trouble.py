"""What goes wrong between planning and the end: mail that comes, numbers that change, logins, leases, workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

import pytest
from tests.contrib.cluster.places import SMALL, Place, place, until, write

import imapipe
from imapipe import search as q
from imapipe.cluster import Limits
from imapipe.contrib.cluster import verdict
from imapipe.contrib.cluster.begun import Begun, NotesBegun
from imapipe.contrib.cluster.part import JobKind, Kept, Part, run_part
from imapipe.contrib.cluster.planning import JobRequest, Sizes, divide, plan_tasks
from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.contrib.cluster.verdict import MOST_TRIES, NotRegistered, OverQuota, Verdict, judge
from imapipe.contrib.job_function import JobFunction
from imapipe.contrib.jobs import Work
from imapipe.database import Database
from imapipe.middleware.base import Call, Layer, Middleware, Run
from imapipe.models.batch import BatchResult
from imapipe.store import SqlCheckpointStore
from imapipe.store.job_key import JobKey
from imapipe.store.memory_store import MemoryCheckpointStore
from imapipe.testing import Server, make_messages
from imapipe.wire.uid_set import UidSet
from postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio


async def test_mail_that_comes_between_planning_and_running_falls_between_no_parts(dsn: str) -> None:
    handled: list[int] = []

    def scan(pool: imapipe.Pool, mailbox: str) -> object:
        async def handle(message: imapipe.Message) -> None:
            handled.append(message.uid)

        return Work(pool.mailbox(mailbox).search(q.ALL), lambda job: job.run(handle))

    kind, kept = JobKind(JobFunction(scan)), Kept(SqlCheckpointStore(dsn), "scan")
    sizes = Sizes(shard_messages=5)
    async with Server(40) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        inbox = server.mailboxes["INBOX"]
        request = JobRequest(account="ann", job="scan", shards=4)
        plan = await plan_tasks(request, kind, pool, kept, sizes)
        inbox.extend(make_messages(7))
        inbox.expunge([12])
        planned = 0
        for (part,) in plan.tasks:
            report = (await run_part(part, kind, pool, {}, kept)).to_dict()
            planned += int(str(report["planned"]))
            # And more while others are done.
            inbox.extend(make_messages(1))
        everything = set(range(1, 51)) - {12}
        again = await plan_tasks(request, kind, pool, kept, sizes)
        for task in again.tasks:
            for part in task:
                await run_part(part, kind, pool, {}, kept)
    assert len(plan.tasks) == 4
    assert planned == 46 + 3
    assert sorted(handled) == sorted({*everything, 51})


async def test_ranges_cover_every_uid_once_and_hold_equally_many() -> None:
    uids = UidSet.from_numbers([*range(1, 100, 3), *range(5_000, 5_020), 1_000_000])
    for count in (1, 2, 5, 13, 100):
        parts = divide("INBOX", uids, count, 7)
        ends = [(part.first, part.last) for part in parts]
        assert ends[0][0] == 1
        assert ends[-1][1] is None
        assert all(before[1] is not None and before[1] + 1 == after[0] for before, after in pairwise(ends))
        held = [len(uids & UidSet.from_ranges([(first, last or 2**32 - 1)])) for first, last in ends]
        assert sum(held) == len(uids)
        assert max(held) - min(held) <= 1
    assert [part.shard for part in divide("INBOX", UidSet(), 5, 7)] == ["1/1"]


async def test_a_mailbox_that_was_renumbered_meanwhile_is_told_and_never_mixed(dsn: str) -> None:
    async with place(dsn, {"INBOX": 80, "Other": 3}) as here:
        kept = Kept(here.cluster.store, "scan")
        kind = JobKind(JobFunction(here.scan))
        request = JobRequest(account="ann", job="scan", shards=4)
        async with here.cluster.pools.use("ann") as pool:
            plan = await plan_tasks(request, kind, pool, kept, SMALL)
            first, *others = (part for task in plan.tasks for part in task if part.shard)
            await run_part(first, kind, pool, {}, kept)
            here.server.mailboxes["INBOX"].change_uidvalidity()
            for part in others:
                with pytest.raises(imapipe.UidValidityChanged, match="divide the mailbox again"):
                    await run_part(part, kind, pool, {}, kept)
        # What is known of it is of other UIDs: no job takes it for what it was.
        async with here.worker():
            job = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=4), every_seconds=0.05)
    assert len(here.handled) == 20 + 3
    assert job.report is not None
    assert not job.report.complete
    error = job.report.mailboxes["INBOX"].error
    assert error is not None
    assert error.type == "UidValidityChanged"
    assert job.report.mailboxes["Other"].complete


async def test_a_job_may_begin_anew_where_a_mailbox_was_renumbered(dsn: str) -> None:
    async with place(dsn, {"INBOX": 50}) as here:

        def anew(pool: imapipe.Pool, mailbox: str) -> object:
            return here.scan(pool, mailbox)

        here.cluster.job(on_uidvalidity="restart")(anew)
        async with here.worker():
            first = await here.cluster.wait(await here.cluster.defer("ann", "anew", shards=2), every_seconds=0.05)
            here.server.mailboxes["INBOX"].change_uidvalidity()
            second = await here.cluster.wait(await here.cluster.defer("ann", "anew", shards=2), every_seconds=0.05)
    for job in (first, second):
        assert job.report is not None
        assert (job.report.planned, job.report.done, job.report.complete) == (50, 50, True)
    assert set(here.handled.values()) == {2}


@pytest.mark.parametrize("on_uidvalidity", ["restart", "raise"])
async def test_a_mailbox_that_is_renumbered_while_its_parts_are_at_work_is_planned_again(
    dsn: str, on_uidvalidity: Literal["restart", "raise"]
) -> None:
    """What was done of it counts as done; all else of the job, and what is left of this mailbox, is done as ever."""
    async with place(dsn, {"INBOX": 80, "Other": 3}) as here:
        looks = 0

        def divided(pool: imapipe.Pool, mailbox: str) -> object:
            nonlocal looks
            looks += mailbox == "INBOX"
            # The function is asked once for the look, and once for each part: one part is done.
            if looks == 3:
                here.server.mailboxes["INBOX"].change_uidvalidity()
            return here.scan(pool, mailbox)

        here.cluster.job(on_uidvalidity=on_uidvalidity)(divided)
        async with here.worker(concurrency=1):
            number = await here.cluster.defer("ann", "divided", shards=4)
            job = await here.cluster.wait(number, every_seconds=0.05)
        kinds = Counter(task.kind for task in await here.cluster.tasks(number))
    assert kinds["plan"] == 2
    assert here.handled["ann", "Other", 1] == 1
    report = job.report
    assert report is not None
    inbox = report.mailboxes["INBOX"]
    assert here.handled.total() == report.done == report.planned == inbox.done + 3
    if on_uidvalidity == "restart":
        assert (job.state, inbox.done, inbox.complete) == ("complete", 20 + 80, True)
        assert {uid for _, mailbox, uid in here.handled if mailbox == "INBOX"} == set(range(1, 81))
    else:
        # A checkpoint knows other messages by these numbers, and the job does not want to begin anew.
        assert (job.state, inbox.done, inbox.complete) == ("partial", 20, False)
        assert inbox.error is not None
        assert inbox.error.type == "UidValidityChanged"


async def test_a_mailbox_that_is_renumbered_again_and_again_ends_the_job(dsn: str) -> None:
    async with place(dsn, {"INBOX": 80}) as here:
        looks = 0
        inbox = here.server.mailboxes["INBOX"]

        def divided(pool: imapipe.Pool, mailbox: str) -> object:
            nonlocal looks
            looks += 1
            # The function is asked once for the look, and once for each part.
            if looks % 5 == 2:
                inbox.change_uidvalidity()
            return here.scan(pool, mailbox)

        here.cluster.job(on_uidvalidity="restart")(divided)
        async with here.worker(concurrency=1):
            number = await here.cluster.defer("ann", "divided", shards=4)
            job = await here.cluster.wait(number, every_seconds=0.05)
        tasks = Counter((task.kind, task.state) for task in await here.cluster.tasks(number))
    assert job.state == "partial"
    assert looks == 10
    assert tasks == {("plan", "complete"): 2, ("run", "complete"): 4, ("run", "partial"): 4}
    assert job.report is not None
    error = job.report.mailboxes["INBOX"].error
    assert error is not None
    assert error.type == "UidValidityChanged"
    assert not here.handled


async def test_a_login_that_is_refused_lets_the_account_rest_and_is_tried_again_on_demand(dsn: str) -> None:
    async with place(dsn, {"INBOX": 10}) as here:
        here.password = "guess"
        async with here.worker():
            number = await here.cluster.defer("ann", "scan")
            await until(lambda: here.has_waited(number))
            (task,) = await here.cluster.tasks(number)
            logins = len(here.server.commands.named("LOGIN", "AUTHENTICATE"))
            await asyncio.sleep(0.5)
            assert len(here.server.commands.named("LOGIN", "AUTHENTICATE")) == logins
            # Pools are kept open for a while; this one has the wrong password.
            await here.cluster.pools.close()
            here.password = here.server.password
            async with here.cluster.pools:
                await here.cluster.retry(number)
                job = await here.cluster.wait(number, every_seconds=0.05)
    assert (task.state, task.tries) == ("waiting", 1)
    assert task.error is not None
    assert task.error.type == "AuthenticationFailed"
    assert 800 < (task.due_at - datetime.now(UTC)).total_seconds() < 900
    assert job.state == "complete"
    assert job.report is not None
    assert job.report.done == 10


async def test_errors_are_tried_again_by_their_class_and_never_for_ever() -> None:
    refused = imapipe.AuthenticationFailed("LOGIN", "NO", "", "no")
    throttled = imapipe.Throttled("LOGIN", "NO", "", "slower", retry_after_seconds=7.0)
    lost, locked = imapipe.ConnectionFailed("no"), imapipe.CheckpointLocked("another run has it")

    def waits(error: Exception, tries: int = 1) -> float | None:
        return judge(error, tries, lease_seconds=30.0).wait_seconds

    assert [waits(refused, tries) for tries in (1, 2, 3, 4)] == [900.0, 3_600.0, 14_400.0, None]
    assert [waits(throttled, tries) for tries in (1, 5, MOST_TRIES, MOST_TRIES + 1)] == [7.0, 7.0, 7.0, None]
    assert [waits(lost, tries) for tries in (1, 2, 3, MOST_TRIES, MOST_TRIES + 1)] == [10.0, 20.0, 40.0, 3_600.0, None]
    assert [waits(locked, tries) for tries in (1, 100, 201)] == [10.0, 10.0, None]
    day = imapipe.Throttled("FETCH", "NO", "OVERQUOTA", "enough", retry_at=datetime.now(UTC) + timedelta(days=1))
    assert waits(day) == pytest.approx(86_400, abs=60)
    assert waits(imapipe.DatabaseError("away", is_transient=True)) == 5.0
    assert waits(imapipe.DatabaseError("no table")) is None
    assert [waits(NotRegistered("scan"), tries) for tries in (1, 2, MOST_TRIES + 1)] == [10.0, 20.0, None]
    assert not judge(NotRegistered("scan"), 1, lease_seconds=30.0).rests
    assert waits(imapipe.ConnectionFailed("certificate", is_permanent=True)) is None
    assert waits(ValueError("x")) is None
    assert waits(imapipe.CheckpointMismatch("x")) is None
    # The account rests where the server said no to all of it, and nobody is at fault where a lease runs.
    assert all(judge(error, 1, lease_seconds=30.0).rests for error in (refused, throttled, lost))
    assert not judge(locked, 1, lease_seconds=30.0).rests
    # A checkpoint that was lost is another's now: the same.
    for error in (locked, imapipe.CheckpointLost("its lease ran out")):
        assert waits(error, 100) == 10.0
        assert not judge(error, 1, lease_seconds=30.0).is_fault


async def test_a_job_that_a_worker_does_not_know_waits_for_one_that_does(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while workers are replaced one by one."""
    monkeypatch.setattr(verdict, "_OTHER_WORKER_SECONDS", 0.01)
    async with place(dsn, {"INBOX": 5}) as old:

        def newer(pool: imapipe.Pool, mailbox: str) -> object:
            return new.scan(pool, mailbox)

        new = Place(dsn, old.server)
        new.cluster.job(newer)
        async with new.cluster:
            asked = await new.cluster.defer("ann", "newer")
            async with old.worker():
                await until(lambda: new.has_waited(asked))
                (task,) = await new.cluster.tasks(asked)
                assert "knows no job 'newer': start workers with the module" in str(task.error)
            async with new.worker():
                job = await new.cluster.wait(asked, every_seconds=0.05)
    assert job.state == "complete"
    assert len(new.handled) == 5


class Quota(Middleware):
    """Ends a run behind its first batch, and says when there is more."""

    is_used_up = True

    async def start(self, run: Run) -> Layer:
        return QuotaLayer(self, run)


class QuotaLayer(Layer):
    def __init__(self, quota: Quota, run: Run) -> None:
        self.quota, self.run = quota, run

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> BatchResult:
        result = await call_next(batch)
        if self.quota.is_used_up:
            self.run.give_up("the quota is used up", retry_at=datetime.now(UTC) + timedelta(days=1))
        return result


async def test_what_a_quota_leaves_over_is_done_when_there_is_one_again(dsn: str) -> None:
    """The task waits, of all its mailboxes for what is left, and the report tells one job."""
    quota = Quota()
    async with place(dsn, {"INBOX": 60, "Other": 5}) as here:

        def limited(pool: imapipe.Pool, mailbox: str) -> object:
            work = here.scan(pool, mailbox)
            assert isinstance(work, Work)
            return work.of(work.job.use(quota)) if mailbox == "INBOX" else work

        here.cluster.job(limited)
        async with here.worker():
            number = await here.cluster.defer("ann", "limited")
            await until(lambda: here.has_waited(number))
            (task,) = [task for task in await here.cluster.tasks(number) if task.kind == "run"]
            assert task.error is not None
            assert (task.error.type, task.tries) == ("OverQuota", 0)
            assert task.due_at - datetime.now(UTC) > timedelta(hours=23)
            assert 15 <= len(here.handled) < 65
            # A day later.
            quota.is_used_up = False
            await write(
                dsn,
                "UPDATE imapipe_tasks SET due_ms = now_ms() WHERE state = 'waiting'",
                "UPDATE imapipe_resting SET rests_until_ms = now_ms()",
            )
            job = await here.cluster.wait(number, every_seconds=0.05)
    assert (job.state, set(here.handled.values())) == ("complete", {1})
    assert job.report is not None
    assert (job.report.planned, job.report.done, job.report.skipped) == (65, 65, 0)


async def test_an_account_that_is_over_its_budget_has_no_place_of_a_worker(dsn: str) -> None:
    async with place(dsn, {"INBOX": 300}, bytes_per_day=2_000) as here, here.worker(concurrency=1):
        over = await here.cluster.defer("ann", "scan")
        await until(lambda: here.has_waited(over))
        assert 0 < len(here.handled) < 300
        (task,) = [task for task in await here.cluster.tasks(over) if task.kind == "run"]
        assert task.error is not None
        assert (task.error.type, task.tries) == ("OverQuota", 0)
        assert task.due_at - datetime.now(UTC) > timedelta(hours=22)
        # There is one place, and it is free for another account, of which nothing is to be read.
        other = await here.cluster.defer("bob", "scan", mailboxes="None")

        async def has_ended() -> bool:
            return (await here.cluster.get(other)).is_ended

        await until(has_ended)
        # Nothing else of that account is tried before there is something again.
        await here.cluster.defer("ann", "scan", owner="bob")
        with Database(dsn).connect() as connection:
            assert connection.query("SELECT count(*) FROM imapipe_tasks WHERE state = 'waiting'") == [(2,)]


async def test_a_quota_that_lets_nothing_through_ends_the_job_some_day() -> None:
    def judged(tries: int, *, got_on: bool) -> Verdict:
        return judge(OverQuota(datetime.now(UTC), got_on=got_on), tries, lease_seconds=30.0)

    assert judged(MOST_TRIES + 1, got_on=True) == Verdict(1.0, rests=True, is_fault=False)
    assert judged(MOST_TRIES, got_on=False) == Verdict(1.0, rests=True)
    assert judged(MOST_TRIES + 1, got_on=False).wait_seconds is None


async def test_a_task_whose_checkpoint_another_holds_waits_and_loses_no_try(dsn: str) -> None:
    async with place(dsn, {"INBOX": 10}, lease_seconds=3.0) as here:
        store = SqlCheckpointStore(dsn)
        async with here.cluster.pools.use("ann") as pool:
            account = pool.account
        holding = await store.open(JobKey(account, "INBOX", "scan"), lambda _: None)
        async with here.worker():
            number = await here.cluster.defer("ann", "scan")
            await until(lambda: here.has_waited(number))
            _, task = await here.cluster.tasks(number)
            await holding.release()
            job = await here.cluster.wait(number, every_seconds=0.05)
    assert task.error is not None
    assert (task.error.type, task.tries) == ("CheckpointLocked", 0)
    assert job.report is not None
    assert (job.report.done, job.report.complete) == (10, True)


async def test_a_worker_that_only_looked_dead_does_no_harm_and_its_work_counts(dsn: str) -> None:
    """Its event loop was blocked for longer than its heart may stand still: another one has its task by then."""
    begun, gate = asyncio.Event(), asyncio.Event()
    async with place(dsn, {"INBOX": 20}) as first:
        second = Place(dsn, first.server)

        async def wait(message: imapipe.Message) -> None:
            begun.set()
            await gate.wait()

        first.handle = wait
        # With one place it does not take what is taken from it.
        async with first.worker(concurrency=1) as worker:
            number = await first.cluster.defer("ann", "scan")
            await begun.wait()

            async def looks_dead() -> bool:
                """Its heart beats on, so again and again it is made to look as if it did not.

                For longer than it may stand still, and not for so long that it is forgotten: the other one would be
                the first one then.
                """
                await write(
                    dsn,
                    "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '5 minutes' "
                    "WHERE id = (SELECT min(id) FROM procrastinate_workers)",
                )
                return await second.has_waited(number)

            async def has_lost() -> bool:
                return "lost" in worker.tallies

            async with second.worker():
                await until(looks_dead)
                waiting = (await second.cluster.tasks(number))[1]
                gate.set()
                # Its leases are so long that nobody else ends them; the next try need not wait for a third of them.
                await until(has_lost)
                await write(dsn, "UPDATE imapipe_tasks SET due_ms = now_ms() WHERE state = 'waiting'")
                job = await second.cluster.wait(number, every_seconds=0.05)
        ends = worker.tallies
        await second.cluster.close()
    assert waiting.error is not None
    assert waiting.error.type == "CheckpointLocked"
    assert waiting.losses >= 1
    assert job.state == "complete"
    assert job.report is not None
    assert (job.report.planned, job.report.done, job.report.skipped) == (20, 20, 0)
    assert set(first.handled.values()) == {1}
    assert not second.handled
    assert ends["lost"] >= 1


@pytest.fixture
def one_died(dsn: str) -> Iterator[None]:
    """Every task begins as one that a worker died with."""
    with Database(dsn).connect() as connection:
        connection.execute("ALTER TABLE imapipe_tasks ALTER losses SET DEFAULT 1")
        yield
        connection.execute("ALTER TABLE imapipe_tasks ALTER losses SET DEFAULT 0")


@pytest.mark.usefixtures("one_died")
async def test_a_task_that_was_done_when_its_worker_died_is_ended_without_being_begun_anew(dsn: str) -> None:
    """How much there is to do is written down by tries that follow a death, and the checkpoint tells what is done."""
    async with place(dsn, {"INBOX": 30, "Other": 5}) as here, here.worker():
        number = await here.cluster.defer("ann", "scan")
        first = await here.cluster.wait(number, every_seconds=0.05)
        asked = len(here.server.commands)
        # As if nobody had told.
        await write(
            dsn,
            "UPDATE imapipe_tasks SET state = 'running', ended_ms = NULL, outcome = NULL WHERE kind = 'run'",
            "UPDATE imapipe_jobs SET state = 'running', ended_ms = NULL, report = NULL",
        )
        again = await here.cluster.wait(number, every_seconds=0.05)
        assert len(here.server.commands) == asked
    assert first.report is not None
    assert again.report is not None
    assert again.report.mailboxes.keys() == first.report.mailboxes.keys()
    for name, outcome in again.report.mailboxes.items():
        assert replace(outcome, bytes_received=0) == replace(first.report.mailboxes[name], bytes_received=0)
    assert (again.state, again.report.done) == ("complete", 35)


async def test_what_is_told_of_a_run_that_came_to_its_end_is_what_it_would_have_told() -> None:
    noted: list[Begun] = []

    async def note(begun: Begun) -> None:
        noted.append(begun)

    kept = Kept(MemoryCheckpointStore(), "scan")
    async with Server(30) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        fails = 20

        def scan(pool: imapipe.Pool, mailbox: str) -> object:
            async def handle(message: imapipe.Message) -> None:
                if message.uid > fails:
                    raise ValueError("by the test")

            return Work(pool.mailbox(mailbox).search(q.ALL), lambda job: job.run(handle))

        async def run() -> MailboxOutcome | None:
            await run_part(Part("INBOX"), JobKind(JobFunction(scan)), pool, {}, kept, inside=[NotesBegun(note)])
            return await told()

        async def told(done_before: int = 0) -> MailboxOutcome | None:
            ((_, state),) = await kept.states_of(pool.account, [Part("INBOX")])
            return noted[-1].outcome(state, done_before=done_before)

        # Ten have failed: there is something left.
        assert await run() is None
        first = noted[0]
        fails = 30
        assert await run() == MailboxOutcome(planned=30, done=30)
        assert await told(done_before=20) == MailboxOutcome(planned=30, done=10, skipped=20)
        assert [(each.planned, each.left, each.done) for each in noted] == [(30, 30, 0), (30, 10, 20)]
        # Another run began since: what was written down before it says nothing.
        ((_, state),) = await kept.states_of(pool.account, [Part("INBOX")])
        assert first.outcome(state, done_before=0) is None
        assert noted[-1].outcome(replace(state, extra={"owed": 1}), done_before=0) is None
        assert noted[-1].outcome(replace(state, series="another"), done_before=0) is None


async def test_a_job_that_is_cancelled_ends_while_it_runs_and_keeps_what_is_done(dsn: str) -> None:
    async with place(dsn, {"INBOX": 50}) as here, here.worker():
        gate = asyncio.Event()

        async def wait(message: imapipe.Message) -> None:
            if message.uid > 20:
                await gate.wait()

        here.handle = wait
        number = await here.cluster.defer("ann", "scan")
        await until(lambda: here.has_handled(20))
        cancelling = await here.cluster.cancel(number)
        cancelled = await here.cluster.wait(number, every_seconds=0.05)
        here.handle = None
        again = await here.cluster.wait((await here.cluster.retry(number)).id, every_seconds=0.05)
    assert cancelling.state in {"cancelling", "cancelled"}
    assert cancelled.state == "cancelled"
    assert again.state == "complete"
    assert again.report is not None
    assert (again.report.planned, again.report.done) == (50, 50)
    assert set(here.handled.values()) == {1}
    assert len(here.handled) == 50


async def test_a_schedule_asks_once_for_each_time_and_does_not_pile_up(dsn: str) -> None:
    # Both accounts are the same one to the server, and so to checkpoints: one waits for the other.
    async with place(dsn, {"INBOX": 5}, lease_seconds=3.0) as here:
        asked: list[list[str]] = []

        async def accounts() -> list[str]:
            asked.append(["ann", "bob"])
            return asked[-1]

        here.cluster.schedule("0 3 * * *", "scan", accounts, name="nightly", mailboxes="INBOX")
        with pytest.raises(ValueError, match="is no time of cron"):
            here.cluster.schedule("every day", "scan", accounts, name="x")
        with pytest.raises(ValueError, match="there is a schedule 'nightly' already"):
            here.cluster.schedule("0 3 * * *", "scan", accounts, name="nightly")
        first = [await here.cluster.ask_scheduled("nightly", 1_000) for _ in range(2)]
        # One task of each is queued, and another job of the same kind waits: no third one.
        jobs = await here.cluster.list()
        assert await here.cluster.ask_scheduled("gone", 1_000) == 0
        async with here.worker():
            for job in jobs:
                await here.cluster.wait(job.id, every_seconds=0.05)
        second = await here.cluster.ask_scheduled("nightly", 87_400)
    assert first[0] == 2
    assert len(jobs) == 2
    assert {job.account for job in jobs} == {"ann", "bob"}
    assert second == 2
    assert len(asked) == 3


@pytest.mark.slow
async def test_workers_ask_for_what_is_scheduled(dsn: str) -> None:
    async with place(dsn, {"INBOX": 5}) as here:
        # Every second, by the sixth field.
        here.cluster.schedule("* * * * * */1", "scan", ["ann"])
        async with here.worker():
            await until(lambda: _has_ended(here))
        jobs = await here.cluster.list(state="complete")
    assert jobs[-1].account == "ann"
    assert set(here.handled.values()) == {1}


async def _has_ended(here: Place) -> bool:
    return any(job.is_ended for job in await here.cluster.list())


@pytest.mark.parametrize("ends", ["when the database is back", "when it is told to"])
async def test_a_worker_that_begins_while_the_database_is_away_waits_for_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    away = imapipe.DatabaseError("the database system is starting up", is_transient=True)
    tries: list[object] = []
    begin_limits, begin_store = Limits.open, SqlCheckpointStore.keep_open

    async def open_limits(limits: Limits) -> None:
        tries.append("limits")
        if tries.count("limits") == 1 or ends == "when it is told to":
            raise away
        await begin_limits(limits)

    def keep_open(store: SqlCheckpointStore) -> object:
        tries.append("store")
        if tries.count("store") == 1:
            raise imapipe.CheckpointError("connection failed") from away
        return begin_store(store)

    monkeypatch.setattr(Limits, "open", open_limits)
    monkeypatch.setattr(SqlCheckpointStore, "keep_open", keep_open)
    async with place(dsn, {"INBOX": 5}) as here, here.worker():
        if ends == "when the database is back":
            assert (await here.cluster.wait(await here.cluster.defer("ann", "scan"))).state == "complete"
            assert tries == ["store", "store", "limits", "store", "limits"]
        else:
            async with asyncio.timeout(60):
                while tries.count("limits") < 2:  # noqa: ASYNC110 - what is waited for is in a list
                    await asyncio.sleep(0.01)


async def test_a_worker_that_begins_tells_at_once_what_does_not_pass(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_open(_: SqlCheckpointStore) -> object:
        raise imapipe.CheckpointError("it belongs to a newer imapipe")

    monkeypatch.setattr(SqlCheckpointStore, "keep_open", keep_open)
    async with place(dsn, {"INBOX": 5}) as here:
        with pytest.raises(imapipe.CheckpointError, match="newer imapipe"):
            await here.cluster.worker().run()


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")
async def test_a_database_that_is_restarted_ends_no_worker_and_no_run() -> None:
    """It is away for less than a lease: what runs goes on, and what was to be written is written when it is back."""
    gate, begun = asyncio.Event(), asyncio.Event()
    with PostgresServer() as own:
        async with place(own.new_database(), {"INBOX": 30}) as here:

            async def wait(message: imapipe.Message) -> None:
                begun.set()
                await gate.wait()

            here.handle = wait
            async with here.worker() as worker:
                number = await here.cluster.defer("ann", "scan")
                await begun.wait()
                own.crash()
                # Several beats of its heart, and looks for tasks, come to nothing.
                await asyncio.sleep(2.5)
                own.restart()
                gate.set()
                job = await here.cluster.wait(number, every_seconds=0.1)
                after = await here.cluster.wait(await here.cluster.defer("ann", "scan", owner="bob"), every_seconds=0.1)
                ends = worker.tallies
            tasks = await here.cluster.tasks(number)
    assert (job.state, after.state) == ("complete", "complete")
    assert job.report is not None
    assert (job.report.planned, job.report.done) == (30, 30)
    assert set(here.handled.values()) == {1}
    assert [task.losses for task in tasks] == [0, 0]
    assert "handed back" not in ends
