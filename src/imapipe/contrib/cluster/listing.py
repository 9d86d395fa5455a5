"""Jobs and tasks for whoever looks at them, or has them end or done again. Blocking; each in a transaction."""

from __future__ import annotations

from typing import Final, cast

import orjson

from imapipe.contrib.cluster.documents import document_from, request_from
from imapipe.contrib.cluster.feeding import lock_account
from imapipe.contrib.cluster.part import Part
from imapipe.contrib.cluster.report import ClusterReport
from imapipe.contrib.cluster.summing import finish
from imapipe.contrib.cluster.table import drop_cancelled
from imapipe.contrib.cluster.task import ClusterJob, ClusterTask, moment
from imapipe.contrib.job import error_from
from imapipe.database import Connection, Row

_COLUMNS: Final = """
    job.id, job.account, job.job, job.request, job.priority, job.state, job.is_cancelled, job.ended_ms IS NOT NULL,
    job.created_ms, job.due_ms, job.started_ms, job.ended_ms
"""


def find(connection: Connection, job_id: int) -> ClusterJob | None:
    """A job with its report."""
    rows = connection.query(f"SELECT {_COLUMNS}, job.report FROM imapipe_jobs job WHERE id = :job", {"job": job_id})
    return _job(connection, rows[0]) if rows else None


def listed(connection: Connection, *, state: str | None, account: str | None, limit: int) -> list[ClusterJob]:
    """Jobs, the newest first, without their reports."""
    rows = connection.query(
        f"""
        SELECT {_COLUMNS}, NULL FROM imapipe_jobs job
        WHERE ((:state)::text IS NULL
               OR CASE WHEN job.is_cancelled AND job.ended_ms IS NULL THEN 'cancelling' ELSE job.state END = :state)
          AND ((:account)::text IS NULL OR job.account = :account)
        ORDER BY job.id DESC LIMIT :limit
        """,
        {"state": state, "account": account, "limit": limit},
    )
    return [_job(connection, row) for row in rows]


def tasks_of(connection: Connection, job_id: int) -> list[ClusterTask]:
    """The tasks of a job."""
    rows = connection.query(
        """
        SELECT id, kind, parts, state, tries, losses, due_ms, worker, started_ms, ended_ms, error, report
        FROM imapipe_tasks WHERE job_id = :job ORDER BY number
        """,
        {"job": job_id},
    )
    return [_task(row) for row in rows]


def counts(connection: Connection) -> dict[str, int]:
    """How many tasks are open, by their state."""
    rows = connection.query(
        "SELECT state, count(*) FROM imapipe_tasks WHERE state IN ('waiting', 'queued', 'running') GROUP BY state"
    )
    return {"waiting": 0, "queued": 0, "running": 0, **dict(rows)}


def cancel(connection: Connection, job_id: int) -> None:
    """Have a job end. One that has ended stays as it is."""
    rows = connection.query("SELECT account FROM imapipe_jobs WHERE id = :job", {"job": job_id})
    if not rows:
        return
    account = rows[0][0]
    lock_account(connection, account)
    if not connection.execute(
        "UPDATE imapipe_jobs SET is_cancelled = TRUE WHERE id = :job AND ended_ms IS NULL", {"job": job_id}
    ):
        return
    # Whoever brings them finds that there is nothing to do.
    connection.execute(
        "UPDATE imapipe_tasks SET state = 'waiting' WHERE job_id = :job AND state = 'queued'", {"job": job_id}
    )
    drop_cancelled(connection, job_id)
    connection.query(
        """
        SELECT procrastinate_cancel_job_v1(carrier, TRUE, FALSE) FROM imapipe_tasks
        WHERE job_id = :job AND state = 'running' AND carrier IS NOT NULL
        """,
        {"job": job_id},
    )
    finish(connection, job_id)
    # A sweep sees what has become due: who calls this may not know how many tasks there may be at a time.
    connection.execute(
        """
        UPDATE imapipe_tasks SET due_ms = now_ms() WHERE id = (
            SELECT min(id) FROM imapipe_tasks WHERE account = :account AND state = 'waiting' AND due_ms <= now_ms())
        """,
        {"account": account},
    )


def retry(connection: Connection, job_id: int) -> None:
    """Have the tasks of a job done again that are not complete; what waits for its next try is tried at once."""
    rows = connection.query("SELECT account, ended_ms IS NOT NULL FROM imapipe_jobs WHERE id = :job", {"job": job_id})
    if not rows:
        return
    account, is_ended = rows[0]
    lock_account(connection, account)
    connection.execute(
        """
        UPDATE imapipe_tasks
        SET state = 'waiting', due_ms = now_ms(), tries = 0, waits = 0, losses = 0, ended_ms = NULL, error = NULL
        WHERE job_id = :job AND (state = 'waiting' OR ((:is_ended)::boolean
                                                      AND state IN ('partial', 'failed', 'cancelled')))
        """,
        {"job": job_id, "is_ended": is_ended},
    )
    connection.execute(
        """
        UPDATE imapipe_jobs job
        SET ended_ms = NULL, report = NULL, is_cancelled = FALSE, due_ms = now_ms(),
            state = CASE WHEN EXISTS (SELECT 1 FROM imapipe_tasks WHERE job_id = job.id AND kind = 'plan'
                                      AND state = 'waiting') THEN 'waiting' ELSE 'running' END
        WHERE id = :job AND ended_ms IS NOT NULL
          AND EXISTS (SELECT 1 FROM imapipe_tasks WHERE job_id = job.id AND state = 'waiting')
        """,
        {"job": job_id},
    )
    connection.execute("DELETE FROM imapipe_resting WHERE account = :account", {"account": account})


def _job(connection: Connection, row: Row) -> ClusterJob:
    number, account, job, text, priority, state, is_cancelled, is_ended, created, due, started, ended, report = row
    request = request_from(account, job, text)
    tasks = connection.query(
        "SELECT state, count(*) FROM imapipe_tasks WHERE job_id = :job GROUP BY state ORDER BY state", {"job": number}
    )
    begun, due_at = moment(created), moment(due)
    assert begun is not None
    assert due_at is not None
    return ClusterJob(
        id=number,
        account=account,
        job=job,
        mailboxes=request.mailboxes,
        exclude=request.exclude,
        shards=request.shards,
        parameters=request.parameters,
        priority=priority,
        state="cancelling" if is_cancelled and not is_ended else state,
        created_at=begun,
        due_at=due_at,
        started_at=moment(started),
        ended_at=moment(ended),
        tasks=dict(tasks),
        report=None if report is None else ClusterReport.from_dict(orjson.loads(report)),
    )


def _task(row: Row) -> ClusterTask:
    number, kind, parts, state, tries, losses, due, worker, started, ended, error, report = row
    due_at = moment(due)
    assert due_at is not None
    return ClusterTask(
        id=number,
        kind=kind,
        mailboxes=tuple(f"{part.mailbox} {part.shard}".rstrip() for part in map(Part.from_json, orjson.loads(parts))),
        state=state,
        tries=tries,
        losses=losses,
        due_at=due_at,
        worker=worker,
        started_at=moment(started),
        ended_at=moment(ended),
        error=error_from(document_from(error)),
        reports={} if report is None else cast("dict[str, object]", orjson.loads(report)),  # type: ignore[arg-type]
    )
