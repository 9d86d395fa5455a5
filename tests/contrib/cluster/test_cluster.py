"""Jobs of a cluster: planned, divided, done by workers, told; and the same on one machine without a database."""

from __future__ import annotations

import asyncio

import pytest
from tests.contrib.cluster.places import SMALL, Place, place, until

import imapipe
from imapipe import search as q
from imapipe.contrib.cluster import Cluster, ClusterReport, MailboxOutcome
from imapipe.contrib.cluster.part import JobKind, Kept, Part, run_part
from imapipe.contrib.cluster.planning import JobRequest, plan_tasks
from imapipe.contrib.job_function import JobFunction
from imapipe.contrib.jobs import UnknownJob, Work, WrongParameters
from imapipe.database import Database
from imapipe.middleware import Layer, Middleware, Run
from imapipe.store.memory_store import MemoryCheckpointStore
from imapipe.testing import Server, make_messages

pytestmark = pytest.mark.asyncio

MAILBOXES = {"INBOX": 90, "Archive": 8, "Empty": 0, "Lists": 5}


async def test_a_job_is_divided_and_every_message_is_handled_once(dsn: str) -> None:
    async with place(dsn, MAILBOXES) as here, here.worker():
        job = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=4), every_seconds=0.05)
        tasks = await here.cluster.tasks(job.id)
    assert job.state == "complete"
    assert job.report is not None
    assert job.report.complete
    counts = {name: each.done for name, each in job.report.mailboxes.items()}
    assert counts == MAILBOXES
    assert (job.report.planned, job.report.done, job.report.failed) == (103, 103, 0)
    assert set(here.handled.values()) == {1}
    assert len(here.handled) == 103
    # The small ones together.
    assert sorted(task.mailboxes for task in tasks) == [
        (),
        ("Archive", "Empty", "Lists"),
        ("INBOX 1/4",),
        ("INBOX 2/4",),
        ("INBOX 3/4",),
        ("INBOX 4/4",),
    ]
    assert {task.state for task in tasks} == {"complete"}


async def test_on_one_machine_it_is_the_same_job_with_the_same_report(dsn: str) -> None:
    def numbers(report: ClusterReport) -> object:
        return {
            name: (
                each.planned,
                each.done,
                each.skipped,
                each.vanished,
                each.failed,
                each.bytes_received,
                each.complete,
            )
            for name, each in sorted(report.mailboxes.items())
        }, (report.planned, report.done, report.complete, sorted(report.unchanged))

    async with place(dsn, MAILBOXES) as here:
        here_alone = await here.cluster.run_here("ann", "scan")
        async with here.worker():
            job = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=4), every_seconds=0.05)
        async with here.cluster.pools.use("ann") as pool:
            by_hand = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(10).run(_nothing)
    assert job.report is not None
    assert numbers(job.report) == numbers(here_alone)
    of_inbox = job.report.mailboxes["INBOX"]
    assert (of_inbox.planned, of_inbox.done, of_inbox.bytes_received) == (
        by_hand.planned,
        by_hand.done,
        by_hand.bytes_received,
    )


async def test_on_one_machine_nothing_of_the_database_is_needed() -> None:
    async with Server({"INBOX": 5, "Other": 3}) as server:
        cluster = Cluster(
            "postgresql://nobody@127.0.0.1:1/nothing",
            lambda _: imapipe.create_pool(server.url, password=server.password),
        )

        @cluster.job
        def count(pool: imapipe.Pool, mailbox: str) -> object:
            return Work(pool.mailbox(mailbox).search(q.ALL), lambda job: job.run(_nothing))

        async with cluster:
            report = await cluster.run_here("ann", "count", mailboxes=["Other", "Missing"])
    assert (report.planned, report.done) == (3, 3)
    assert not report.complete
    assert report.mailboxes["Missing"].error is not None
    assert "has no mailbox 'Missing'" in report.mailboxes["Missing"].error.text


