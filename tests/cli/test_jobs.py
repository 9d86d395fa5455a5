"""`imapipe jobs` and `imapipe worker`: what is told of the jobs of a cluster, to people and to machines."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.contrib.cluster.places import place

from imapipe.cli.errors import Status
from imapipe.cli.worker import _end
from imapipe.contrib.cluster import Cluster
from imapipe.contrib.cluster.execution import Execution

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve, Start

    from postgres_server import PostgresServer

MODULE = """
import asyncio
import imapipe
from imapipe.contrib.cluster import Cluster
from imapipe.contrib.jobs import Work

def open_pool(account):
    raise KeyError(account)

here = Cluster(None, open_pool)

@here.job
def scan(pool, mailbox):
    raise AssertionError("no account, no call")
"""


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    """One in which a job is complete, one partial, and one waits."""
    dsn = postgres.new_database()

    async def fill() -> None:
        async with place(dsn, {"INBOX": 5, "Other": 2}) as here, here.worker():
            await here.cluster.wait(await here.cluster.defer("ann", "scan"), every_seconds=0.05)
            partial = await here.cluster.defer("bob", "scan", mailboxes=["INBOX", "Missing"], owner="bob")
            await here.cluster.wait(partial, every_seconds=0.05)
        async with place(dsn) as here:
            await here.cluster.defer("eve", "scan", mailboxes="INBOX", shards=3)

    asyncio.run(fill())
    return dsn


def test_jobs_are_listed_newest_first(database: str, call: Call) -> None:
    outcome = call("jobs", "list", "--database", database, "--json")
    assert outcome.status == Status.COMPLETE
    jobs = outcome.document["jobs"]
    assert [(job["id"], job["account"], job["state"]) for job in jobs] == [
        (3, "eve", "running"),
        (2, "bob", "partial"),
        (1, "ann", "complete"),
    ]
    assert jobs[0]["tasks"] == {"queued": 1}
    of_bob = call("jobs", "list", "--database", database, "--account", "bob", "--state", "partial", "--json")
    assert [job["id"] for job in of_bob.document["jobs"]] == [2]
    table = call("jobs", "list", "--database", database, "--limit", "2").out.splitlines()
    assert [line.split()[:4] for line in table] == [
        ["id", "state", "account", "job"],
        ["3", "running", "eve", "scan"],
        ["2", "partial", "bob", "scan"],
    ]


def test_a_job_is_shown_with_its_tasks_and_its_report(
    database: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAPIPE_DATABASE", database)
    document = call("jobs", "show", "2", "--json").document
    assert document["job"]["report"]["mailboxes"]["Missing"]["error"]["type"] == "CommandNo"
    assert [(task["kind"], task["state"], task["mailboxes"]) for task in document["tasks"]] == [
        ("plan", "complete", []),
        ("run", "complete", ["INBOX"]),
    ]
    told = call("jobs", "show", "2").out
    assert re.search(r"^sum +5 +5 +0 +0 +0$", told, re.MULTILINE)
    assert "Missing: CommandNo: LIST: NO [NONEXISTENT] the account has no mailbox 'Missing'" in told
    assert "2 mailboxes, 0 unchanged" in told
    gone = call("jobs", "show", "99")
    assert (gone.status, gone.sentence) == (
        Status.FAILED,
        "there is no job '99'; jobs that ended long ago are forgotten",
    )


def test_a_job_is_ended_and_done_again(postgres: PostgresServer, database: str, call: Call) -> None:
    options = ("--database", database)
    refused = call("jobs", "retry", "1", *options)
    assert (refused.status, refused.sentence) == (
        Status.USAGE,
        "the job 1 is complete: nothing of it is left to be done again",
    )
    ended = call("jobs", "cancel", "1", *options)
    assert (ended.status, ended.sentence) == (Status.USAGE, "the job 1 is complete: it has ended already")
    # Of its own, since others of these tests tell what there is in all.
    dsn = postgres.new_database()

    async def fill() -> None:
        async with place(dsn) as here:
            await here.cluster.defer("eve", "scan")

    asyncio.run(fill())
    assert call("jobs", "cancel", "1", "--database", dsn).out == "the job 1 is cancelled\n"
    assert call("jobs", "retry", "1", "--database", dsn, "--json").document["state"] == "waiting"


def test_a_database_without_tables_is_told(postgres: PostgresServer, call: Call) -> None:
    outcome = call("jobs", "list", "--database", postgres.new_database())
    assert outcome.status == Status.FAILED
    assert outcome.sentence.endswith(": it has no tables of a cluster, which a worker makes")


OF_A_SERVER = """
import imapipe
from imapipe import search as q
from imapipe.contrib.cluster import Cluster, Pace
from imapipe.contrib.jobs import Work

