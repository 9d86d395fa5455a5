"""What is to be done, in the database: asked for, given to workers, ended. Blocking; each function in a transaction.

A job of Procrastinate only carries the number of a task and a ticket to a worker (`feeding`). What is true stands here,
and so it may be carried twice, or be lost on its way: a ticket is taken once, and `sweeping` sees to what was lost.

Invariants:

- Whoever changes tasks of an account holds the lock of that account, until the end of the transaction.
- A task that was given to somebody else since (another ticket) is changed no more.
- Each function bears being done twice, as whoever loses the answer of the database must do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import orjson

from imapipe.contrib.cluster.begun import Begun
from imapipe.contrib.cluster.documents import (
    Found,
    error_text,
    outcomes_from,
    outcomes_text,
    request_from,
    request_text,
    text_of,
)
from imapipe.contrib.cluster.feeding import feed, lock_account
from imapipe.contrib.cluster.part import Part, checkpoint_name
from imapipe.contrib.cluster.planning import JobRequest, Planned, superseded
from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.contrib.cluster.summing import finish
from imapipe.contrib.cluster.task import Claim
from imapipe.database import Connection
from imapipe.models.json_value import JSON


def defer(connection: Connection, request: JobRequest, *, priority: int, due_ms: int | None, origin: str) -> int:
    """Ask for a job; gives its number.

    Args:
        connection: In a transaction.
        request: What is asked for.
        priority: Higher ones go first.
        due_ms: When it may begin, in milliseconds since 1970; None is now.
        origin: Names this wish: asked for again, it is the same job.
    """
    lock_account(connection, request.account)
    rows = connection.query(
        """
        INSERT INTO imapipe_jobs (origin, account, job, name, request, priority, state, created_ms, due_ms)
        VALUES (:origin, :account, :job, :name, :request, :priority, 'waiting', now_ms(),
                COALESCE((:due)::bigint, now_ms()))
        ON CONFLICT (origin) DO NOTHING RETURNING id
        """,
        {
            "origin": origin,
            "account": request.account,
            "job": request.job,
            "name": checkpoint_name(request.job, request.parameters),
            "request": request_text(request),
            "priority": priority,
            "due": due_ms,
        },
    )
    if not rows:
        known = connection.query("SELECT id FROM imapipe_jobs WHERE origin = :origin", {"origin": origin})
        return int(known[0][0])
    job_id = int(rows[0][0])
    connection.execute(
        """
        INSERT INTO imapipe_tasks (job_id, account, kind, number, parts, priority, state, due_ms)
        SELECT id, account, 'plan', 0, '[]', priority, 'waiting', due_ms FROM imapipe_jobs WHERE id = :job
        """,
        {"job": job_id},
    )
    return job_id


def has_waiting(connection: Connection, *, account: str, origin: str) -> bool:
    """Whether a job waits to begin whose origin begins so."""
    return bool(
        connection.query(
            "SELECT 1 FROM imapipe_jobs WHERE account = :account AND ended_ms IS NULL AND state = 'waiting' "
            "AND starts_with(origin, :origin) LIMIT 1",
            {"account": account, "origin": origin},
        )
    )


def claim(connection: Connection, task: int, ticket: int, *, holder: str, worker: str) -> Claim | None:
    """Take a task; None where this ticket was taken before, or is of no use any more.

    Args:
        connection: In a transaction.
        task: The number of the task.
        ticket: That of the try.
        holder: Names who asks, in this try alone.
        worker: What the worker is called.
    """
    rows = connection.query(
        """
        UPDATE imapipe_tasks AS task
        SET state = 'running', holder = :holder, worker = :worker, started_ms = now_ms()
        FROM imapipe_jobs job
        WHERE job.id = task.job_id AND task.id = :task AND task.ticket = :ticket
          AND (task.state = 'queued' OR (task.state = 'running' AND task.holder = :holder))
        RETURNING task.job_id, task.kind, task.parts, task.tries, task.waits, task.losses, task.outcome,
                  task.begun, job.account, job.job, job.name, job.request, job.found
        """,
        {"task": task, "ticket": ticket, "holder": holder, "worker": worker},
    )
    if not rows:
        return None
    job_id, kind, parts, tries, waits, losses, outcome, begun, account, job, name, request, found = rows[0]
    if kind == "plan":
        connection.execute(
            "UPDATE imapipe_jobs SET started_ms = now_ms() WHERE id = :job AND started_ms IS NULL", {"job": job_id}
        )
    return Claim(
        task=task,
        ticket=ticket,
        job_id=job_id,
        name=name,
        kind=kind,
        parts=tuple(Part.from_json(part) for part in orjson.loads(parts)),
        request=request_from(account, job, request),
        tries=tries,
        waits=waits,
        losses=losses,
        outcomes=outcomes_from(outcome),
        begun={} if begun is None else {key: Begun(*numbers) for key, numbers in orjson.loads(begun).items()},
        planned_again=frozenset(name for name, is_again in Found.from_text(found).renumbered.items() if is_again),
    )


def note_begun(connection: Connection, held: Claim, key: str, begun: Begun) -> None:
    """Write down how much there is to do in a part of a task, where the task is not another's by now."""
    mine = {"task": held.task, "ticket": held.ticket}
    rows = connection.query(
        "SELECT begun FROM imapipe_tasks WHERE id = :task AND ticket = :ticket AND state = 'running' FOR UPDATE", mine
    )
    for (text,) in rows:
        # Not put together by the database, whose JSON takes no name with a NUL in it, as a server may have one.
        known = {} if text is None else orjson.loads(text)
        connection.execute(
            "UPDATE imapipe_tasks SET begun = :begun WHERE id = :task",
            {"task": held.task, "begun": text_of({**known, key: begun.to_json()})},
        )