async def test_the_next_job_brings_what_is_new_however_the_mailbox_is_divided(dsn: str) -> None:
    async with place(dsn, {"INBOX": 90, "Archive": 8}) as here, here.worker():
        await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=4), every_seconds=0.05)
        again = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=2), every_seconds=0.05)
        here.server.mailboxes["INBOX"].extend(make_messages(7))
        third = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=3), every_seconds=0.05)
    assert again.report is not None
    assert again.report.unchanged == ("INBOX", "Archive")
    assert again.report.mailboxes == {}
    assert third.report is not None
    assert third.report.unchanged == ("Archive",)
    assert (third.report.planned, third.report.done) == (7, 7)
    assert set(here.handled.values()) == {1}
    assert len(here.handled) == 105


async def test_what_was_done_is_not_done_again_where_a_part_failed(dsn: str) -> None:
    async with place(dsn, {"INBOX": 80}) as here, here.worker():

        async def refuse(message: imapipe.Message) -> None:
            if message.uid > 30:
                raise OSError("no")

        here.handle = refuse
        first = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=4), every_seconds=0.05)
        here.handle = None
        second = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=2), every_seconds=0.05)
        parts = [task.mailboxes for task in await here.cluster.tasks(second.id)]
    assert first.state == "partial"
    assert first.report is not None
    assert (first.report.planned, first.report.done, first.report.failed) == (80, 30, 50)
    assert parts == [(), ("INBOX 1/2",), ("INBOX 2/2",)]
    assert second.state == "complete"
    assert second.report is not None
    assert (second.report.planned, second.report.done, second.report.skipped) == (80, 50, 30)
    assert set(here.handled.values()) == {1}
    assert len(here.handled) == 80


async def test_what_a_try_did_of_which_nobody_heard_is_in_the_report() -> None:
    """Its checkpoint was complete, and the database away when the task was to be told as ended: it is done again."""
    handled: list[int] = []

    def scan(pool: imapipe.Pool, mailbox: str) -> object:
        async def handle(message: imapipe.Message) -> None:
            handled.append(message.uid)

        return Work(pool.mailbox(mailbox).search(q.ALL).fetch("flags"), lambda job: job.run(handle))

    kind, kept = JobKind(JobFunction(scan)), Kept(MemoryCheckpointStore(), "scan")
    async with Server(15) as server, imapipe.create_pool(server.url, password=server.password) as pool:

        async def try_twice() -> list[tuple[int, int, int]]:
            plan = await plan_tasks(JobRequest(account="ann", job="scan"), kind, pool, kept, SMALL)
            (part,) = (part for task in plan.tasks for part in task)
            reports = [await run_part(Part.from_json(part.to_json()), kind, pool, {}, kept) for _ in range(2)]
            outcomes = [MailboxOutcome.of_report(each.to_dict(), done_before=part.done_before) for each in reports]
            return [(each.planned, each.done, each.skipped) for each in outcomes]

        first = await try_twice()
        server.mailboxes["INBOX"].extend(make_messages(4))
        then = await try_twice()
    assert first == [(15, 15, 0)] * 2
    assert then == [(4, 4, 0)] * 2
    assert len(handled) == 19


async def test_a_job_of_other_parameters_knows_nothing_of_it(dsn: str) -> None:
    async with place(dsn, {"INBOX": 10}) as here, here.worker():
        numbers = [await here.cluster.defer("ann", "scan", owner=owner) for owner in ("ann", "bob")]
        jobs = [await here.cluster.wait(number, every_seconds=0.05) for number in numbers]
    assert [job.report.done for job in jobs if job.report is not None] == [10, 10]
    assert len(here.handled) == 20


async def test_a_job_for_the_whole_account_is_one_task_with_its_own_report(dsn: str) -> None:
    async with place(dsn, MAILBOXES) as here:

        @here.cluster.job
        def everything(pool: imapipe.Pool) -> object:
            return Work(pool.each("*").search(q.ALL).fetch("flags"), lambda job: job.run(_nothing))

        async with here.worker():
            job = await here.cluster.wait(await here.cluster.defer("ann", "everything", shards=4), every_seconds=0.05)
            tasks = await here.cluster.tasks(job.id)
    assert job.report is not None
    assert (job.report.planned, job.report.done, job.report.complete) == (103, 103, True)
    reports = tasks[1].reports[""]
    assert isinstance(reports, dict)
    assert reports["planned"] == 103


