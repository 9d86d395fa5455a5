"""`Pipeline`: search → batch → fetch → handler, as an immutable value that is run.

Every step returns a new pipeline and does no I/O. Iterating, `run`, `stream`, `batches`, `uids` and `plan` each
make a new run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from imapipe.middleware.base import Middleware, check_order
from imapipe.models.argument import check_whole
from imapipe.models.report import RunReport
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.batching import BatchPolicy, FixedBatch
from imapipe.pipeline.handlers import Crew, Handler, check_handler
from imapipe.pipeline.memory import memory_of
from imapipe.pipeline.processes import ProcessHandler
from imapipe.pipeline.run import Run
from imapipe.pipeline.search_result import Reduction, SearchResult
from imapipe.pipeline.sizes import fetch_sizes
from imapipe.pipeline.specification import Specification
from imapipe.pipeline.stream import BatchStream, OnError, Runs, Stream
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a run would do, without fetching anything of the messages but their sizes.

    Attributes:
        mailbox: The mailbox.
        uidvalidity: Its UIDVALIDITY.
        uids: What the search found.
        messages: How many.
        total_bytes: The sum of RFC822.SIZE.
    """

    mailbox: str
    uidvalidity: int
    uids: UidSet
    messages: int
    total_bytes: int


class Pipeline:
    """A job on one mailbox, described step by step.

    Made by `Mailbox.search`. All steps may be left out; without `fetch` only UIDs are fetched.
    """

    __slots__ = ("_account", "_pool", "_runs", "_specification")

    def __init__(self, specification: Specification, pool: ConnectionPool, account: str, runs: Runs) -> None:
        self._specification = specification
        self._pool = pool
        self._account = account
        self._runs = runs

    def __repr__(self) -> str:
        return f"<Pipeline {self._specification.mailbox!r} {self._specification.fingerprint}>"

    # -- steps -----------------------------------------------------------------------------------

    def search(self, criteria: SearchKey) -> Pipeline:
        """Narrow the search: both must match."""
        return self._with(search=self._specification.search & criteria)

    def batch(self, policy: BatchPolicy | int) -> Pipeline:
        """Say how large batches are: a policy, or a number for `FixedBatch`. Raises ValueError, TypeError."""
        if isinstance(policy, int):
            return self._with(policy=FixedBatch(policy))
        if isinstance(policy, type) or not hasattr(policy, "sizer"):
            raise TypeError(f"batch() takes a number or a policy such as imapipe.AdaptiveBatch(), not {policy!r}")
        return self._with(policy=policy)

    def fetch(self, *what: str | Fetch) -> Pipeline:
        """Say what is wanted of each message, instead of what was said before: presets, `Fetch` values, or both.

        Raises:
            ValueError: An unknown preset.
            TypeError: Neither the name of a preset nor a `Fetch`.
        """
        wanted = Fetch()
        for item in what:
            if not isinstance(item, str | Fetch):
                raise TypeError(f"fetch() takes names of presets and imapipe.Fetch(...), not {item!r}")
            wanted |= Fetch(item) if isinstance(item, str) else item
        return self._with(fetch=wanted)

    def use(self, *layers: Middleware) -> Pipeline:
        """Add middleware, outermost first, inside of what is there.

        Raises:
            ValueError: An order in which a layer cannot do what it promises.
            TypeError: Not a middleware.
        """
        for layer in layers:
            if not isinstance(layer, Middleware):
                raise TypeError(f"use() takes middleware such as imapipe.Retry(), not {layer!r}")
        every = (*self._specification.layers, *layers)
        check_order(every)
        return self._with(layers=every)

    def limit(self, count: int) -> Pipeline:
        """At most so many messages; the others are not planned. Raises ValueError."""
        check_whole("limit()", count)
        if count < 0:
            raise ValueError(f"limit() takes 0 or more, not {count}")
        return self._with(limit=count)

    def newest_first(self) -> Pipeline:
        """Highest UIDs first."""
        return self._with(newest=True)

    def depth(self, count: int) -> Pipeline:
        """Keep exactly so many FETCHes in flight on each connection, instead of following the round trip."""
        check_whole("depth()", count)
        if not 1 <= count <= 64:
            raise ValueError(f"depth() takes 1 to 64, not {count}")
        return self._with(depth=count)

    def only_failed(self, report: RunReport | None = None) -> Pipeline:
        """Only the messages that failed, instead of those the search finds.

        Args:
            report: That of an earlier run on this mailbox. Without it, those that failed by the Checkpoint of this
                pipeline and were not done since.

        Raises:
            ValueError: The report of another account or mailbox.

        Running it raises `UidValidityChanged` where the UIDs mean other messages by now.
        """
        if report is None:
            return self._with(remembered=True, uids=None, uidvalidity=None)
        if (report.account, report.mailbox) != (self._account, self._specification.mailbox):
            raise ValueError(
                f"the report is of {report.mailbox!r} at {report.account}, "
                f"not of {self._specification.mailbox!r} at {self._account}"
            )
        return self._with(remembered=False, uids=report.failed_uids, uidvalidity=report.uidvalidity)

    def only(self, uids: UidSet, *, uidvalidity: int) -> Pipeline:
        """Only these messages, instead of those the search finds.

        Args:
            uids: Their UIDs, of `SearchResult.uids` or `MessageIndex.find` for instance.
            uidvalidity: The UIDVALIDITY that came with them; running it raises `UidValidityChanged` under another.
        """
        return self._with(remembered=False, uids=uids, uidvalidity=uidvalidity)

    def _with(self, **changes: object) -> Pipeline:
        specification = replace(self._specification, **changes)  # type: ignore[arg-type]  # checked by the callers
        return Pipeline(specification, self._pool, self._account, self._runs)

    # -- runs ------------------------------------------------------------------------------------

    async def run(
        self,
        handler: Handler,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        connections: int | None = None,
        on_error: OnError = "record",
        max_failures: int | None = None,
    ) -> RunReport:
        """Run the job: every message goes to the handler once.

        Args:
            handler: `async def handle(message)`; a message is done when it returns, failed when it raises.
            concurrency: How many handlers work at a time.
            connections: How many connections to use at most; all of the pool unless said.
            on_error: "record" puts what a handler raises into the report; "raise" ends the run with it.
            max_failures: Give up when more messages than this have failed; the rest fails as `not-tried`.

        Returns:
            The report; it reconciles: planned = done + skipped + vanished + failed.

        Raises:
            TypeError: A handler that cannot be awaited.
            AuthenticationFailed, ConnectionFailed, CommandNo, UidValidityChanged, CheckpointError: The run as a
                whole could not be done. Failures of single messages or batches are in the report instead.

        Cancellation stops the handlers, ends connections with something in flight, saves the checkpoint.
        """
        checked = check_handler(handler)
        check_whole("concurrency", concurrency)
        if max_failures is not None:
            check_whole("max_failures", max_failures)
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more, not {concurrency}")
        if max_failures is not None and max_failures < 0:
            raise ValueError(f"max_failures must be 0 or more, not {max_failures}")
        raise_errors = _checked(on_error) == "raise"
        try:
            await self._runs.wait_for_dropped()
            run = self._new_run(connections, max_failures=max_failures)
            await Crew(run, checked, concurrency=concurrency, raise_errors=raise_errors).work()
        finally:
            if isinstance(checked, ProcessHandler):
                checked.close()
        return run.report()

    def stream(self, *, on_error: OnError = "record", connections: int | None = 1) -> Stream:
        """Iterate in a block: `async with pipeline.stream() as s: async for message in s: …`, then `s.report`.

        Args:
            on_error: "record" leaves failures to the report; "raise" raises `Incomplete` at the end.
            connections: How many connections to use at most; None is all of the pool.
        """
        return Stream(self._new_run(connections), self._runs, _checked(on_error))

    def __aiter__(self) -> Stream:
        """Iterate over the messages; raises `Incomplete` at the end if a message failed."""
        return self.stream(on_error="raise")

    def batches(self, *, on_error: OnError = "raise", connections: int | None = 1) -> BatchStream:
        """Iterate over lists of messages, each acknowledged as a whole when the next is asked for.

        Args:
            on_error: As in `stream`.
            connections: As in `stream`.
        """
        return BatchStream(self._new_run(connections, by_batch=True), self._runs, _checked(on_error))

    async def uids(self) -> SearchResult:
        """The UIDs of a run now: what the search finds, within the limit. Checkpoints are not asked."""
        run = self._new_run(1)
        run.access.give_back(await run.look(save=True))
        criteria, found = self._specification.search, run.plan.planned
        step = Reduction(criteria.describe(), run.exists, len(found))
        unaccounted = run.books.unaccounted
        return SearchResult(
            self, run.account, run.mailbox, run.uidvalidity, criteria, found, (step,), unaccounted=unaccounted
        )

    async def find_within(self, uids: UidSet, criteria: SearchKey, *, uidvalidity: int) -> UidSet:
        """Those of some messages that match (`UID SEARCH UID …`); the way to it is `SearchResult.refine`."""
        return await self.only(uids, uidvalidity=uidvalidity)._new_run(1).narrow(criteria) if uids else uids

    async def plan(self) -> JobPlan:
        """What a run would do: counts and bytes. Only sizes are fetched."""
        run = self._new_run(1)
        connection = await run.look()
        uids = run.plan.planned
        connection, sizes = await run.access.reach(lambda lease: fetch_sizes(lease, uids), connection)
        run.access.give_back(connection)
        return JobPlan(run.mailbox, run.uidvalidity, uids, len(uids), sizes.total_bytes)

    def _new_run(self, connections: int | None, *, max_failures: int | None = None, by_batch: bool = False) -> Run:
        if connections is not None:
            check_whole("connections", connections)
        if connections is not None and not 1 <= connections <= self._pool.max_size:
            raise ValueError(
                f"connections={connections}: use 1 to {self._pool.max_size}, or raise max_size of the pool"
            )
        if self._specification.remembered and memory_of(self._specification.layers) is None:
            raise ValueError("only_failed() without a report needs a Checkpoint in use(...), which knows what failed")
        return Run(
            self._specification,
            self._pool,
            self._account,
            lanes=connections or self._pool.max_size,
            max_failures=max_failures,
            by_batch=by_batch,
        )


def _checked(on_error: OnError) -> OnError:
    if on_error not in ("record", "raise"):
        raise ValueError(f'on_error must be "record" or "raise", not {on_error!r}')
    return on_error