def got_on(connection: Connection, held: Claim, done: int) -> bool:
    """Tell how many messages of a task are done; whether that is more than when it was told before.

    A task that gets on between the deaths of its workers is not what kills them.
    """
    return bool(
        connection.execute(
            "UPDATE imapipe_tasks SET progress = :done, losses = 0 "
            "WHERE id = :task AND ticket = :ticket AND progress < :done",
            {"task": held.task, "ticket": held.ticket, "done": done},
        )
    )


def planned(connection: Connection, held: Claim, plan: Planned, at_once: int) -> bool:
    """The mailboxes of a job were looked at: these are its tasks. False where the task is another's."""
    lock_account(connection, held.request.account)
    # Where mailboxes were looked at once more, that is no part of them.
    if not _end(connection, held, "complete", superseded(held.parts, {}), {}, None):
        return False
    found, count = connection.query(
        "SELECT found, (SELECT max(number) FROM imapipe_tasks WHERE job_id = :job) FROM imapipe_jobs WHERE id = :job",
        {"job": held.job_id},
    )[0]
    _keep_found(connection, held, Found.from_text(found).with_plan(plan, [part.mailbox for part in held.parts]))
    # In one statement: ten thousand, one by one, take longer than a database is waited for.
    connection.execute(
        """
        INSERT INTO imapipe_tasks (job_id, account, kind, number, parts, priority, state, due_ms)
        SELECT job.id, job.account, 'run', (:count)::integer + task.number, task.parts, priority, 'waiting', now_ms()
        FROM imapipe_jobs job, json_array_elements_text((:tasks)::json) WITH ORDINALITY AS task (parts, number)
        WHERE job.id = :job ORDER BY task.number
        """,
        {
            "job": held.job_id,
            "count": count,
            "tasks": text_of([text_of([part.to_json() for part in parts]) for parts in plan.tasks]),
        },
    )
    _go_on(connection, held, at_once)
    return True


def ended(
    connection: Connection,
    held: Claim,
    outcomes: Mapping[str, MailboxOutcome],
    reports: Mapping[str, JSON],
    at_once: int,
    *,
    renumbered: Collection[str] = (),
) -> bool:
    """The runs of a task are over. False where the task is another's by now; then nothing was changed.

    Args:
        connection: In a transaction.
        held: The task.
        outcomes: What became of its parts.
        reports: The reports of its runs.
        at_once: How many tasks of an account may be at work.
        renumbered: Mailboxes that are to be looked at again, as their numbers are not those of the plan.
    """
    lock_account(connection, held.request.account)
    is_complete = all(outcome.complete for outcome in outcomes.values())
    if not _end(connection, held, "complete" if is_complete else "partial", outcomes, reports, None):
        return False
    if renumbered:
        (text,) = connection.query("SELECT found FROM imapipe_jobs WHERE id = :job", {"job": held.job_id})[0]
        found = Found.from_text(text)
        _keep_found(
            connection, held, replace(found, renumbered={**dict.fromkeys(renumbered, False), **found.renumbered})
        )
    # The account works.
    connection.execute("DELETE FROM imapipe_resting WHERE account = :account", {"account": held.request.account})
    _go_on(connection, held, at_once)
    return True


