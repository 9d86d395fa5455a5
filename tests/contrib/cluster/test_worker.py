"""A worker in this process: how it ends, what it hands back, what it goes on after."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import cast

import procrastinate
import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from tests.contrib.cluster.places import QUICK, Place, place, until

import imapipe
from imapipe.contrib.cluster import Cluster, Sizes
from imapipe.contrib.cluster.connector import PatientConnector
from imapipe.contrib.cluster.execution import _outages_in
from imapipe.contrib.cluster.part import JobKind, Kept, Part, run_part
from imapipe.contrib.job_function import JobFunction
from imapipe.contrib.jobs import Work
from imapipe.errors import DatabaseError
from imapipe.models.json_value import JSON

pytestmark = pytest.mark.asyncio

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def _no_pool(account: str) -> imapipe.Pool:
    raise KeyError(account)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_worker_that_ends_finishes_what_it_has_in_hand_and_hands_back_the_rest(
    dsn: str, is_cancelled: bool
) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def handle(message: imapipe.Message) -> None:
        if message.uid > 10:
            begun.set()
            await go.wait()

    async with place(dsn, {"INBOX": 200, "Other": 3}, sizes=Sizes(group_messages=1_000)) as here:
        here.handle = handle
        worker = here.cluster.worker()
        running = asyncio.create_task(worker.run())
        job = await here.cluster.defer("ann", "scan")
        await begun.wait()
        assert (worker.under_way, worker.is_stopping) == (1, False)
        if is_cancelled:
            running.cancel()
        else:
            worker.stop()
        # The stop has been heard when no more than this wait is left.
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled() == is_cancelled
        assert (worker.under_way, worker.is_stopping) == (0, True)
        # It may have been asking for its next task when this one was free again, and hands it back once more.
        assert worker.tallies in [{"planned": 1, "handed back": count} for count in (1, 2)]
        assert 10 < len(here.handled) < 203
        # What another one does then is what is left.
        other = Place(dsn, here.server)
        other.handled = here.handled
        async with other.cluster, other.worker():
            ended = await other.cluster.wait(job, every_seconds=0.05)
        assert ended.state == "complete"
        assert len(here.handled) == 203
        assert set(here.handled.values()) == {1}


async def test_a_job_that_this_worker_does_not_know_waits_for_one_that_does(dsn: str) -> None:
    async with place(dsn, {"INBOX": 5}) as here:
        job = await here.cluster.defer("ann", "scan")
        async with Cluster(dsn, here.open_pool, pace=QUICK) as stranger:
            worker = stranger.worker()
            running = asyncio.create_task(worker.run())
            await until(lambda: here.has_waited(job))
            worker.stop()
            await running
        (task,) = await here.cluster.tasks(job)
        assert task.error is not None
        assert "scan" in task.error.text
        assert not here.handled


async def test_a_queue_that_cannot_be_read_ends_no_worker(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("imapipe.contrib.cluster.worker._RESTART_SECONDS", 0.001)
    async with place(dsn, {"INBOX": 5}) as here:
        worker = here.cluster.worker()
        app = worker._app
        open_async, run_async = app.open_async, app.run_worker_async
        refused = ConnectorException("\n    Database error.\n    ")
        refused.__cause__ = psycopg.OperationalError("no more sessions\nask for more")
        errors: list[Exception] = [refused, psycopg.OperationalError("it restarts")]

        def open_or_not() -> AbstractAsyncContextManager[procrastinate.App]:
            if len(errors) == 2:
                raise errors.pop(0)
            return open_async()

        async def run_or_not(**options: object) -> None:
            if errors:
                raise errors.pop(0)
            await run_async(**options)  # type: ignore[arg-type]

        monkeypatch.setattr(app, "open_async", open_or_not)
        monkeypatch.setattr(app, "run_worker_async", run_or_not)
        running = asyncio.create_task(worker.run())
        job = await here.cluster.wait(await here.cluster.defer("ann", "scan"), every_seconds=0.05)
        worker.stop()
        await running
    assert job.state == "complete"
    told = [record.getMessage() for record in caplog.records if "the queue cannot be read" in record.getMessage()]
    assert told == [
        "the queue cannot be read (no more sessions); it is tried again",
        "the queue cannot be read (it restarts); it is tried again",
    ]


async def test_a_query_of_the_queue_is_over_when_its_server_has_done_it(dsn: str) -> None:
    """Else it would keep its locks until the event loop sends the end, which a handler may block."""
    connector = PatientConnector(dsn, outage_seconds=1.0)
    async with procrastinate.App(connector=connector).open_async():
        row = await connector.execute_query_one_async("SELECT now() = statement_timestamp() AS is_alone")
    assert row == {"is_alone": True}


async def test_a_sweep_that_goes_wrong_is_told_and_the_next_one_is_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    worker = Cluster(NOWHERE, _no_pool, pace=replace(QUICK, sweep_seconds=0.001)).worker()
    errors: list[Exception] = [DatabaseError("it is away", database="jobs"), ValueError("a defect")]
    goes_on = asyncio.Event()

    async def sweep() -> bool:
        if errors:
            raise errors.pop(0)
        goes_on.set()
        return True

    monkeypatch.setattr(worker, "sweep", sweep)
    sweeping = asyncio.create_task(worker._sweep_for_ever())
    await goes_on.wait()
    sweeping.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        "nothing could be swept: database jobs: it is away",
        "a sweep went wrong",
    ]


async def test_a_ticket_that_is_of_no_use_any_more_begins_nothing(dsn: str) -> None:
    async with place(dsn, {"INBOX": 5}) as here:
        worker = here.cluster.worker()
        context = cast("procrastinate.JobContext", None)
        await worker._carried(context, task=99, ticket=1)
        assert (worker.under_way, worker.tallies, here.handled) == (0, {}, {})


@pytest.mark.parametrize("wrong", [0, -1])
async def test_numbers_that_make_no_sense_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"tasks_per_account must be 1 or more, not {wrong}"):
        Cluster(NOWHERE, _no_pool, tasks_per_account=wrong)
    with pytest.raises(ValueError, match=f"concurrency must be 1 or more, not {wrong}"):
        Cluster(NOWHERE, _no_pool).worker(concurrency=wrong)


async def test_messages_that_failed_because_the_server_did_not_work_are_told_by_mailbox() -> None:
    failed: JSON = {"5": {"reason": "ConnectionLost", "detail": ""}, "6": {"reason": "OSError", "detail": ""}}
    own: JSON = {"7": {"reason": "OSError", "detail": "no room"}}
    of_one: dict[str, JSON] = {"failures": failed}
    of_many: dict[str, JSON] = {"mailboxes": {"INBOX": {"failures": failed}, "Own": {"failures": own}, "Odd": None}}
    said = "no connection: messages could not be fetched (ConnectionLost)"
    for document in (of_one, of_many):
        assert [str(error) for error in _outages_in(document)] == [said]
    assert not [*_outages_in({"failures": own})]


async def test_a_part_of_a_job_is_read_as_it_was_written_and_nothing_else_is() -> None:
    part = Part("INBOX", "1/4", 1, 20, 7, 3)
    assert Part.from_json(part.to_json()) == part
    with pytest.raises(TypeError, match="this is no part of a job"):
        Part.from_json({"mailbox": "INBOX"})


async def test_where_nothing_is_kept_nothing_is_done_yet() -> None:
    assert await Kept(None, "scan").states_of("ann", [Part("INBOX")]) == ()
    assert await Kept(None, "scan").done_of("ann", [Part("INBOX")]) == {}


async def test_work_that_is_no_pipeline_is_done_as_it_is() -> None:
    """Whoever makes a job may wrap it in something of their own."""
    done: list[object] = []

    class Own:
        def use(self, *layers: object) -> Own:
            return self

    async def do(job: object) -> object:
        done.append(job)
        return "the report"

    own = Own()

    def scan(pool: imapipe.Pool) -> object:
        return Work(own, do)  # type: ignore[arg-type]

    report: object = await run_part(
        Part(""), JobKind(JobFunction(scan)), cast("imapipe.Pool", None), {}, Kept(None, "scan")
    )
    assert (report, done) == ("the report", [own])
