"""What nobody would do otherwise: tasks of dead workers go on, what is due is queued, what is old goes. Blocking.

Every worker sweeps, in a task of its own beside its jobs; it is no job, so nothing that it is to free can hold it up.
One sweeps at a time: the others find the lock taken, and leave it at that.

A task is lost when nobody can be at work on it: the job of Procrastinate that carried it is gone, or is with a worker
whose heart has not beaten for `stale_seconds`. Its carrier is removed, so that a worker which only slept can end
nothing but its own try; and the task gets another ticket, so that what it writes is refused. Should it still be at
work, it holds the checkpoint: who comes next waits for that (`CheckpointLocked`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from imapipe.contrib.cluster.documents import text_of
from imapipe.contrib.cluster.feeding import CLOCK, feed, lock_account
from imapipe.contrib.cluster.summing import finish
from imapipe.contrib.cluster.table import drop_cancelled
from imapipe.contrib.cluster.verdict import MOST_LOSSES
from imapipe.contrib.job import JobError
from imapipe.database import Connection

_SWEEP_LOCK: Final = "imapipe sweep"
_BATCH: Final = 1_000
# From the third death on tasks begin apart: what kills its workers takes others along that only were there with it.
_LOSSES_AT_ONCE: Final = 2
_APART_MS: Final = 30_000

# Of a task that is queued or running: nobody is at work on it.
_NOBODY: Final = """
    (carrier.id IS NULL OR carrier.status NOT IN ('todo', 'doing')
     OR (carrier.status = 'doing' AND (worker.id IS NULL
         OR worker.last_heartbeat < clock_timestamp() - (:stale) * interval '1 second'))
     OR (task.state = 'queued' AND carrier.status = 'doing' AND EXISTS (
         SELECT 1 FROM procrastinate_events event WHERE event.job_id = carrier.id AND event.type = 'started'
           AND event.at < clock_timestamp() - (:stale) * interval '1 second')))
"""


def try_lock(connection: Connection) -> bool:
    """Whether this transaction is the one that sweeps."""
    rows = connection.query("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))", {"name": _SWEEP_LOCK})
    return bool(rows[0][0])


def lost_tasks(connection: Connection, stale_seconds: float) -> Sequence[tuple[int, int, str]]:
    """Tasks that nobody is at work on: number, ticket and account."""
    return [
        (task, ticket, account)
        for task, ticket, account in connection.query(
            f"""
            SELECT task.id, task.ticket, task.account FROM imapipe_tasks task
            LEFT JOIN procrastinate_jobs carrier ON carrier.id = task.carrier
            LEFT JOIN procrastinate_workers worker ON worker.id = carrier.worker_id
            WHERE task.state IN ('queued', 'running') AND {_NOBODY} LIMIT {_BATCH}
            """,
            {"stale": stale_seconds},
        )
    ]


def take_back(
    connection: Connection, task: int, ticket: int, account: str, *, stale_seconds: float, at_once: int
) -> bool:
    """Let a task that was lost go on; whether it was still lost."""
    lock_account(connection, account)
    rows = connection.query(
        f"""
        SELECT task.job_id, task.carrier, task.state, task.losses FROM imapipe_tasks task
        LEFT JOIN procrastinate_jobs carrier ON carrier.id = task.carrier
        LEFT JOIN procrastinate_workers worker ON worker.id = carrier.worker_id
        WHERE task.id = :task AND task.ticket = :ticket AND task.state IN ('queued', 'running') AND {_NOBODY}
        """,
        {"task": task, "ticket": ticket, "stale": stale_seconds},
    )
    if not rows:
        return False
    job_id, carrier, state, losses = rows[0]
    connection.execute("DELETE FROM procrastinate_jobs WHERE id = :carrier", {"carrier": carrier})
    was_running = state == "running"
    if was_running and losses + 1 >= MOST_LOSSES:
        error = JobError("WorkersDied", f"{losses + 1} workers died, one after the other, while they had this task")
        connection.execute(
            "UPDATE imapipe_tasks SET state = 'failed', ended_ms = now_ms(), losses = losses + 1, error = :error "
            "WHERE id = :task",
            {"task": task, "error": text_of(error.to_dict())},
        )
    else:
        connection.execute(
            "UPDATE imapipe_tasks SET state = 'waiting', due_ms = now_ms() + (random() * :apart)::bigint, "
            "losses = losses + :lost, holder = NULL WHERE id = :task",
            {
                "task": task,
                "lost": int(was_running),
                "apart": _APART_MS if was_running and losses >= _LOSSES_AT_ONCE else 0,
            },
        )
    drop_cancelled(connection, job_id)
    finish(connection, job_id)
    feed(connection, account, at_once)
    return True


def hungry_accounts(connection: Connection, at_once: int, *, since_ms: int | None) -> Sequence[str]:
    """Accounts with tasks that are due and room for them.

    Args:
        connection: In a transaction.
        at_once: How many tasks of an account may be at work.
        since_ms: Only those of which something became due since, in milliseconds since 1970; None looks at all tasks
            that wait, for those that were forgotten by a worker which died at the wrong moment.
    """
    rows = connection.query(
        f"""
        SELECT DISTINCT waiting.account FROM imapipe_tasks waiting
        LEFT JOIN imapipe_resting resting ON resting.account = waiting.account
        WHERE waiting.state = 'waiting' AND waiting.due_ms <= now_ms()
          AND ((:since)::bigint IS NULL OR waiting.due_ms >= (:since)::bigint
               OR resting.rests_until_ms BETWEEN (:since)::bigint AND now_ms())
          AND (resting.account IS NULL OR resting.rests_until_ms <= now_ms())
          AND (SELECT count(*) FROM imapipe_tasks busy
               WHERE busy.account = waiting.account AND busy.state IN ('queued', 'running')) < :at_once
        LIMIT {_BATCH}
        """,
        {"since": since_ms, "at_once": at_once},
    )
    return [account for (account,) in rows]


def lost_times(connection: Connection, stale_seconds: float) -> int:
    """Let times of schedules that a dead worker had in hand come again; gives how many."""
    rows = connection.query(
        """
        SELECT procrastinate_retry_job_v2(carrier.id, clock_timestamp(), NULL, NULL, NULL)
        FROM procrastinate_jobs carrier LEFT JOIN procrastinate_workers worker ON worker.id = carrier.worker_id
        WHERE carrier.task_name = :clock AND carrier.status = 'doing'
          AND (worker.id IS NULL OR worker.last_heartbeat < clock_timestamp() - (:stale) * interval '1 second')
        """,
        {"clock": CLOCK, "stale": stale_seconds},
    )
    return len(rows)


def forget_old(connection: Connection, older_than_seconds: float) -> int:
    """Remove jobs that ended long ago, with their tasks and reports; gives how many."""
    return connection.execute(
        f"""
        DELETE FROM imapipe_jobs WHERE id IN (
            SELECT id FROM imapipe_jobs WHERE ended_ms < now_ms() - (:age)::bigint ORDER BY ended_ms LIMIT {_BATCH})
        """,
        {"age": round(older_than_seconds * 1000)},
    )


def forget_workers(connection: Connection, stale_seconds: float) -> None:
    """Remove what Procrastinate keeps of workers that are long gone, and of carriers that arrived."""
    connection.execute(
        "DELETE FROM procrastinate_workers WHERE last_heartbeat < clock_timestamp() - (:stale) * interval '1 second'",
        {"stale": 10 * stale_seconds},
    )