def failed(
    connection: Connection,
    held: Claim,
    error: BaseException,
    outcomes: Mapping[str, MailboxOutcome],
    at_once: int,
    *,
    is_of_account: bool,
) -> bool:
    """A task cannot be done. False where it is another's by now.

    Args:
        connection: In a transaction.
        held: The task.
        error: Why.
        outcomes: What became of those of its parts that were done.
        at_once: How many tasks of an account may be at work.
        is_of_account: Nothing else of the job can be done either.
    """
    lock_account(connection, held.request.account)
    if not _end(connection, held, "failed", outcomes, {}, error):
        return False
    if is_of_account:
        connection.execute(
            "UPDATE imapipe_tasks SET state = 'failed', error = :error, ended_ms = now_ms() "
            "WHERE job_id = :job AND state IN ('waiting', 'queued')",
            {"job": held.job_id, "error": error_text(error)},
        )
    _go_on(connection, held, at_once)
    return True


def cancelled(connection: Connection, held: Claim, at_once: int) -> bool:
    """A task was ended because its job was cancelled. False where it is another's by now."""
    lock_account(connection, held.request.account)
    if not _end(connection, held, "cancelled", held.outcomes, {}, None):
        return False
    _go_on(connection, held, at_once)
    return True


def hand_back(
    connection: Connection,
    held: Claim,
    outcomes: Mapping[str, MailboxOutcome],
    at_once: int,
    *,
    error: BaseException | None = None,
    wait_seconds: float = 0.0,
    is_fault: bool = False,
    rests: bool = False,
) -> bool:
    """Let somebody else go on with a task. False where it is another's by now.

    Without an error a worker that was to end has lived with the task until then: the deaths before do not count any
    more. One that only found the checkpoint of a dead one locked has not begun with it.

    Args:
        connection: In a transaction.
        held: The task.
        outcomes: What became of those of its parts that are over.
        at_once: How many tasks of an account may be at work.
        error: What ended this try.
        wait_seconds: When to begin the next one.
        is_fault: Whether this one counts as a try.
        rests: Whether the account is left alone meanwhile.
    """
    account = held.request.account
    lock_account(connection, account)
    rows = connection.execute(
        """
        UPDATE imapipe_tasks
        SET state = 'waiting', due_ms = now_ms() + :wait, tries = tries + :fault, waits = waits + :waited,
            losses = CASE WHEN :lived THEN 0 ELSE losses END, outcome = :outcome,
            error = COALESCE(:error, error), holder = NULL
        WHERE id = :task AND ticket = :ticket AND state = 'running'
        """,
        {
            "task": held.task,
            "ticket": held.ticket,
            "wait": round(wait_seconds * 1000),
            "fault": int(is_fault),
            "waited": int(error is not None and not is_fault),
            "lived": error is None,
            "outcome": outcomes_text(outcomes),
            "error": error_text(error),
        },
    )
    if not rows:
        return False
    if rests and error is not None:
        connection.execute(
            """
            INSERT INTO imapipe_resting (account, rests_until_ms, error) VALUES (:account, now_ms() + :wait, :error)
            ON CONFLICT (account) DO UPDATE
            SET rests_until_ms = GREATEST(imapipe_resting.rests_until_ms, excluded.rests_until_ms),
                error = excluded.error
            """,
            {"account": account, "wait": round(wait_seconds * 1000), "error": error_text(error)},
        )
    drop_cancelled(connection, held.job_id)
    _go_on(connection, held, at_once)
    return True


def drop_cancelled(connection: Connection, job_id: int) -> None:
    """What waits of a job that was cancelled is over."""
    connection.execute(
        """
        UPDATE imapipe_tasks SET state = 'cancelled', ended_ms = now_ms()
        WHERE job_id = :job AND state = 'waiting'
          AND EXISTS (SELECT 1 FROM imapipe_jobs job WHERE job.id = :job AND job.is_cancelled)
        """,
        {"job": job_id},
    )


def _end(
    connection: Connection,
    held: Claim,
    state: str,
    outcomes: Mapping[str, MailboxOutcome],
    reports: Mapping[str, JSON],
    error: BaseException | None,
) -> bool:
    rows = connection.execute(
        """
        UPDATE imapipe_tasks
        SET state = :state, ended_ms = now_ms(), outcome = :outcome, report = :report, error = :error
        WHERE id = :task AND ticket = :ticket AND state = 'running'
        """,
        {
            "state": state,
            "task": held.task,
            "ticket": held.ticket,
            "outcome": outcomes_text(outcomes),
            "report": text_of(dict(reports)) if reports else None,
            "error": error_text(error),
        },
    )
    return bool(rows)


def _keep_found(connection: Connection, held: Claim, found: Found) -> None:
    connection.execute(
        "UPDATE imapipe_jobs SET found = :found WHERE id = :job", {"found": found.text, "job": held.job_id}
    )


def _go_on(connection: Connection, held: Claim, at_once: int) -> None:
    finish(connection, held.job_id)
    feed(connection, held.request.account, at_once)