def open_pool(account):
    return imapipe.create_pool({url!r}, password="secret")

cluster = Cluster(None, open_pool, pace=Pace(sweep_seconds=0.1, poll_seconds=0.2))
handled = []

@cluster.job
def scan(pool, mailbox):
    async def handle(message):
        handled.append(message.uid)

    return Work(pool.mailbox(mailbox).search(q.ALL).fetch("flags"), lambda job: job.run(handle))
"""


@pytest.mark.parametrize("is_for_machines", [False, True])
def test_a_worker_does_what_was_asked_for_until_it_is_told_to_end(
    postgres: PostgresServer,
    call: Call,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_for_machines: bool,
) -> None:
    dsn, name = postgres.new_database(), f"jobs_of_a_server_{is_for_machines}"
    (tmp_path / f"{name}.py").write_text(OF_A_SERVER.format(url=serve({"INBOX": 5}).url))
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAPIPE_DATABASE", dsn)
    ends: list[Callable[[], object]] = []
    tell = Execution._tell

    @contextmanager
    def at_signals(act: Callable[[], object]) -> Iterator[None]:
        ends.append(act)
        yield

    async def tell_and_end(execution: Execution, how: str, change: Callable[..., bool], **what: object) -> bool:
        told = await tell(execution, how, change, **what)
        if how == "complete":
            ends[0]()
        return told

    monkeypatch.setattr("imapipe.cli.worker.at_signals", at_signals)
    monkeypatch.setattr(Execution, "_tell", tell_and_end)

    async def ask() -> None:
        async with place(dsn) as here:
            await here.cluster.defer("ann", "scan")

    asyncio.run(ask())
    if is_for_machines:
        outcome = call("worker", "--jobs", name, "--name", "w1", "--no-migrate", "--json")
        assert (outcome.document, outcome.err) == ({"worker": "w1", "tasks": {"planned": 1, "complete": 1}}, "")
    else:
        outcome = call("worker", "--jobs", name, "--name", "w1", "--metrics-port", 0)
        metrics, works = outcome.err.splitlines()
        assert re.fullmatch(r"imapipe: metrics are at http://127\.0\.0\.1:[1-9]\d*/metrics", metrics)
        assert works == "imapipe: w1 works; SIGTERM or Ctrl-C hands back what is under way"
        assert outcome.out == ""
    assert outcome.status == Status.COMPLETE
    assert sorted(sys.modules[name].handled) == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_a_worker_that_is_told_to_end_a_second_time_waits_for_nothing() -> None:
    worker = Cluster("postgresql://nobody@127.0.0.1:1/nothing", lambda _: pytest.fail("nobody asked")).worker()
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    _end(worker, task)
    assert (worker.is_stopping, task.cancelling()) == (True, 0)
    _end(worker, task)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ("import cheese_of_nobody", Status.FAILED, "No module named 'cheese_of_nobody'"),
        ("cluster = 'a word'", Status.USAGE, "has no Cluster of the name cluster"),
    ],
)
def test_a_module_that_is_there_and_of_no_use(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, status: Status, words: str
) -> None:
    name = f"jobs_of_no_use_{status.name.lower()}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    outcome = call("worker", "--jobs", name)
    assert outcome.status == status
    assert words in outcome.sentence


@pytest.mark.slow
def test_a_worker_tells_prometheus_and_ends_by_a_signal_with_status_0(
    postgres: PostgresServer, process: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAPIPE_DATABASE", postgres.new_database())
    worker = process("worker", "--jobs", "jobs_of_mine:here", "--name", "w1", "--metrics-port", "0", "--json")
    assert worker.stderr is not None
    where = re.search(r"http://[\d.:]+/metrics", worker.stderr.readline())
    assert where is not None
    with urllib.request.urlopen(where[0], timeout=60) as answer:
        text = answer.read().decode()
    assert 'imapipe_cluster_tasks{state="running"} 0' in text
    assert 'imapipe_cluster_leases_lost_total{of="checkpoint"} 0' in text
    assert "imapipe_cluster_slots 0" in text
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=60)
    assert (worker.returncode, err) == (0, "")
    assert json.loads(out) == {"worker": "w1", "tasks": {}}
