"""The report of a job of which nothing is open any more, from what became of its tasks. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import orjson

from imapipe.contrib.cluster.documents import Found, document_from, outcomes_from, text_of
from imapipe.contrib.cluster.part import Part
from imapipe.contrib.cluster.report import ClusterReport, MailboxOutcome, by_mailbox
from imapipe.contrib.job import error_from
from imapipe.database import Connection, Row

_OPEN: Final = "('waiting', 'queued', 'running')"


def finish(connection: Connection, job_id: int) -> None:
    """Sum up a job of which nothing is open any more."""
    rows = connection.query(
        f"""
        SELECT account, job, found, is_cancelled, COALESCE(started_ms, created_ms), now_ms() FROM imapipe_jobs job
        WHERE id = :job AND ended_ms IS NULL
          AND NOT EXISTS (SELECT 1 FROM imapipe_tasks WHERE job_id = :job AND state IN {_OPEN})
        """,
        {"job": job_id},
    )
    if not rows:
        return
    account, job, text, is_cancelled, started_ms, now_ms = rows[0]
    found = Found.from_text(text)
    if not all(found.renumbered.values()) and not is_cancelled:
        _look_again(connection, job_id, found)
        return
    tasks = connection.query(
        "SELECT kind, state, parts, outcome, error FROM imapipe_tasks WHERE job_id = :job ORDER BY number",
        {"job": job_id},
    )
    report = summed(account, job, found, tasks, started_ms, now_ms)
    states = [state for kind, state, *_ in tasks if kind == "run"]
    if is_cancelled and "cancelled" in [state for _, state, *_ in tasks]:
        state = "cancelled"
    elif tasks[0][1] == "failed" or (states and set(states) == {"failed"}):
        state = "failed"
    else:
        state = "complete" if report.complete else "partial"
    connection.execute(
        "UPDATE imapipe_jobs SET state = :state, ended_ms = now_ms(), report = :report WHERE id = :job",
        {"state": state, "report": text_of(report.to_dict()), "job": job_id},
    )


def _look_again(connection: Connection, job_id: int, found: Found) -> None:
    """Have the mailboxes looked at that were renumbered: now that nobody is at work on what was planned before."""
    parts = [Part(mailbox).to_json() for mailbox, is_again in found.renumbered.items() if not is_again]
    found = replace(found, renumbered=dict.fromkeys(found.renumbered, True))
    connection.execute("UPDATE imapipe_jobs SET found = :found WHERE id = :job", {"found": found.text, "job": job_id})
    connection.execute(
        """
        INSERT INTO imapipe_tasks (job_id, account, kind, number, parts, priority, state, due_ms)
        SELECT id, account, 'plan', (SELECT max(number) + 1 FROM imapipe_tasks WHERE job_id = :job), :parts, priority,
               'waiting', now_ms()
        FROM imapipe_jobs WHERE id = :job
        """,
        {"job": job_id, "parts": text_of(parts)},
    )


def summed(account: str, job: str, found: Found, tasks: Sequence[Row], started_ms: int, now_ms: int) -> ClusterReport:
    """The report of a job, from what is kept of its tasks: kind, state, parts, outcome and error of each."""
    outcomes: list[tuple[str, MailboxOutcome]] = []
    for kind, state, parts, outcome, error in tasks:
        known = outcomes_from(outcome)
        if kind == "plan" and state == "failed" and not orjson.loads(parts):
            outcomes.append(("", MailboxOutcome(complete=False, error=error_from(document_from(error)))))
        for kept in orjson.loads(parts):
            part = Part.from_json(kept)
            missing = MailboxOutcome(complete=False, error=error_from(document_from(error)))
            outcomes.append((part.mailbox, known.get(part.key, missing)))
    mailboxes = by_mailbox(outcomes)
    for name, each in found.errors.items():
        mailboxes[name] = MailboxOutcome(complete=False, error=error_from(each))
    for name, count in found.unaccounted.items():
        mailboxes[name] = mailboxes[name].merged(MailboxOutcome(unaccounted=count, parts=0, complete=False))
    return ClusterReport(
        account=account,
        job=job,
        mailboxes=mailboxes,
        unchanged=found.unchanged,
        started_at=datetime.fromtimestamp(started_ms / 1000, UTC),
        elapsed_seconds=max(0, now_ms - started_ms) / 1000,
    )
