"""The contract between the pipeline and its middleware.

A `Middleware` is what a user makes, and may use in any number of runs and pools at the same time. For each run its
`start` gives a `Layer`: that run's own state, wrapped around the call that fetches one batch and hands its messages
to the handler:

    class Layer:
        async def __call__(self, batch, call_next):
            ...                                # before: wait, narrow the batch
            result = await call_next(batch)    # may be called again, or for parts of the batch
            ...                                # after: observe
            return result                      # joined with BatchResult.merge when called several times

Invariants:

- What runs share on purpose (the bucket of a limit, a budget) lives in the Middleware; everything else in the Layer.
- A layer is shared by all workers of its run, which call it at the same time.
- `start` is called once before the first batch, outermost first; `finish` once after the last outcome and then `stop`
  once, both innermost first; `stop` also after a failure or a cancellation, and only where `start` had returned.
- No layer swallows a cancellation.
- Costs are per batch. What must be known per message is in the ledger, which reports in groups.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable

from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.cursor import Cursor
from imapipe.models.identity import Identity, Renumbered
from imapipe.models.json_value import JSON
from imapipe.runtime.event_bus import EventBus
from imapipe.runtime.resources import ResourceUsage
from imapipe.wire.uid_set import UidSet

_Result = TypeVar("_Result")

Call = Callable[[Batch], Awaitable[BatchResult]]

Settled = Callable[[UidSet, Mapping[int, Failure], UidSet], None]
"""What a subscriber of the ledger is called with: newly done, newly failed, newly vanished."""


class Plan(Protocol):
    """What a run means to do. Pure: no I/O."""

    @property
    def planned(self) -> UidSet:
        """Every UID that this run's search found."""

    @property
    def remaining(self) -> UidSet:
        """The UIDs that no batch was made of yet; of a large plan `left` does not keep the event loop."""

    async def left(self) -> UidSet:
        """The same, computed in a thread where they are many."""

    @property
    def batch_size(self) -> int:
        """How many messages the next batch may hold."""

    async def skip(self, uids: UidSet) -> UidSet:
        """Take UIDs out of the plan because an earlier run did them; returns those that were in it.

        Cancelled, it has taken out nothing.
        """


class Ledger(Protocol):
    """The outcome of every planned UID, updated per message."""

    @property
    def done_count(self) -> int:
        """Messages handled in this run, exact at any time."""

    @property
    def failed_count(self) -> int:
        """Messages that failed in this run."""

    @property
    def refused_count(self) -> int:
        """How many of them were not tried, because a layer refused them."""

    @property
    def vanished_count(self) -> int:
        """Messages that were gone."""

    @property
    def skipped_count(self) -> int:
        """Messages that an earlier run did."""

    def subscribe(self, every: int, settled: Settled) -> Callable[[], None]:
        """Call `settled` with what is new, at least each time `every` messages were settled.

        The call is synchronous and comes before the next message is settled. The function returned ends the
        subscription.
        """

    def flush(self) -> None:
        """Tell the subscribers now what is new, however little."""


class Resources(Protocol):
    """The resource sampler of a run."""

    def usage(self) -> ResourceUsage:
        """What was seen so far; final when the run is over."""


class Run(Protocol):
    """What a middleware may know of the run it serves."""

    @property
    def account(self) -> str:
        """The account, as user, host and port; the key of checkpoints and limits."""

    @property
    def mailbox(self) -> str:
        """The name of the mailbox."""

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of the mailbox; UIDs mean something under this value only."""

    @property
    def cursor(self) -> Cursor:
        """What the server said of the mailbox when it was opened: UIDNEXT, HIGHESTMODSEQ, MAILBOXID, EXISTS."""

    async def believable_cursor(self, remembered: Cursor) -> Cursor:
        """`cursor`, to be compared with one of an earlier time under the same UIDVALIDITY, by `Cursor.is_behind`.

        For the `start` of a layer and the `open` of a sink; later on it needs a connection that the run does not hold.
        What a server says of UIDNEXT may be late, made up, or nothing; where that would matter, it is asked once more.

        Args:
            remembered: How far the mailbox had come then.

        Raises:
            ImapipeError: It could not be asked.
        """

    async def identities(self, uids: UidSet) -> Mapping[int, Identity]:
        """What tells messages of the mailbox apart whatever UIDs they have; of those that are there.

        For the `start` of a layer, like `believable_cursor`.

        Raises:
            ImapipeError: The server could not be asked.
        """

    async def aside(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something that needs connections of its own; for the `start` of a layer: the run holds none meanwhile."""

    renumbered: Renumbered | None
    """Set by the `start` of a layer that knows it; a sink that has messages under the UIDs of before moves them."""

    @property
    def has_begun(self) -> bool:
        """Whether all layers have started, and a sink is open."""

    @property
    def fingerprint(self) -> str:
        """Names the job: symbolic search and fetch."""

    @property
    def is_whole(self) -> bool:
        """Whether everything that its search can find is planned: no limit, and no messages named by the caller."""

    @property
    def items(self) -> frozenset[str]:
        """What each message brings: the names of FETCH items, such as `BODY[]`, and TEXT where only its text comes."""

    @property
    def plan(self) -> Plan:
        """What the run means to do."""

    @property
    def ledger(self) -> Ledger:
        """What became of the messages so far."""

    @property
    def events(self) -> EventBus:
        """What happens beside the messages."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that have started so far, outermost first: in `start`, those outside of the new one."""

    @property
    def resources(self) -> Resources:
        """What the run costs the machine; sampled once a second, for all who want to know."""

    @property
    def unaccounted(self) -> int:
        """Messages that the search did not find although the mailbox holds them."""

    @property
    def may_be_short(self) -> bool:
        """Whether an answer to the search could not be read to its end."""

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses so far, after decompression."""

    @property
    def connections(self) -> int:
        """Lanes that hold a connection now."""

    async def refuse(self, uids: UidSet, reason: str, detail: str) -> None:
        """Take messages out of the plan that are to fail without a try; to be called in `start`.

        Those that are still in the plan fail with this reason in the report. Subscribers of the ledger do not hear of
        them: for a later run nothing has happened to them.
        """

    def give_up(self, because: str, *, retry_at: datetime | None = None) -> None:
        """Make no further batch, and end the run when those under way are over.

        What was not tried fails as `not-tried` in the report, with `because` as its detail; for a later run nothing
        has happened to it. A layer that lets a batch go no more gives its messages back as missing.

        Args:
            because: The reason, as a sentence.
            retry_at: When it is worth to come back (aware), for the report.
        """

    def hold(self) -> Callable[[], None]:
        """Hand out no further message until the function that this gives is called, or the run ends.

        Handlers that are at work may finish, and batches go on until their messages wait. One layer of a run may hold
        it at a time; to be called in the event loop, also from the ledger's callback.
        """

    def fail(self, error: BaseException, *, at_once: bool = False) -> None:
        """End the run with this error: hand out no further message and make no further batch.

        Handlers that are at work may finish, and what they did counts. The first error counts; to be called in the
        event loop, also from the ledger's callback. It raises nothing.

        Args:
            error: What is raised.
            at_once: Cancel what is under way, handlers too, since another run may be doing the same.
        """


class Layer:
    """One run's own state of a middleware; passes everything through."""

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        """Let a batch through."""
        return await call_next(batch)

    async def finish(self) -> None:
        """Every message has its outcome, and none will come; not called where the run was cancelled, or raised.

        Raising ends the run with it; `stop` is called all the same.
        """

    async def stop(self) -> None:
        """The run is over. Called under cancellation too: keep it short and synchronous at heart."""


