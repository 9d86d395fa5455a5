"""The steps of a pipeline: each returns a new one and does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from imapipe.middleware.base import Middleware, check_order
from imapipe.models.argument import check_whole
from imapipe.models.cursor import Cursor
from imapipe.models.report import RunReport
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.batching import BatchPolicy, FixedBatch
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.operation.change import ChangeMessages
from imapipe.pipeline.operation.fetch import FetchMessages
from imapipe.pipeline.operation.text import OUTLINE, FetchText
from imapipe.pipeline.operation.windows import LEAST_WINDOW_BYTES, FetchWindows
from imapipe.pipeline.source.failed import Failed
from imapipe.pipeline.source.given import Given
from imapipe.pipeline.source.newer import Newer
from imapipe.pipeline.source.ranged import Ranged
from imapipe.pipeline.specification import Specification
from imapipe.search import ALL
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import MAX_UID, UidSet


class PipelineBuilder:
    """What `Pipeline` is before it runs: a job on one mailbox, described step by step."""

    __slots__ = ("_account", "_pool", "_runs", "_specification")

    def __init__(self, specification: Specification, pool: ConnectionPool, account: str, runs: Runs) -> None:
        self._specification = specification
        self._pool = pool
        self._account = account
        self._runs = runs

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._specification.mailbox!r} {self._specification.fingerprint}>"

    @property
    def account(self) -> str:
        """The account: `user@host:port`."""
        return self._account

    @property
    def criteria(self) -> SearchKey:
        """Which messages."""
        return self._specification.search

    @property
    def fingerprint(self) -> str:
        """Names the job in a checkpoint: symbolic search and fetch."""
        return self._specification.fingerprint

    @property
    def middleware(self) -> Sequence[Middleware]:
        """What is used, outermost first."""
        return self._specification.middleware

    def at(self, mailbox: str) -> Self:
        """The same job on another mailbox of the account."""
        return self._with(mailbox=mailbox)

    def search(self, criteria: SearchKey) -> Self:
        """Narrow the search: both must match."""
        before = self._specification.search
        # A search for everything is known by being ALL: what it does not find is missing.
        if before == ALL:
            return self._with(search=criteria)
        return self._with(search=before if criteria == ALL else before & criteria)

    def batch(self, policy: BatchPolicy | int) -> Self:
        """Say how large batches are: a policy, or a number for `FixedBatch`. Raises ValueError, TypeError."""
        if isinstance(policy, int):
            return self._with(policy=FixedBatch(policy))
        if isinstance(policy, type) or not hasattr(policy, "sizer"):
            raise TypeError(f"batch() takes a number or a policy such as imapipe.AdaptiveBatch(), not {policy!r}")
        return self._with(policy=policy)

    def fetch(
        self,
        *what: str | Fetch,
        max_text_bytes: int | None = None,
        prefer_plain: bool = False,
        window_bytes: int | None = None,
    ) -> Self:
        """Say what is wanted of each message, instead of what was said before: presets, `Fetch` values, or both.

        `"text"` is the envelope, the structure, and then only the parts that are text: `message.text` and `.html` are
        there, attachments are described, and `Mailbox.download` brings one.

        Args:
            what: Names of presets (`text`, and those of `Fetch`), or values.
            max_text_bytes: With "text": at most so many bytes of each part, as it is encoded in the message.
            prefer_plain: With "text": no HTML of messages that have plain text, which is what an index needs, and
                often a third of the bytes. Their `html` raises NotFetched.
            window_bytes: With the whole message ("full"): a message that is larger is asked for in windows of so many
                bytes, which all connections of the run fetch at the same time. Outcomes and bounds are those of others.

        Raises:
            ValueError: An unknown preset; `max_text_bytes` or `prefer_plain` without "text", or with the whole
                message; `max_text_bytes` below 1; `window_bytes` without the whole message, or below 65,536.
            TypeError: Neither the name of a preset nor a `Fetch`; or the pipeline changes messages.
        """
        if isinstance(self._specification.operation, ChangeMessages):
            raise TypeError("fetch() after a change: messages are fetched or changed; make two pipelines of one search")
        text = "text" in what
        wanted = OUTLINE if text else Fetch()
        for item in what:
            if item == "text":
                continue
            if not isinstance(item, str | Fetch):
                raise TypeError(f"fetch() takes names of presets and imapipe.Fetch(...), not {item!r}")
            wanted |= Fetch(item) if isinstance(item, str) else item
        if max_text_bytes is not None:
            check_whole("max_text_bytes", max_text_bytes)
            if max_text_bytes < 1:
                raise ValueError(f"max_text_bytes= takes 1 or more, not {max_text_bytes}")
        if window_bytes is not None:
            check_whole("window_bytes", window_bytes)
            if window_bytes < LEAST_WINDOW_BYTES or "BODY[]" not in wanted.names:
                raise ValueError(f'window_bytes= takes {LEAST_WINDOW_BYTES} or more, and goes with fetch("full")')
            return self._with(operation=FetchWindows(wanted, window_bytes))
        if text and "BODY[]" not in wanted.names:
            return self._with(operation=FetchText(wanted, max_text_bytes, prefer_plain))
        if max_text_bytes is not None or prefer_plain:
            raise ValueError('max_text_bytes= and prefer_plain= go with fetch("text"), not with other bodies or none')
        return self._with(operation=FetchMessages(wanted))

    def use(self, *middleware: Middleware) -> Self:
        """Add middleware, outermost first, inside of what is there.

        Raises:
            ValueError: An order in which one of them cannot do what it promises.
            TypeError: Not a middleware.
        """
        return self._using((*self._specification.middleware, *middleware))

    def use_outside(self, *middleware: Middleware) -> Self:
        """Add middleware, outermost first, outside of what is there: for who runs a job that others described.

        Raises as `use` does.
        """
        return self._using((*middleware, *self._specification.middleware))

    def limit(self, count: int) -> Self:
        """At most so many messages; the others are not planned. Raises ValueError."""
        check_whole("limit()", count)
        if count < 0:
            raise ValueError(f"limit() takes 0 or more, not {count}")
        return self._with(limit=count)

    def newest_first(self) -> Self:
        """Highest UIDs first."""
        return self._with(newest=True)

    def with_modseq(self) -> Self:
        """Have the server tell HIGHESTMODSEQ (`SearchResult.cursor`, `Run.cursor`): some do so only when asked."""
        return self._with(with_modseq=True)

    def depth(self, count: int) -> Self:
        """Keep exactly so many FETCHes in flight on each connection, instead of following the round trip."""
        check_whole("depth()", count)
        if not 1 <= count <= 64:
            raise ValueError(f"depth() takes 1 to 64, not {count}")
        return self._with(depth=count)

    def only_failed(self, report: RunReport | None = None) -> Self:
        """Only the messages that failed, instead of those the search finds.

        Args:
            report: That of an earlier run on this mailbox. Without it, those that failed by the Checkpoint of this
                pipeline and were not done since.

        Raises:
            ValueError: The report of another account or mailbox.

        Running it raises `UidValidityChanged` where the UIDs mean other messages by now.
        """
        if report is None:
            return self._with(source=Failed())
        if (report.account, report.mailbox) != (self._account, self._specification.mailbox):
            raise ValueError(
                f"the report is of {report.mailbox!r} at {report.account}, "
                f"not of {self._specification.mailbox!r} at {self._account}"
            )
        return self.only(report.failed_uids, uidvalidity=report.uidvalidity, cursor=report.cursor)

    def only(self, uids: UidSet, *, uidvalidity: int, cursor: Cursor | None = None) -> Self:
        """Only these messages, instead of those the search finds.

        Args:
            uids: Their UIDs, of `SearchResult.uids` or `MessageIndex.find` for instance.
            uidvalidity: The UIDVALIDITY that came with them; running it raises `UidValidityChanged` under another.
            cursor: The cursor that came with them: running it raises `UidValidityChanged` also where the server gives
                their UIDs to other messages under the same UIDVALIDITY, as far as UIDNEXT shows it.
        """
        return self._with(source=Given(uids, uidvalidity, cursor))

    def newer_than(self, uidvalidity: int, cursor: Cursor) -> Self:
        """Only messages that came after the mailbox had come so far; all of them where its UIDs mean others by now.

        Args:
            uidvalidity: UIDVALIDITY at that time.
            cursor: How far it had come, such as `report.cursor` of a complete run.
        """
        return self._with(source=Newer(uidvalidity, cursor))

    def within(self, first: int, last: int | None = None, *, uidvalidity: int) -> Self:
        """Only those that the search finds in a range of UIDs: a part of a mailbox that is worked on in parts.

        Args:
            first: The lowest UID; 1 or more.
            last: The highest one; without it the range has no end, and what arrives later is in it.
            uidvalidity: The UIDVALIDITY under which the range was made; running it raises `UidValidityChanged` under
                another.

        Raises:
            ValueError: It is no range.
        """
        check_whole("first", first)
        if last is not None:
            check_whole("last", last)
        if not 1 <= first <= (MAX_UID if last is None else min(last, MAX_UID)):
            raise ValueError(f"within() takes a range of UIDs from 1 on, not {first} to {last}")
        return self._with(source=Ranged(first, last, uidvalidity))

    def _using(self, middleware: tuple[Middleware, ...]) -> Self:
        for one in middleware:
            if not isinstance(one, Middleware):
                raise TypeError(f"use() takes middleware such as imapipe.Retry(), not {one!r}")
        check_order(middleware)
        return self._with(middleware=middleware)

    def _with(self, **changes: object) -> Self:
        specification = replace(self._specification, **changes)  # type: ignore[arg-type]  # checked by the callers
        return type(self)(specification, self._pool, self._account, self._runs)


def specification_of(job: PipelineBuilder) -> Specification:
    """What a job is, as a value."""
    return job._specification


def runs_of(job: PipelineBuilder) -> Runs:
    """The runs of its pool that are driven by tasks of their own."""
    return job._runs
