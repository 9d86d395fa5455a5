"""The example as an experiment: everything set up, jobs asked for, trouble until they have ended, and what is left."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from evidence import (
    WITNESS,
    Finding,
    count_handled,
    of_messages,
    of_repeats,
    of_servers,
    of_tokens,
    read_handled,
    read_tokens,
)
from imapipe.contrib.cluster import Cluster, ClusterJob
from imapipe.store import JobKey, SqlCheckpointStore
from population import Account
from stage import Setting, Stage, number_of
from trouble import Trouble

# As the job in `mail_jobs` has them; that module reads the environment, which is not there yet.
CONCURRENCY: Final = 8
SAVE_EVERY_MESSAGES: Final = 500
_TICK_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.4
# The files of the handlers.
HANDLED: Final = "handled-*.lines"
# What an account with a rate may ask for at once: the bucket of `Limits.rate` holds what 100 ms are worth.
BURST: Final = 15.0


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        findings: The promises.
        trouble: How often there was trouble, by kind.
        figures: What was measured.
    """

    findings: list[Finding] = field(default_factory=list)
    trouble: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return all(finding.holds for finding in self.findings)


def the_cluster() -> Cluster:
    """The cluster of the jobs."""
    from mail_jobs import cluster  # noqa: PLC0415 - it reads the environment

    return cluster


async def prepare(dsn: str, *, has_witness: bool) -> None:
    """Make the tables, and where so asked a witness that notes who writes to checkpoints."""
    await the_cluster().migrate()
    # Its tables are made when it is first asked for something.
    await SqlCheckpointStore(dsn).peek(JobKey("nobody", "INBOX"))
    if has_witness:
        with psycopg.connect(dsn) as connection:
            connection.execute(WITNESS)


async def defer(accounts: Sequence[Account], *, only_look: bool) -> list[int]:
    """Ask for a job for each account; gives their numbers."""
    exclude = ("*",) if only_look else ()
    async with the_cluster() as cluster:
        return [await cluster.defer(account.name, "read", shards=4, exclude=exclude) for account in accounts]


async def jobs_of(numbers: Iterable[int]) -> list[ClusterJob]:
    """The jobs as they stand."""
    async with the_cluster() as cluster:
        return [await cluster.get(number) for number in numbers]


def of_jobs(jobs: Sequence[ClusterJob], accounts: Sequence[Account]) -> Iterator[Finding]:
    """All jobs have ended well, and their reports reconcile."""
    states = Counter(job.state for job in jobs)
    yield Finding(
        "all jobs end, complete",
        ", ".join(f"{count} {state}" for state, count in states.items()),
        states["complete"] == len(accounts),
    )
    reports = [job.report for job in jobs if job.report is not None]
    planned = sum(report.planned for report in reports)
    done = sum(report.done for report in reports)
    others = sum(report.skipped + report.vanished + report.failed for report in reports)
    yield Finding(
        "the reports add up: planned = done + skipped + vanished + failed, and are all that there is",
        f"{planned:,} = {done:,} + {others:,}",
        planned == done + others == sum(account.messages for account in accounts),
    )


def of_workers(statuses: Sequence[int]) -> Iterator[Finding]:
    """Workers that were asked to end have done so."""
    yield Finding("a worker that is asked to end does so in good order", f"{statuses}", not any(statuses))


def run(setting: Setting, folder: Path, tell: Callable[[str], None]) -> Result:
    """Run all of it; files are written into the folder.

    Raises:
        RuntimeError: Something did not come up, a worker ended by itself, or it took too long.
    """
    result = Result()
    with Stage(setting, folder) as stage:
        os.environ.update(stage.environment(stage.dsn))
        # That is for the workers.
        del os.environ["CLUSTER_BLOCK_SECONDS"]
        # Without trouble it is the costs that matter, and a witness has its own.
        asyncio.run(prepare(stage.dsn, has_witness=bool(setting.trouble)))
        began = time.monotonic()
        for worker in stage.workers:
            worker.start()
        for worker in stage.workers:
            worker.await_work()
        result.figures["worker_start_seconds"] = time.monotonic() - began
        if setting.idle_seconds:
            before = stage.spent()
            time.sleep(setting.idle_seconds)
            result.figures |= _since(before, stage.spent(), prefix="idle_")
            result.figures["idle_seconds"] = setting.idle_seconds
        before = stage.spent()
        numbers = asyncio.run(defer(stage.accounts, only_look=setting.only_look))
        tell(f"{len(numbers)} jobs, {sum(account.messages for account in stage.accounts):,} messages")
        result.trouble = await_end(stage, setting, folder, tell)
        if not setting.trouble:
            result.figures |= _since(before, stage.spent())
        statuses = [worker.stop() for worker in stage.workers]
        jobs = asyncio.run(jobs_of(numbers))
        with psycopg.connect(stage.dsn) as connection:
            tokens = read_tokens(connection) if setting.trouble else None
            result.figures |= figures_of_tasks(connection)
        seen = stage.end_mail()
    handled = read_handled(folder.glob(HANDLED), stage.accounts)
    losses = tokens.losses if tokens is not None else {}
    result.findings += of_messages(handled, stage.accounts)
    result.findings += of_repeats(handled, losses, CONCURRENCY + SAVE_EVERY_MESSAGES)
    result.findings += of_servers(seen, stage.accounts, BURST)
    result.findings += of_tokens(tokens) if tokens is not None else ()
    result.findings += of_jobs(jobs, stage.accounts)
    result.findings += of_workers(statuses)
    if not setting.trouble:
        result.figures["database_writes_per_second"] = result.figures["database_writes"] / result.figures["seconds"]
    result.figures |= {"repeated": handled.repeated, "losses": sum(losses.values())}
    return result