async def test_a_job_for_the_whole_account_has_a_checkpoint_and_the_limits_of_all(dsn: str) -> None:
    """The second one brings what is new, and what an earlier try of the same job did is done, not skipped."""
    used: list[list[str]] = []

    class Looking(Middleware):
        async def start(self, run: Run) -> Layer:
            used.append([type(layer).__name__ for layer in run.layers])
            return Layer()

    async with place(dsn, MAILBOXES, messages_per_second=1e6) as here:
        breaks = True

        @here.cluster.job
        def everything(pool: imapipe.Pool) -> object:
            async def handle(message: imapipe.Message) -> None:
                nonlocal breaks
                if breaks and len(here.handled) == 50:
                    breaks = False
                    raise imapipe.ConnectionFailed("by the test")
                here.handled[message.mailbox, "", message.uid] += 1

            job = pool.each("*").search(q.ALL).fetch("flags").batch(10).use(Looking())
            return Work(job, lambda job: job.run(handle, concurrency=1, on_error="raise" if breaks else "record"))

        async with here.worker():
            number = await here.cluster.defer("ann", "everything")
            await until(lambda: here.has_waited(number))
            await here.cluster.retry(number)
            first = await here.cluster.wait(number, every_seconds=0.05)
            for message in make_messages(2, seed=7):
                here.server.mailboxes["INBOX"].append(message)
            second = await here.cluster.wait(await here.cluster.defer("ann", "everything"), every_seconds=0.05)
        with Database(dsn).connect() as connection:
            assert connection.query("SELECT count(*) FROM imapipe_rates") == [(1,)]
    assert set(here.handled.values()) == {1}
    assert len(here.handled) == 103 + 2
    assert first.report is not None
    assert (first.state, first.report.planned, first.report.done, first.report.skipped) == ("complete", 103, 103, 0)
    assert second.report is not None
    assert (second.report.planned, second.report.done, second.report.skipped) == (2, 2, 0)
    assert {tuple(layers) for layers in used} == {("_HearingLayer", "CheckpointLayer")}


async def test_a_job_with_a_checkpoint_of_its_own_keeps_it_and_is_not_divided(dsn: str) -> None:
    store = MemoryCheckpointStore()
    async with place(dsn, {"INBOX": 90}) as here:

        @here.cluster.job
        def kept(pool: imapipe.Pool, mailbox: str) -> object:
            job = pool.mailbox(mailbox).search(q.ALL).use(imapipe.Checkpoint(store), imapipe.Retry())
            return Work(job, lambda job: job.run(_nothing))

        async with here.worker():
            first = await here.cluster.wait(await here.cluster.defer("ann", "kept", shards=4), every_seconds=0.05)
            tasks = await here.cluster.tasks(first.id)
            again = await here.cluster.wait(await here.cluster.defer("ann", "kept", shards=4), every_seconds=0.05)
    assert [task.mailboxes for task in tasks] == [(), ("INBOX",)]
    assert len(store.values) == 1
    assert again.report is not None
    assert again.report.unchanged == ("INBOX",)


async def test_jobs_of_a_kind_follow_each_other_on_an_account(dsn: str) -> None:
    gate = asyncio.Event()
    async with place(dsn, {"INBOX": 5}) as here, here.worker():

        async def wait(message: imapipe.Message) -> None:
            await gate.wait()

        here.handle = wait
        first = await here.cluster.defer("ann", "scan")
        second = await here.cluster.defer("ann", "scan")
        other = await here.cluster.defer("ann", "scan", owner="bob")
        await until(lambda: here.has_tasks(other, "running"))
        states = [(await here.cluster.get(number)).state for number in (first, second, other)]
        gate.set()
        ended = [await here.cluster.wait(number, every_seconds=0.05) for number in (first, second, other)]
    assert states == ["running", "waiting", "running"]
    assert [job.state for job in ended] == ["complete"] * 3
    assert ended[1].report is not None
    assert ended[1].report.unchanged == ("INBOX",)


async def test_a_wish_that_is_told_twice_is_one_job(dsn: str) -> None:
    async with place(dsn) as here:
        numbers = {await here.cluster.defer("ann", "scan", origin="request 7") for _ in range(3)}
        assert len(numbers) == 1
        assert [job.id for job in await here.cluster.list()] == [*numbers]