class Notes(Protocol):
    """Values that are kept for an account, by name."""

    @property
    def path(self) -> str:
        """Where they are kept, for the texts of errors."""

    def get(self, name: str) -> JSON:
        """The value of a name, None where there is none."""

    def put(self, name: str, value: JSON) -> None:
        """Give a name a value, which outlives the process from the moment this returns. Takes microseconds.

        Raises:
            CheckpointError: It could not be written.
        """


@runtime_checkable
class KeepsNotes(Protocol):
    """A layer that keeps notes for those inside of it: they find it in `Run.layers`."""

    async def notes(self) -> Notes:
        """The notes of the run's account; good from the `start` of who asks to its `stop`.

        Raises:
            CheckpointError: They cannot be read or written.
        """


@runtime_checkable
class GivesTurns(Protocol):
    """A layer that lets batches through one after the other: a turn is for now, and not for a connection in a minute.

    A lane has its connection before a batch of it comes to such a layer, and shows it the batch before it is sent.
    """

    async def renew(self, batch: Batch) -> None:
        """The batch is about to be sent: where its turn is long past, it takes another one."""


Accompany = Callable[[UidSet, Mapping[int, Failure], UidSet], JSON]
"""Gives a value that belongs to a group of outcomes: newly done, newly failed, newly vanished."""


@runtime_checkable
class KeepsValues(Protocol):
    """A layer that keeps values of the run's job by name, together with the outcomes of its messages.

    As long as one of them is not null, the job has something left to do: it is not complete.
    """

    def value(self, name: str) -> JSON:
        """What is kept under a name, null where nothing is."""

    def put_values(self, values: Mapping[str, JSON]) -> None:
        """Keep values by name: all of them outlive the process from the moment this returns. Takes microseconds.

        Raises:
            CheckpointError: It could not be written.
        """

    def accompany(self, name: str, value: Accompany) -> None:
        """Keep with each group of outcomes what `value` gives for it: both are there afterwards, or neither is."""

    async def make_durable(self) -> None:
        """What was kept so far survives a loss of power when this returns.

        Raises:
            CheckpointError: It does not.
        """


class Middleware:
    """The base of every middleware: a value that any number of runs may use at the same time.

    Attributes:
        not_inside: Types of middleware that this one must not stand inside of; `use()` checks them.
        stands_around_changes: It is to stand around the changes that follow messages (`on_done=`), too: limits, and
            what tries again.
    """

    not_inside: Sequence[type[Middleware]] = ()
    stands_around_changes: bool = False

    async def start(self, run: Run) -> Layer:
        """Prepare for a run, and give its layer. May read and write files; raising ends the run before its first batch.

        A layer that only listens may be a plain `Layer()`.
        """
        raise TypeError(f"{type(self).__name__} has no start(), which gives a run its layer")


class Limit(Middleware):
    """The base of what holds batches back: every try pays, so whatever tries again stands outside of it."""


def chain(layers: Sequence[Layer], innermost: Call) -> Call:
    """Wrap `innermost` in the layers, the first one outermost."""
    call = innermost
    for layer in reversed(layers):
        call = _wrap(layer, call)
    return call


def _wrap(layer: Layer, call_next: Call) -> Call:
    async def call(batch: Batch) -> BatchResult:
        return await layer(batch, call_next)

    return call


def check_order(middleware: Sequence[Middleware]) -> None:
    """Refuse an order in which one of them cannot do what it promises.

    Raises:
        ValueError: One stands inside of a type that its `not_inside` names.
    """
    for number, inner in enumerate(middleware):
        for outer in middleware[:number]:
            if isinstance(outer, tuple(inner.not_inside)):
                names = type(inner).__name__, type(outer).__name__
                raise ValueError(f"{names[0]} must stand outside of {names[1]}: name it earlier in use(...)")