def await_end(stage: Stage, setting: Setting, folder: Path, tell: Callable[[str], None]) -> dict[str, int]:
    """Wait until all jobs have ended, and make trouble meanwhile; gives how often there was which.

    Raises:
        RuntimeError: A worker ended by itself, or it took too long.
    """
    trouble = Trouble(
        stage.workers,
        stage.networks,
        stage.database,
        kinds=setting.trouble,
        times=setting.times,
        messages=sum(account.messages for account in stage.accounts),
        lease_seconds=setting.lease_seconds,
        seed=setting.seed,
    )
    began = looked = time.monotonic()
    left, handled = setting.accounts, 0
    while left:
        time.sleep(_TICK_SECONDS)
        now = time.monotonic()
        if made := trouble.tick(handled):
            tell(f"{now - began:6.1f} s: {made}; {left} jobs left")
        if silent := [worker.number for worker in stage.workers if not worker.is_running]:
            raise RuntimeError(f"workers have ended by themselves: {silent}; see their logs")
        if now - began > setting.timeout_seconds:
            raise RuntimeError(f"{left} jobs have not ended after {setting.timeout_seconds:g} s")
        if now - looked > _LOOK_SECONDS:
            looked, left = now, number_of(stage.dsn, "SELECT count(*) FROM imapipe_jobs WHERE ended_ms IS NULL")
            handled = count_handled(folder.glob(HANDLED)) if setting.trouble else 0
    trouble.end()
    return {kind: trouble.counts[kind] for kind in setting.trouble}


def figures_of_tasks(connection: psycopg.Connection[tuple[float | None, ...]]) -> dict[str, float]:
    """What the tables of the cluster tell: how many tasks there were, and when they began and ended."""
    cursor = connection.execute(
        """
        SELECT (SELECT (max(ended_ms) - min(created_ms)) / 1000.0 FROM imapipe_jobs) AS seconds,
               (SELECT (max(created_ms) - min(created_ms)) / 1000.0 FROM imapipe_jobs) AS defer_seconds,
               (SELECT count(*) FROM imapipe_jobs) AS jobs,
               (SELECT count(*) FROM imapipe_tasks) AS tasks,
               (SELECT sum(ended_ms - started_ms) / 1000.0 FROM imapipe_tasks) AS running_seconds,
               (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY started_ms - created_ms) / 1000.0
                FROM imapipe_jobs) AS start_p50_seconds,
               (SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY started_ms - created_ms) / 1000.0
                FROM imapipe_jobs) AS start_p95_seconds,
               (SELECT min(started_ms - created_ms) / 1000.0 FROM imapipe_jobs) AS start_least_seconds,
               (SELECT min(ended_ms - started_ms) / 1000.0
                FROM imapipe_tasks WHERE kind = 'run') AS task_least_seconds,
               (SELECT sum((report::json ->> 'done')::bigint) FROM imapipe_jobs) AS messages
        """
    )
    names = [column.name for column in cursor.description or ()]
    values = cursor.fetchone()
    assert values is not None
    figures = {name: float(value or 0) for name, value in zip(names, values, strict=True)}
    for name in ("messages", "tasks", "jobs"):
        figures[f"{name}_per_second"] = figures[name] / figures["seconds"]
    return figures


def _since(before: dict[str, float], after: dict[str, float], prefix: str = "") -> dict[str, float]:
    return {f"{prefix}{name}": after[name] - before[name] for name in before}
