"""`Pipeline`: search → batch → fetch → handler, as an immutable value that is run; and what its search finds.

Every step (`pipeline.builder`) returns a new pipeline and does no I/O. Iterating, `run`, `stream`, `batches`, `uids`
and `plan` each make a new run.

Invariant: a `SearchResult` is a value of one moment. Its UIDs mean something under its UIDVALIDITY only, and while the
mailbox is not behind its cursor; whatever uses them checks both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from imapipe.models.argument import check_whole
from imapipe.models.cursor import Cursor
from imapipe.models.report import RunReport
from imapipe.pipeline.after.after import after_of, with_changes
from imapipe.pipeline.delivery.consumption import DEFAULT_CONCURRENCY, Consumption, check_on_error
from imapipe.pipeline.delivery.handler_retry import HandlerRetry
from imapipe.pipeline.delivery.handlers import Handler
from imapipe.pipeline.delivery.sink import Sink
from imapipe.pipeline.delivery.stream import BatchStream, OnError, Stream
from imapipe.pipeline.findings import JobPlan, Reduction, plan_job
from imapipe.pipeline.follow.one import OneMailbox
from imapipe.pipeline.followable import Followable, FollowedJob
from imapipe.pipeline.memory import memory_of
from imapipe.pipeline.operation.message_change import MessageChange
from imapipe.pipeline.run import Run
from imapipe.pipeline.source.failed import Failed
from imapipe.pipeline.steps import ChangeSteps
from imapipe.wire.response.note import Note, add_counts
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet


class Pipeline(Followable, ChangeSteps):
    """A job on one mailbox, described step by step.

    Made by `Mailbox.search`. All steps may be left out; without `fetch` only UIDs are fetched.
    """

    __slots__ = ()

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
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> RunReport:
        """Run the job: every message goes to the handler, or to the sink, once.

        Args:
            handler: `async def handle(message)`; a message is done when it returns, failed when it raises. Or a
                `Sink`: messages are done when its `commit` has returned.
            concurrency: How many handlers work at a time.
            connections: How many connections to use at most; all of the pool unless said.
            on_error: "record" puts what a handler raises into the report; "raise" ends the run with it.
            max_failures: Give up when more messages than this were tried and failed; the rest fails as `not-tried`.
            handler_retry: Call the handler again for messages that it failed with, and stand still while everything
                fails: `imapipe.HandlerRetry(attempts=5, on=(OSError,))`. Without it a message has one try.
            commit_every_messages: With a sink: commit when so many messages are written; 500, unless the sink has
                an attribute of this name.
            commit_every_seconds: With a sink: commit when the first of them was written so long ago; 1.0, unless the
                sink has an attribute of this name.
            on_done: A change of each message after it was done, such as `imapipe.move_to("Processed")`: in groups, on
                a connection of its own. With a Checkpoint it is owed from the moment in which the message is done:
                where this run ends before it, the next one makes it first.
            on_failed: The same of each message that failed, but for those that an outage kept from being tried.

        Returns:
            The report; it reconciles: planned = done + skipped + vanished + failed, and
            changes_due = changed + change_vanished + change_failed.

        Raises:
            TypeError: A handler that cannot be awaited, or what is no change.
            CapabilityMissing: A change cannot be made without harm; nothing was fetched.
            SinkError: What a sink writes to cannot be written, or another run uses the sink.
            ValueError: An argument that cannot be, or a sink needs what the job does not fetch.
            AuthenticationFailed, ConnectionFailed, CommandNo, UidValidityChanged, CheckpointError: The run as a
                whole could not be done. Failures of single messages or batches are in the report instead.

        Cancellation stops the handlers, ends connections with something in flight, waits up to ten seconds for changes
        that follow messages, saves the checkpoint.

        Otherwise it raises as `Pool.acquire` and `Connection.uid_search` do.
        """
        consumption = Consumption.checked(
            handler,
            concurrency=concurrency,
            on_error=on_error,
            handler_retry=handler_retry,
            commit_every_messages=commit_every_messages,
            commit_every_seconds=commit_every_seconds,
        )
        if max_failures is not None:
            check_whole("max_failures", max_failures)
        if max_failures is not None and max_failures < 0:
            raise ValueError(f"max_failures must be 0 or more, not {max_failures}")
        try:
            await self._runs.wait_for_dropped()
            run = followed_by(self, on_done, on_failed)._new_run(connections, max_failures=max_failures)
            await consumption.consume(run)
        finally:
            consumption.close()
        return run.report()

    def stream(
        self,
        *,
        on_error: OnError = "record",
        connections: int | None = 1,
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> Stream:
        """Iterate in a block: `async with pipeline.stream() as s: async for message in s: …`, then `s.report`.

        Args:
            on_error: "record" leaves failures to the report; "raise" raises `Incomplete` at the end.
            connections: How many connections to use at most; None is all of the pool.
            on_done: As in `run`; a message is done when the next one is asked for.
            on_failed: As in `run`.

        Iterating raises Incomplete where `on_error` says so, and otherwise raises as `run` does.
        """
        job = followed_by(self, on_done, on_failed)
        return Stream(job._new_run(connections), self._runs, check_on_error(on_error))

    def __aiter__(self) -> Stream:
        """Iterate over the messages; raises `Incomplete` at the end if a message failed."""
        return self.stream(on_error="raise")

    def batches(
        self,
        *,
        on_error: OnError = "raise",
        connections: int | None = 1,
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> BatchStream:
        """Iterate over lists of messages, each acknowledged as a whole when the next is asked for.

        Args:
            on_error: As in `stream`.
            connections: As in `stream`.
            on_done: As in `stream`.
            on_failed: As in `stream`.

        Iterating raises Incomplete where `on_error` says so, and otherwise raises as `run` does.
        """
        job = followed_by(self, on_done, on_failed)
        return BatchStream(job._new_run(connections, by_batch=True), self._runs, check_on_error(on_error))

    async def uids(self) -> SearchResult:
        """The UIDs of a run now: what the search finds, within the limit. Checkpoints are not asked.

        Raises as `run` does.
        """
        run = self._new_run(1)
        run.access.give_back(await run.look(save=True))
        criteria, found = self._specification.search, run.plan.planned
        step = Reduction(criteria.describe(), run.exists, len(found))
        return SearchResult(
            self,
            run.account,
            run.mailbox,
            run.uidvalidity,
            run.cursor,
            criteria,
            found,
            (step,),
            unaccounted=run.unaccounted,
            notes=run.notes,
        )

    async def find_within(
        self, uids: UidSet, criteria: SearchKey, *, uidvalidity: int, cursor: Cursor
    ) -> tuple[UidSet, Mapping[Note, int]]:
        """Those of some messages that match (`UID SEARCH UID …`); the way to it is `SearchResult.refine`.

        Returns:
            They, and what of the answer was passed over.

        Raises as `run` does.
        """
        if not uids:
            return uids, {}
        run = self._new_run(1)
        return await run.narrow(criteria, uids, uidvalidity=uidvalidity, cursor=cursor), run.notes

    async def compare(self, remembered: Cursor, *, uidvalidity: int, cursor: Cursor) -> Cursor:
        """A cursor, to be compared with an earlier one; the way to it is `SearchResult.believable_cursor`.

        Raises as `run` does.
        """
        if not cursor.leaves_open(remembered):
            return cursor
        return await self._new_run(1).compare(remembered, uidvalidity=uidvalidity, cursor=cursor)

    async def plan(self) -> JobPlan:
        """What a run would do: counts and bytes, without what an earlier run did. Only sizes are fetched.

        Raises as `run` does.
        """
        return await plan_job(self._new_run(1), memory_of(self.middleware))

    def _new_run(self, connections: int | None, *, max_failures: int | None = None, by_batch: bool = False) -> Run:
        if connections is not None:
            check_whole("connections", connections)
        if connections is not None and not 1 <= connections <= self._pool.max_size:
            raise ValueError(
                f"connections={connections}: use 1 to {self._pool.max_size}, or raise max_size of the pool"
            )
        if isinstance(self._specification.source, Failed) and memory_of(self.middleware) is None:
            raise ValueError("only_failed() without a report needs a Checkpoint in use(...), which knows what failed")
        return Run(
            self._specification,
            self._pool,
            self._account,
            # Changes that follow messages are made on a connection of their own.
            lanes=connections or max(1, self._pool.max_size - (after_of(self.middleware) is not None)),
            max_failures=max_failures,
            by_batch=by_batch,
        )

    def _to_follow(self, on_done: MessageChange | None, on_failed: MessageChange | None) -> FollowedJob:
        job = followed_by(self, on_done, on_failed)._specification
        return FollowedJob(OneMailbox(self._pool, job), self._pool, self._account, self._runs)


def followed_by(job: Pipeline, on_done: MessageChange | None, on_failed: MessageChange | None) -> Pipeline:
    """The same job with changes that follow its messages. Raises as `with_changes` does."""
    return job._with(
        middleware=with_changes(job.middleware, job._pool, job.criteria, on_done=on_done, on_failed=on_failed)
    )


class SearchResult:
    """The UIDs that a search found. Made by `Pipeline.uids`; `len`, `in`, `==` and iteration are those of `uids`.

    ::

        everything = await pool.mailbox("INBOX").search(q.ALL).uids()
        recent = await everything.refine(q.since(days=30))
        flagged = await (await recent.refine(q.UNSEEN)).refine(q.FLAGGED)
        async for message in flagged.pipeline().fetch("envelope"):
            ...

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY.
        cursor: How far it had come.
        criteria: What the messages match: the searches of all steps.
        uids: The UIDs.
        reduction: What each step left, beginning with how many messages the mailbox held.
        unaccounted: Messages that a search for all did not find although the mailbox holds them: the server caps its
            answers. This may be a part of what that search found.
        notes: What of the answers was passed over, and how often: where there is one, a message may be missing.
    """

    __slots__ = (
        "_pipeline",
        "account",
        "criteria",
        "cursor",
        "mailbox",
        "notes",
        "reduction",
        "uids",
        "uidvalidity",
        "unaccounted",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        account: str,
        mailbox: str,
        uidvalidity: int,
        cursor: Cursor,
        criteria: SearchKey,
        uids: UidSet,
        reduction: tuple[Reduction, ...],
        unaccounted: int = 0,
        notes: Mapping[Note, int] = MappingProxyType({}),
    ) -> None:
        self._pipeline = pipeline
        self.account = account
        self.mailbox = mailbox
        self.uidvalidity = uidvalidity
        self.cursor = cursor
        self.criteria = criteria
        self.uids = uids
        self.reduction = reduction
        self.unaccounted = unaccounted
        self.notes = notes

    def __len__(self) -> int:
        return len(self.uids)

    def __bool__(self) -> bool:
        return bool(self.uids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.uids)

    def __contains__(self, uid: object) -> bool:
        return uid in self.uids

    def __eq__(self, other: object) -> bool:
        if isinstance(other, UidSet):
            return self.uids == other
        if not isinstance(other, SearchResult):
            return NotImplemented
        return self._place == other._place and self.uids == other.uids

    def __hash__(self) -> int:
        return hash(self.uids)

    @property
    def may_be_short(self) -> bool:
        """Whether an answer to a search could not be read to its end: a message may be missing, nobody knows."""
        return bool(self.notes)

    @property
    def _place(self) -> tuple[str, str, int]:
        """Where the UIDs mean something."""
        return self.account, self.mailbox, self.uidvalidity

    def __repr__(self) -> str:
        return f"<SearchResult of {len(self)} in {self.mailbox!r} for {self.criteria.describe()}>"

    async def refine(self, criteria: SearchKey) -> SearchResult:
        """Those of these messages that also match: the server looks at them only, not at the whole mailbox.

        They are sent as a set of UIDs, or as `$` where the connection and the server still know them (RFC 5182).
        Messages that are gone drop out, once the server has told this connection of it. No message costs no command.

        Args:
            criteria: Search keys of `imapipe.search`.

        Raises:
            UidValidityChanged: The UIDs mean other messages now.
            CapabilityMissing: The search needs what the server does not offer.
            CommandNo, CommandBad, Throttled: The server refused the search.
            CommandTimeout, ServerBye, ProtocolError: It said nothing, hung up, or said what cannot be read.
            AuthenticationFailed, ConnectionFailed, PoolTimeout: No connection could be had.
        """
        uids, more_notes = await self._pipeline.find_within(
            self.uids, criteria, uidvalidity=self.uidvalidity, cursor=self.cursor
        )
        notes = dict(self.notes)
        add_counts(notes, more_notes)
        step = Reduction(criteria.describe(), len(self.uids), len(uids))
        return SearchResult(
            self._pipeline.search(criteria),
            self.account,
            self.mailbox,
            self.uidvalidity,
            self.cursor,
            self.criteria & criteria,
            uids,
            (*self.reduction, step),
            unaccounted=self.unaccounted,
            notes=notes,
        )

    async def believable_cursor(self, remembered: Cursor) -> Cursor:
        """`cursor`, to be compared with one of an earlier time under the same UIDVALIDITY, by `Cursor.is_behind`.

        What a server says of UIDNEXT may be late, made up, or nothing; where that would matter, it is asked once more.

        Args:
            remembered: How far the mailbox had come when UIDs were seen that are kept somewhere.

        Raises:
            UidValidityChanged: The UIDs of this result mean other messages now.
            AuthenticationFailed, ConnectionFailed, PoolTimeout: No connection could be had.
        """
        return await self._pipeline.compare(remembered, uidvalidity=self.uidvalidity, cursor=self.cursor)

    def pipeline(self, uids: UidSet | None = None) -> Pipeline:
        """A job on these messages; running it raises UidValidityChanged where the UIDs mean others by now.

        Args:
            uids: Only on these of them.
        """
        chosen = self.uids if uids is None else self.uids & uids
        return self._pipeline.only(chosen, uidvalidity=self.uidvalidity, cursor=self.cursor)
