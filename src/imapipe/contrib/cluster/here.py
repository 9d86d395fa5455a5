"""A job of a cluster in this process, without a database: planned and run as workers do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from imapipe.account.isolation import do_each
from imapipe.contrib.cluster.part import JobKind, Kept, Part, run_part
from imapipe.contrib.cluster.planning import JobRequest, Sizes, plan_tasks
from imapipe.contrib.cluster.report import ClusterReport, MailboxOutcome, by_mailbox
from imapipe.contrib.pools import Pools
from imapipe.middleware.base import Middleware


async def run_here(
    request: JobRequest, kind: JobKind, pools: Pools, kept: Kept, sizes: Sizes, layers: Sequence[Middleware]
) -> ClusterReport:
    """Do a job; raises as `Cluster.run_here` does. Cancellation ends every run as it ends one."""
    began, started_at = time.monotonic(), datetime.now(UTC)
    done: list[tuple[str, MailboxOutcome]] = []

    async def run(part: Part) -> None:
        report = await run_part(part, kind, pool, request.parameters, kept, *layers)
        done.append((part.mailbox, MailboxOutcome.of_report(report.to_dict(), done_before=part.done_before)))

    async with pools.use(request.account) as pool:
        plan = await plan_tasks(request, kind, pool, kept, sizes)
        parts = [part for task in plan.tasks for part in task]
        work = [(part.mailbox, partial(run, part)) for part in parts]
        _, errors = await do_each(work, at_once=max(1, min(pool.connections.max_size, len(work))))
    for name, error in {**plan.errors, **errors}.items():
        done.append((name, MailboxOutcome.of_error(error)))
    return ClusterReport(
        account=request.account,
        job=request.job,
        mailboxes=by_mailbox(done),
        unchanged=tuple(plan.unchanged),
        started_at=started_at,
        elapsed_seconds=time.monotonic() - began,
    )
