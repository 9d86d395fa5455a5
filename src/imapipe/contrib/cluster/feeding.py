"""From what waits to the queue: which tasks of an account are brought to workers, and when. Blocking.

Invariants:

- Of an account no more than `at_once` tasks are queued or running: the others wait here, and not in the queue, where an
  account with ten thousand of them would be in everybody's way.
- One job of a kind, with the same parameters, is at work on an account at a time; the next one waits, whatever its
  priority.
- It is asked for in as many statements for a hundred tasks as for one.
"""

from __future__ import annotations

from typing import Final

from imapipe.contrib.cluster.documents import text_of
from imapipe.database import Connection

QUEUE: Final = "imapipe"
CARRIER: Final = "imapipe.task"
CLOCK: Final = "imapipe.schedule"


def lock_account(connection: Connection, account: str) -> None:
    """Have an account for oneself until the end of the transaction: before tasks of it are changed."""
    connection.lock(f"account {account}")


def feed(connection: Connection, account: str, at_once: int) -> None:
    """Queue what of an account waits, as far as there is room."""
    lock_account(connection, account)
    ((rests, busy),) = connection.query(
        """
        SELECT (SELECT rests_until_ms > now_ms() FROM imapipe_resting WHERE account = :account),
               (SELECT count(*) FROM imapipe_tasks WHERE account = :account AND state IN ('queued', 'running'))
        """,
        {"account": account},
    )
    if rests:
        return
    # One that rested is tried with one task: should it still be of no use, one try is enough to find out.
    room = (at_once if rests is None else 1) - int(busy)
    if room <= 0:
        return
    queued = connection.query(
        """
        UPDATE imapipe_tasks SET state = 'queued', ticket = ticket + 1, queued_ms = now_ms(), holder = NULL
        WHERE id IN (
            SELECT task.id FROM imapipe_tasks task JOIN imapipe_jobs job ON job.id = task.job_id
            WHERE task.account = :account AND task.state = 'waiting' AND task.due_ms <= now_ms()
              AND (task.kind <> 'plan' OR job.state = 'running' OR NOT EXISTS (
                SELECT 1 FROM imapipe_jobs other
                WHERE other.account = job.account AND other.name = job.name AND other.id <> job.id
                  AND other.ended_ms IS NULL
                  AND (other.state = 'running' OR (other.due_ms <= now_ms() AND (
                    other.priority > job.priority OR (other.priority = job.priority AND other.id < job.id))))))
            ORDER BY task.priority DESC, task.id LIMIT :room)
        RETURNING id, job_id, kind
        """,
        {"account": account, "room": room},
    )
    if not queued:
        return
    connection.execute(
        """
        WITH carried AS MATERIALIZED (
            SELECT id, (procrastinate_defer_jobs_v1(ARRAY[
                ROW((:queue)::varchar, (:carrier)::varchar, priority, NULL, NULL,
                    jsonb_build_object('task', id, 'ticket', ticket), NULL)::procrastinate_job_to_defer_v1
            ]))[1] AS carrier
            FROM (
                SELECT id, priority, ticket FROM imapipe_tasks
                WHERE id IN (SELECT each::bigint FROM json_array_elements_text((:tasks)::json) AS each)
                ORDER BY priority DESC, id) AS task)
        UPDATE imapipe_tasks AS task SET carrier = carried.carrier FROM carried WHERE task.id = carried.id
        """,
        {"queue": QUEUE, "carrier": CARRIER, "tasks": text_of([task for task, _, _ in queued])},
    )
    begun = [job_id for _, job_id, kind in queued if kind == "plan"]
    if begun:
        connection.execute(
            "UPDATE imapipe_jobs SET state = 'running' "
            "WHERE id IN (SELECT each::bigint FROM json_array_elements_text((:jobs)::json) AS each)",
            {"jobs": text_of(begun)},
        )
