"""What the pipeline may ask of middleware that knows earlier runs (`middleware.checkpoint.Checkpoint`).

The pipeline imports no concrete middleware: what has these members is taken for such a memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Protocol, runtime_checkable

from imapipe.middleware.base import Layer, Middleware, Run
from imapipe.models.cursor import Cursor
from imapipe.wire.uid_set import UidSet


class Remembered(Protocol):
    """What is known of earlier runs on a mailbox."""

    @property
    def uidvalidity(self) -> int:
        """The UIDVALIDITY under which the UIDs are to be read."""

    @property
    def fingerprint(self) -> str:
        """The job that the last run was of."""

    @property
    def finished(self) -> Cursor | None:
        """How far the mailbox had come when the last run began that left nothing undone, or None."""

    @property
    def cursor(self) -> Cursor:
        """How far the mailbox had come; `Cursor.is_behind` tells where its UIDs were given to other messages since."""

    @property
    def failed_uids(self) -> UidSet:
        """Messages that failed and were not done since."""


@runtime_checkable
class Memory(Protocol):
    """Middleware that knows earlier runs."""

    async def recall(self, account: str, mailbox: str) -> Remembered | None:
        """Read what is known, outside of a run."""

    async def recall_all(self, account: str, mailboxes: Iterable[str]) -> Mapping[str, Remembered]:
        """Read what is known of several mailboxes."""

    async def follow_names(self, account: str, mailboxids: Mapping[str, str]) -> None:
        """Have what is known of mailboxes follow them to other names: MAILBOXID stays (RFC 8474), by name here."""

    def kept_open(self) -> AbstractAsyncContextManager[None]:
        """Have what it knows at hand for the runs of one job."""

    async def done_before(self, run: Run) -> UidSet:
        """What earlier runs did of the run's job, which its UIDs are to be read with; outside of a run."""


@runtime_checkable
class Counting(Protocol):
    """A layer that counts over all runs."""

    @property
    def done_all_runs(self) -> int:
        """Messages done over all runs."""


@runtime_checkable
class KeptOpen(Protocol):
    """What lasts longer than a run, where there are several."""

    def kept_open(self) -> AbstractAsyncContextManager[None]:
        """Have it at hand for the runs of one job."""


@runtime_checkable
class Foreseeing(Protocol):
    """Middleware that can begin with something before its `start`."""

    def foresee(self) -> Callable[[], None]:
        """A run begins: do what takes a while beside its look at the mailbox; gives what ends that. Raises nothing."""


def memory_of(middleware: Sequence[Middleware]) -> Memory | None:
    """What knows earlier runs, if there is one."""
    return next((one for one in middleware if isinstance(one, Memory)), None)


@asynccontextmanager
async def kept_open(middleware: Sequence[Middleware]) -> AsyncIterator[None]:
    """Have what is known at hand for the runs of one job, where a layer keeps anything; raises what that raises."""
    async with AsyncExitStack() as stack:
        for one in middleware:
            if isinstance(one, KeptOpen):
                await stack.enter_async_context(one.kept_open())
        yield


@contextmanager
def foreseen(middleware: Sequence[Middleware]) -> Iterator[None]:
    """Let middleware begin with what takes a while, until all of it has started."""
    with ExitStack() as stack:
        for one in middleware:
            if isinstance(one, Foreseeing):
                stack.callback(one.foresee())
        yield


def done_all_runs_of(layers: Sequence[Layer]) -> int | None:
    """Messages done over all runs, where a layer counts them."""
    return next((layer.done_all_runs for layer in layers if isinstance(layer, Counting)), None)
