"""Doing one task in this process: planning it, or running its parts, and what becomes of it.

Invariants:

- Whatever happens, the task is ended, or handed back, or (where this process dies) taken back by a sweep.
- What became of a part stays when the task is handed back: the next try does only the others.
- A worker that is to end lets the batches in hand come to their end; only what does not end by itself is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import cast

from imapipe.account.isolation import do_each
from imapipe.account.report import AccountReport
from imapipe.client import Pool
from imapipe.contrib.cluster import table
from imapipe.contrib.cluster.begun import Begun, NotesBegun
from imapipe.contrib.cluster.desk import Desk
from imapipe.contrib.cluster.part import Hearing, JobKind, Kept, Part, is_renumbered, run_part
from imapipe.contrib.cluster.planning import Sizes, plan_tasks, superseded
from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.contrib.cluster.task import Claim
from imapipe.contrib.cluster.verdict import NotRegistered, OverQuota, Verdict, judge
from imapipe.contrib.errors import UnknownAccount
from imapipe.contrib.job import shortened
from imapipe.contrib.pools import Pools
from imapipe.database import Connection
from imapipe.errors import CheckpointLocked, CheckpointLost, ConnectionFailed
from imapipe.middleware.base import Middleware
from imapipe.middleware.checkpoint import OUTAGES
from imapipe.models.json_value import JSON
from imapipe.runtime.completion import to_the_end
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore

_log = logging.getLogger(__name__)


class Tallies:
    """What this process did, for metrics.

    Attributes:
        tasks: Tasks by how they ended here.
        messages: Messages by their outcome, of tasks that ended here.
        bytes_received: Bytes of FETCH responses of them.
        leases_lost: Checkpoints that were another's in the middle of a run.
    """

    def __init__(self) -> None:
        self.tasks: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.bytes_received = 0
        self.leases_lost = 0

    def count(self, outcome: MailboxOutcome) -> None:
        """Something came of a part."""
        for name in ("done", "skipped", "vanished", "failed"):
            self.messages[name] += getattr(outcome, name)
        self.bytes_received += outcome.bytes_received


class Execution:
    """A task that is done in this process.

    Args:
        held: The task.
        kinds: The kinds of jobs, by name.
        pools: The pools of the accounts.
        desk: The database.
        store: Where checkpoints are kept.
        sizes: How large tasks are.
        at_once: How many tasks of an account may be at work.
        lease_seconds: How long a checkpoint is kept for a worker that died.
        limits: Limits of accounts, for jobs that use none of their own.
        tallies: Where it is counted.
    """

    def __init__(
        self,
        held: Claim,
        *,
        kinds: Mapping[str, JobKind],
        pools: Pools,
        desk: Desk,
        store: CheckpointStore | BlockingCheckpointStore,
        sizes: Sizes,
        at_once: int,
        lease_seconds: float,
        limits: Sequence[Middleware],
        tallies: Tallies,
    ) -> None:
        self._held = held
        self._kinds = kinds
        self._pools = pools
        self._desk = desk
        self._store = store
        self._kept = Kept(store, held.name)
        self._sizes = sizes
        self._at_once = at_once
        self._lease_seconds = lease_seconds
        self._limits = limits
        self._tallies = tallies
        self._hearing = Hearing()
        self._outcomes = dict(held.outcomes)
        # With few details: a server may have every message of a hundred mailboxes fail.
        self._reports: dict[str, dict[str, JSON]] = {}
        self._outages: list[ConnectionFailed] = []
        self._renumbered: set[str] = set()
        self._of_mailboxes: list[Exception] = []

    def stop(self) -> None:
        """Come to an end soon: the batches in hand are finished, and what is left is handed back."""
        self._hearing.stop()

    async def run(self, is_cancelled: Callable[[], bool]) -> None:
        """Do it; however it ends, that is in the database when this returns.

        Args:
            is_cancelled: Whether a cancellation of this means that the job is cancelled; else the worker ends.

        Raises:
            DatabaseError: What became of it could not be written; a sweep takes the task back.
        """
        try:
            await self._do()
        except asyncio.CancelledError:
            if is_cancelled():
                await self._tell("cancelled", table.cancelled)
            else:
                await self._hand_back()
        except Exception as error:  # noqa: BLE001 - whatever a job raises is the end of this try, and is told as such.
            await self._go_wrong(error)

    @property
    def _complete(self) -> dict[str, MailboxOutcome]:
        return {key: outcome for key, outcome in self._outcomes.items() if outcome.complete}

    async def _do(self) -> None:
        held = self._held
        kind = self._kinds.get(held.request.job)
        if kind is None:
            raise NotRegistered(held.request.job)
        async with self._pools.use(held.request.account) as pool:
            if held.kind == "plan":
                again = [part.mailbox for part in held.parts]
                request = replace(held.request, mailboxes=tuple(again), exclude=()) if again else held.request
                plan = await plan_tasks(request, kind, pool, self._kept, self._sizes)
                await self._tell("planned", table.planned, plan=plan)
                return
            if held.losses:
                await self._look_whether_it_gets_on(pool)
            await self._run_parts(kind, pool)
        if self._hearing.is_stopping and len(self._complete) < len(held.parts):
            await self._hand_back()
            return
        over = self._over_quota()
        if over is not None and self._judge(over).wait_seconds is not None:
            raise over
        is_complete = all(outcome.complete for outcome in self._outcomes.values())
        ending = partial(table.ended, outcomes=self._outcomes, reports=self._told, renumbered=tuple(self._renumbered))
        if await self._tell("complete" if is_complete else "partial", ending):
            for outcome in self._outcomes.values():
                self._tallies.count(outcome)

    async def _look_whether_it_gets_on(self, pool: Pool) -> None:
        """Workers died with the task: that counts as long as it does not get on in between.

        And what they had done of it, up to the end of a part, need not be begun anew to be told.
        """
        held = self._held
        states = await self._kept.states_of(pool.account, held.parts)
        done = sum(state.counters.done for _, state in states)
        await self._desk.do(partial(table.got_on, held=held, done=done))
        parts = {part.key: part for part in held.parts if part.key not in self._outcomes}
        for key, state in states:
            begun = held.begun.get(key)
            if begun is not None and key in parts:
                outcome = begun.outcome(state, done_before=parts[key].done_before)
                if outcome is not None:
                    self._outcomes[key] = outcome

    async def _run_parts(self, kind: JobKind, pool: Pool) -> None:
        todo = {part.key: part for part in self._held.parts if part.key not in self._outcomes}
        work = [(key, partial(self._run_part, part, kind, pool)) for key, part in todo.items()]
        _, errors = await do_each(work, at_once=max(1, min(pool.connections.max_size, len(work))))
        if self._hearing.is_stopping:
            return
        wrong = (*errors.values(), *self._of_mailboxes, *self._outages)
        again = [error for error in wrong if self._judge(error).wait_seconds is not None]
        if again:
            raise again[0]
        # Once: whose numbers change again and again is no mailbox to be read.
        stale = [
            todo[key]
            for key, error in errors.items()
            if is_renumbered(todo[key], error) and todo[key].mailbox not in self._held.planned_again
        ]
        self._renumbered.update(part.mailbox for part in stale)
        self._outcomes |= {key: MailboxOutcome.of_error(error) for key, error in errors.items()}
        self._outcomes |= superseded(stale, await self._kept.done_of(pool.account, stale))

    async def _run_part(self, part: Part, kind: JobKind, pool: Pool) -> None:
        if self._hearing.is_stopping:
            return
        parameters = self._held.request.parameters
        notes = [NotesBegun(partial(self._note_begun, part.key))] if self._held.losses and part.mailbox else []
        report = await run_part(
            part, kind, pool, parameters, self._kept, self._hearing, limits=self._limits, inside=notes
        )
        document = report.to_dict()
        done_ever = None if part.mailbox else (await self._kept.done_of(pool.account, [part])).get(part.key, 0)
        if isinstance(report, AccountReport):
            self._of_mailboxes += report.errors.values()
        self._outcomes[part.key] = MailboxOutcome.of_report(document, done_before=part.done_before, done_ever=done_ever)
        self._outages += _outages_in(document)
        self._reports[part.key] = cast("dict[str, JSON]", shortened(document))

    async def _note_begun(self, key: str, begun: Begun) -> None:
        await self._desk.do(partial(table.note_begun, held=self._held, key=key, begun=begun))

    def _over_quota(self) -> OverQuota | None:
        """Why there is something left, where a quota ended runs and it is known when there is one again."""
        left = [document for key, document in self._reports.items() if not self._outcomes[key].complete]
        told = [at for document in left if isinstance(at := document.get("retry_at"), str)]
        if not told:
            return None
        got_on = any(document.get("done") for document in self._reports.values())
        return OverQuota(max(map(datetime.fromisoformat, told)), got_on=got_on)

    @property
    def _told(self) -> Mapping[str, JSON]:
        """The reports, by what people call the parts."""
        parts = {part.key: part for part in self._held.parts}
        return {f"{parts[key].mailbox} {parts[key].shard}".strip(): each for key, each in self._reports.items()}

    async def _hand_back(self) -> None:
        await self._tell("handed back", table.hand_back, outcomes=self._complete)

    def _judge(self, error: BaseException) -> Verdict:
        is_waiting = isinstance(error, CheckpointLocked | CheckpointLost)
        tries = self._held.waits if is_waiting else self._held.tries
        return judge(error, tries + 1, lease_seconds=self._lease_seconds)

    async def _go_wrong(self, error: Exception) -> None:
        self._tallies.leases_lost += isinstance(error, CheckpointLost)
        verdict = self._judge(error)
        if verdict.wait_seconds is None:
            _log.error("task %s of %s cannot be done", self._held.task, self._held.request.account, exc_info=error)
            is_of_account = verdict.rests or isinstance(error, UnknownAccount)
            await self._tell("failed", table.failed, error=error, outcomes=self._outcomes, is_of_account=is_of_account)
            return
        # Somebody may have forgotten a module, or a new worker may be on its way.
        level = logging.WARNING if isinstance(error, NotRegistered) else logging.INFO
        _log.log(level, "task %s waits %.0f s: %s", self._held.task, verdict.wait_seconds, error)
        await self._tell(
            "waits",
            table.hand_back,
            outcomes=self._complete,
            error=error,
            wait_seconds=verdict.wait_seconds,
            is_fault=verdict.is_fault,
            rests=verdict.rests,
        )

    async def _tell(self, how: str, change: Callable[..., bool], **what: object) -> bool:
        """Write what became of the task; whether it was still ours."""

        def write(connection: Connection) -> bool:
            return change(connection, self._held, at_once=self._at_once, **what)

        was_ours = await to_the_end(self._desk.do(write))
        self._tallies.tasks[how if was_ours else "lost"] += 1
        if not was_ours:
            _log.warning("task %s was given to another worker meanwhile: nothing was written", self._held.task)
        return was_ours


def _outages_in(document: Mapping[str, JSON]) -> Iterator[ConnectionFailed]:
    """Errors for messages that failed because the server did not work, by a report: they are tried again."""
    within = document.get("mailboxes")
    # A job for the whole account tells of each mailbox.
    for each in (document, *(within.values() if isinstance(within, dict) else ())):
        failures = each.get("failures") if isinstance(each, Mapping) else None
        told = failures.values() if isinstance(failures, dict) else ()
        reasons = {str(failure.get("reason")) for failure in told if isinstance(failure, dict)} & OUTAGES
        if reasons:
            yield ConnectionFailed(f"messages could not be fetched ({', '.join(sorted(reasons))})")
