"""`AccountPipeline`: search → batch → fetch → handler over many mailboxes, as an immutable value that is run.

Each mailbox has a run of its own, with its own report, and its own checkpoint in the one file. Runs are side by side as
far as the pool has connections: many small mailboxes at once, a large one over all that are free, since every run may
use all of them and gives one up at the end of a batch where another run waits.

Invariants:

- A run that ends with an error leaves the other mailboxes alone; see `account.isolation`.
- `concurrency` is that of the job, not of each mailbox.
- A sink that cannot be divided among mailboxes serves one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Self

from imapipe.account.choosing import Choice, Chosen, choose_mailboxes
from imapipe.account.handlers import handlers_for
from imapipe.account.isolation import do_each
from imapipe.account.news import News, news_in
from imapipe.account.plan import AccountPlan
from imapipe.account.report import AccountReport, Details
from imapipe.account.territory import ManyMailboxes
from imapipe.middleware.base import Middleware
from imapipe.models.argument import check_whole
from imapipe.models.mailbox import MailboxEntry
from imapipe.models.report import RunReport
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.after.after import after_of
from imapipe.pipeline.batching import BatchPolicy
from imapipe.pipeline.builder import runs_of
from imapipe.pipeline.delivery.consumption import DEFAULT_CONCURRENCY
from imapipe.pipeline.delivery.handler_retry import HandlerRetry
from imapipe.pipeline.delivery.handlers import Handler
from imapipe.pipeline.delivery.sink import Sink
from imapipe.pipeline.delivery.stream import OnError
from imapipe.pipeline.followable import Followable, FollowedJob
from imapipe.pipeline.memory import Remembered, kept_open, memory_of
from imapipe.pipeline.operation.message_change import MessageChange
from imapipe.pipeline.outage import outage_seconds_of
from imapipe.pipeline.pipeline import Pipeline, followed_by
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey

OnMailbox = Callable[[str, RunReport | Exception], None]
"""Called with the name of a mailbox when its run has ended: its report, or what ended it."""


class AccountPipeline(Followable):
    """A job on many mailboxes of an account, described step by step. Made by `MailboxGroup.search`."""

    __slots__ = ("_choice", "_job", "_labelled", "_pool")

    def __init__(self, pool: ConnectionPool, job: Pipeline, choice: Choice, labelled: Pipeline | None = None) -> None:
        self._pool = pool
        self._job = job
        self._choice = choice
        # The same job where each message is there once, and its labels tell the rest.
        self._labelled = labelled or job.fetch("gmail")

    def __repr__(self) -> str:
        return f"<AccountPipeline {' '.join(self._choice.wanted)} {self._job.fingerprint}>"

    def search(self, criteria: SearchKey) -> Self:
        """Narrow the search: both must match."""
        return self._with(lambda job: job.search(criteria))

    def batch(self, policy: BatchPolicy | int) -> Self:
        """See `Pipeline.batch`."""
        return self._with(lambda job: job.batch(policy))

    def fetch(
        self,
        *what: str | Fetch,
        max_text_bytes: int | None = None,
        prefer_plain: bool = False,
        window_bytes: int | None = None,
    ) -> Self:
        """See `Pipeline.fetch`."""

        def fetch(job: Pipeline, *more: str) -> Pipeline:
            return job.fetch(
                *what, *more, max_text_bytes=max_text_bytes, prefer_plain=prefer_plain, window_bytes=window_bytes
            )

        return type(self)(self._pool, fetch(self._job), self._choice, fetch(self._labelled, "gmail"))

    def use(self, *middleware: Middleware) -> Self:
        """See `Pipeline.use`. A Checkpoint keeps one state for each mailbox in its one file, and knows what is new."""
        return self._with(lambda job: job.use(*middleware))

    def use_outside(self, *middleware: Middleware) -> Self:
        """Add middleware, outermost first, outside of what is there: for who runs a job that others described."""
        return self._with(lambda job: job.use_outside(*middleware))

    @property
    def middleware(self) -> Sequence[Middleware]:
        """What is used, outermost first."""
        return self._job.middleware

    def newest_first(self) -> Self:
        """Highest UIDs first, in each mailbox."""
        return self._with(lambda job: job.newest_first())

    async def mailboxes(self) -> list[MailboxEntry]:
        """The mailboxes that a run would be for now, in its order.

        Raises:
            ImapipeError: They could not be listed.
        """
        return list((await self._choose()).entries)

    async def plan(self) -> AccountPlan:
        """What a run would do now, in each mailbox: messages and bytes, without those that an earlier run did.

        Nothing is fetched but sizes; a mailbox that `run` would pass over costs no command.

        Raises:
            AuthenticationFailed, PoolClosed, CheckpointError: The account or the file of checkpoints cannot be used.
            ImapipeError: The mailboxes could not be listed. What goes wrong in one of them is in `errors`.
        """
        chosen = await self._choose()
        todo, unchanged = await self._look_for_news(self._labelled if chosen.with_labels else self._job, chosen.entries)
        work = [(task.name, task.job.plan) for task in todo]
        plans, errors = await do_each(work, at_once=min(self._pool.max_size, len(todo)))
        in_order = {task.name: plans[task.name] for task in todo if task.name in plans}
        return AccountPlan(
            account=self._job.account,
            plans=in_order,
            unchanged=tuple(unchanged),
            errors={**chosen.unknown, **errors},
        )

    async def run(
        self,
        handler: Handler | Sink,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        connections: int | None = None,
        on_error: OnError = "record",
        max_failures: int | None = None,
        handler_retry: HandlerRetry | None = None,
        commit_every_messages: int | None = None,
        commit_every_seconds: float | None = None,
        on_mailbox: OnMailbox | None = None,
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> AccountReport:
        """Run the job on every mailbox: every message goes to the handler, or to the sink, once.

        With a Checkpoint, a mailbox in which nothing changed since it was complete costs no command of its own, and in
        the others only what is above the UIDs seen then is searched (where the search is for something that neither
        flags nor the clock can change).

        Args:
            handler: As in `Pipeline.run`; `message.mailbox` tells where a message is from.
            concurrency: How many handlers work at a time, in all mailboxes together.
            connections: How many connections to use at most, shared out among the mailboxes that are run at a time;
                unless said all of the pool, and then a large mailbox uses those that are free.
            on_error: As in `Pipeline.run`.
            max_failures: As in `Pipeline.run`, for each mailbox.
            handler_retry: As in `Pipeline.run`.
            commit_every_messages: As in `Pipeline.run`, for each mailbox.
            commit_every_seconds: As in `Pipeline.run`.
            on_mailbox: Called when a mailbox has ended; what it raises ends the job.
            on_done: As in `Pipeline.run`, in each mailbox. The mailbox to which messages go must be none of those.
            on_failed: As `on_done`.

        Returns:
            The report. What ended the run on a mailbox is in its `errors`, and stops no other one; so is a name that
            no mailbox has.

        Raises:
            TypeError: A handler that cannot be awaited.
            ValueError: A number that cannot be, or messages would go to a mailbox that is worked on, too.
            AuthenticationFailed, PoolClosed, CheckpointError: The account or the file of checkpoints cannot be used.
            ImapipeError: The mailboxes could not be listed.

        Cancellation ends every run as it ends one; see `Pipeline.run`.
        """
        started_at, began = datetime.now(UTC), time.monotonic()
        chosen = await self._choose()
        job = followed_by(self._labelled if chosen.with_labels else self._job, on_done, on_failed)
        _check_targets(job, chosen.entries)
        async with kept_open(job.middleware):
            todo, unchanged = await self._look_for_news(job, chosen.entries)
            handlers = handlers_for(handler, [task.entry for task in todo], concurrency)
            side_by_side, connections_each = self._shares(connections, len(todo) if handlers.are_many else 1)

            details = Details()

            async def run_one(task: _Task, its_handler: Handler | Sink) -> RunReport:
                report = await task.job.run(
                    its_handler,
                    concurrency=concurrency,
                    connections=connections_each,
                    on_error=on_error,
                    max_failures=max_failures,
                    handler_retry=handler_retry,
                    commit_every_messages=commit_every_messages,
                    commit_every_seconds=commit_every_seconds,
                )
                return details.of(report)

            work = [
                (task.name, partial(run_one, task, its_handler))
                for task, its_handler in zip(todo, handlers.each, strict=True)
            ]
            reports, errors = await do_each(work, on_mailbox, at_once=side_by_side)
        return AccountReport(
            account=self._job.account,
            reports=reports,
            unchanged=tuple(unchanged),
            errors={**chosen.unknown, **errors},
            started_at=started_at,
            elapsed_seconds=time.monotonic() - began,
        )

    def _to_follow(self, on_done: MessageChange | None, on_failed: MessageChange | None) -> FollowedJob:
        plain, labelled = (followed_by(job, on_done, on_failed) for job in (self._job, self._labelled))

        async def choose_job() -> tuple[Sequence[MailboxEntry], Pipeline]:
            chosen = await self._choose()
            _check_targets(plain, chosen.entries)
            return chosen.entries, labelled if chosen.with_labels else plain

        where = ManyMailboxes(choose_job, self._job.middleware, is_everything=self._choice.wanted == ("*",))
        return FollowedJob(where, self._pool, self._job.account, runs_of(self._job))

    def _shares(self, connections: int | None, runs: int) -> tuple[int, int | None]:
        """How many runs are side by side, and how many connections each of them may use."""
        if connections is None or connections == self._pool.max_size:
            # The pool sees to it that there are no more, and hands them on to whoever waits.
            return min(self._pool.max_size, runs), connections
        check_whole("connections", connections)
        if not 1 <= connections <= self._pool.max_size:
            raise ValueError(
                f"connections={connections}: use 1 to {self._pool.max_size}, or raise max_size of the pool"
            )
        side_by_side = min(connections, max(1, runs))
        return side_by_side, connections // side_by_side

    async def _choose(self) -> Chosen:
        return await choose_mailboxes(self._pool, self._choice, outage_seconds=outage_seconds_of(self._job.middleware))

    async def _look_for_news(self, job: Pipeline, entries: Sequence[MailboxEntry]) -> tuple[list[_Task], list[str]]:
        memory = memory_of(job.middleware)
        known: Mapping[str, Remembered] = {}
        if memory is not None:
            ids = {entry.name: entry.status.mailbox_id for entry in entries if entry.status is not None}
            await memory.follow_names(job.account, {name: each for name, each in ids.items() if each})
            known = await memory.recall_all(job.account, [entry.name for entry in entries])
        todo: list[_Task] = []
        unchanged: list[str] = []
        for entry in entries:
            here = job.at(entry.name)
            remembered = known.get(entry.name)
            news = news_in(entry.status, remembered, job.criteria, job.fingerprint)
            if news is News.NOTHING:
                unchanged.append(str(entry.name))
            elif news is News.NEWER and remembered is not None and remembered.finished is not None:
                todo.append(_Task(entry, here.newer_than(remembered.uidvalidity, remembered.finished)))
            else:
                todo.append(_Task(entry, here))
        return todo, unchanged

    def _with(self, step: Callable[[Pipeline], Pipeline]) -> Self:
        return type(self)(self._pool, step(self._job), self._choice, step(self._labelled))


def _check_targets(job: Pipeline, entries: Sequence[MailboxEntry]) -> None:
    """Refuse to work on the mailbox where the messages of others go: they would be handled there once more."""
    after = after_of(job.middleware)
    for change in after.changes.values() if after is not None else ():
        for entry in entries:
            if change.target and change.target.lower() in (entry.name.lower(), (entry.special_use or "").lower()):
                raise ValueError(f"messages would go to {entry.name!r}, which is worked on, too: name it in exclude=")


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be done in one mailbox."""

    entry: MailboxEntry
    job: Pipeline

    @property
    def name(self) -> str:
        """Its name without the spelling that it may have: it is a key in reports."""
        return str(self.entry.name)