async def test_what_cannot_be_asked_for_is_refused(dsn: str) -> None:
    async with place(dsn) as here:
        with pytest.raises(WrongParameters, match="there is no job 'scam'; there are: scan"):
            await here.cluster.defer("ann", "scam")
        with pytest.raises(WrongParameters, match="has no parameter 'colour'"):
            await here.cluster.defer("ann", "scan", colour="red")
        with pytest.raises(ValueError, match="shards must be 1 or more"):
            await here.cluster.defer("ann", "scan", shards=0)
        with pytest.raises(UnknownJob):
            await here.cluster.get(999)
        with pytest.raises(ValueError, match="cannot take a parameter 'shards'"):
            here.cluster.job(_with_shards)
        with pytest.raises(ValueError, match="there is a job 'scan' already"):
            here.cluster.job(here.scan)
        assert await here.cluster.list() == []


async def test_an_account_that_nobody_knows_ends_the_job(dsn: str) -> None:
    async with place(dsn) as here, here.worker():
        here.unknown.add("eve")
        job = await here.cluster.wait(await here.cluster.defer("eve", "scan"), every_seconds=0.05)
    assert job.state == "failed"
    assert job.report is not None
    (outcome,) = job.report.mailboxes.values()
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.text) == ("UnknownAccount", "there is no account 'eve'")


async def test_sizes_decide_what_is_done_together(dsn: str) -> None:
    boxes = {f"Box {number:02}": 30 for number in range(8)}
    async with place(dsn, {"INBOX": 0, **boxes}, sizes=SMALL) as here, here.worker():
        job = await here.cluster.wait(await here.cluster.defer("ann", "scan", mailboxes="Box *"), every_seconds=0.05)
        tasks = await here.cluster.tasks(job.id)
    assert [len(task.mailboxes) for task in tasks] == [0, 3, 3, 2]
    assert job.report is not None
    assert job.report.done == 240


async def _nothing(message: imapipe.Message) -> None:
    """Take a message."""


def _with_shards(pool: imapipe.Pool, mailbox: str, shards: int) -> object:
    return shards


async def test_workers_together_keep_to_the_connections_of_an_account(dsn: str) -> None:
    async with place(dsn, {"INBOX": 90}, connections=2, messages_per_second=1_000.0) as first:
        second = Place(dsn, first.server, connections=2, messages_per_second=1_000.0)
        async with first.worker(), second.worker():
            number = await first.cluster.defer("ann", "scan", shards=4)
            job = await first.cluster.wait(number, every_seconds=0.05)
            slots = [each.cluster.limits.slots for each in (first, second)]
        await second.cluster.close()
    assert job.state == "complete"
    assert first.server.counters.peak_connections <= 2
    assert sum(sum(each.values()) for each in slots) <= 2
    assert len({**first.handled, **second.handled}) == 90


async def test_a_limit_of_the_jobs_own_stands_alone(dsn: str) -> None:
    used: list[list[str]] = []

    class Looking(Middleware):
        async def start(self, run: Run) -> Layer:
            used.append([type(layer).__name__ for layer in run.layers])
            return Layer()

    def scan(pool: imapipe.Pool, mailbox: str) -> object:
        return Work(pool.mailbox(mailbox).search(q.ALL), lambda job: job.run(_nothing))

    def limited(pool: imapipe.Pool, mailbox: str) -> object:
        own = imapipe.RateLimit(messages_per_second=1e6)
        return Work(pool.mailbox(mailbox).search(q.ALL).use(own), lambda job: job.run(_nothing))

    kept = Kept(MemoryCheckpointStore(), "scan")
    async with Server(5) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        for function in (scan, limited):
            kind = JobKind(JobFunction(function))
            limits = [imapipe.RateLimit(messages_per_second=1e6), Looking()]
            await run_part(Part("INBOX"), kind, pool, {}, kept, limits=limits)
    # The layers that had started before: the checkpoint, and our limit. Where the job has its own, ours is not used.
    assert used == [["CheckpointLayer", "RateLimitLayer"]]
