"""The tables of the cluster, beside those of Procrastinate.

- `imapipe_jobs`: a row for each job that was asked for: what, for which account, how it stands, its report.
- `imapipe_tasks`: a row for each piece of one. What workers are to do is written here; the jobs of Procrastinate only
  carry the number of a task and its ticket to a worker.
- `imapipe_resting`: accounts that rest, because their server said no.

Times are milliseconds since 1970, by the clock of the database. Documents are JSON in text.
"""

from __future__ import annotations

from typing import Final

from imapipe.database import Step

COMPONENT: Final = "cluster jobs"

STEPS: Final = (
    Step(
        postgres=(
            """
            CREATE TABLE imapipe_jobs (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                origin TEXT NOT NULL UNIQUE,
                account TEXT NOT NULL,
                job TEXT NOT NULL,
                name TEXT NOT NULL,
                request TEXT NOT NULL,
                priority INTEGER NOT NULL,
                state TEXT NOT NULL,
                is_cancelled BOOLEAN NOT NULL DEFAULT FALSE,
                created_ms BIGINT NOT NULL,
                due_ms BIGINT NOT NULL,
                started_ms BIGINT,
                ended_ms BIGINT,
                found TEXT,
                report TEXT
            )
            """,
            "CREATE INDEX imapipe_jobs_account ON imapipe_jobs (account, name) WHERE ended_ms IS NULL",
            "CREATE INDEX imapipe_jobs_ended ON imapipe_jobs (ended_ms) WHERE ended_ms IS NOT NULL",
            """
            CREATE TABLE imapipe_tasks (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                job_id BIGINT NOT NULL REFERENCES imapipe_jobs ON DELETE CASCADE,
                account TEXT NOT NULL,
                kind TEXT NOT NULL,
                number INTEGER NOT NULL,
                parts TEXT NOT NULL,
                priority INTEGER NOT NULL,
                state TEXT NOT NULL,
                due_ms BIGINT NOT NULL,
                ticket INTEGER NOT NULL DEFAULT 0,
                carrier BIGINT,
                holder TEXT,
                worker TEXT,
                tries INTEGER NOT NULL DEFAULT 0,
                waits INTEGER NOT NULL DEFAULT 0,
                losses INTEGER NOT NULL DEFAULT 0,
                queued_ms BIGINT,
                started_ms BIGINT,
                ended_ms BIGINT,
                outcome TEXT,
                report TEXT,
                error TEXT
            )
            """,
            "CREATE INDEX imapipe_tasks_job ON imapipe_tasks (job_id)",
            "CREATE INDEX imapipe_tasks_waiting ON imapipe_tasks (account, priority DESC, id) WHERE state = 'waiting'",
            "CREATE INDEX imapipe_tasks_due ON imapipe_tasks (due_ms) WHERE state = 'waiting'",
            "CREATE INDEX imapipe_tasks_at_work ON imapipe_tasks (account) WHERE state IN ('queued', 'running')",
            """
            CREATE TABLE imapipe_resting (
                account TEXT PRIMARY KEY,
                rests_until_ms BIGINT NOT NULL,
                error TEXT NOT NULL
            )
            """,
        )
    ),
    Step(postgres=("ALTER TABLE imapipe_tasks ADD COLUMN progress BIGINT NOT NULL DEFAULT 0",)),
    Step(postgres=("ALTER TABLE imapipe_tasks ADD COLUMN begun TEXT",)),
)
