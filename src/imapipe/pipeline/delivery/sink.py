"""Sinks: consumers that take whole groups of messages and make them safe before they count.

    class Sink:
        async def open(self, run): ...
        async def write(self, messages): ...    # gives what failed; the bytes may go when it returns
        async def commit(self): ...             # all that was written is durable: only now is it done
        async def close(self): ...

Invariants:

- A message is done when a `commit` that began after its `write` had returned has returned. A crash between the two
  repeats it: a sink recognises what it has written before and leaves no double.
- `write` and `commit` never overlap, and there is one `write` at a time unless the sink says `parallel = True`.
- The bytes of a message are released when its `write` has returned, so memory does not depend on when groups are made
  safe; it is not asked for again meanwhile.
- `close` is called once where `open` was called, also when that raised, and after a cancellation; a cancellation that
  comes while it is at work waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.net.pool.lease import holder
from imapipe.pipeline.delivery.driven import Driven
from imapipe.pipeline.delivery.handlers import failure_of
from imapipe.pipeline.delivery.inbox import Delivery
from imapipe.pipeline.delivery.tasks import end_tasks, raise_first, raise_outcome
from imapipe.runtime.completion import to_the_end
from imapipe.wire.uid_set import UidSet

COMMIT_EVERY_MESSAGES = 500
COMMIT_EVERY_SECONDS = 1.0


class Sink(Protocol):
    """A handler for groups of messages, with a commit.

    A class may have an attribute `parallel = True`: then `write` is called by as many tasks as `concurrency` says.

    Where a run is cancelled, so is the call that is under way, and `close` follows; what was written since the last
    commit does not count.
    """

    async def open(self, run: Run) -> None:
        """A run begins. What an earlier one left unfinished is cleaned up here. Raising ends the run."""

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """Take messages; gives those that failed, by UID, with the reason. Their bytes may go when it returns.

        Raising ends the run: none of the messages is done then.
        """

    async def commit(self) -> None:
        """Make all that was written durable. Raising ends the run: what was written since the last one is not done."""

    async def close(self) -> None:
        """The run is over. What was written and not committed is of no account.

        It is not cancelled: whoever cancels the run meanwhile waits for it, for 30 seconds at most.
        """


def is_sink(consumer: object) -> TypeGuard[Sink]:
    """Whether something is a sink and not a handler."""
    return all(callable(getattr(consumer, name, None)) for name in ("open", "write", "commit", "close"))


@runtime_checkable
class Divisible(Protocol):
    """A sink that gives each mailbox of an account a sink of its own, so that several may be written side by side."""

    def for_mailbox(self, name: str, delimiter: str | None) -> Sink | None:
        """The sink for one mailbox; None where it cannot be divided after all.

        Args:
            name: The name of the mailbox.
            delimiter: What separates the levels of the name, or None.
        """


def sink_for(sink: Sink, name: str, delimiter: str | None) -> Sink | None:
    """The sink for one mailbox of an account, or None where one sink has to serve all of them in turn."""
    return sink.for_mailbox(name, delimiter) if isinstance(sink, Divisible) else None


class Scribe:
    """Writes the messages of a run to a sink, and commits in time (a `Consumer`).

    Args:
        run: The run.
        sink: Where they go.
        concurrency: How many tasks write, where the sink takes several.
        commit_every_messages: Commit when so many are written.
        commit_every_seconds: Commit when the first of them was written so long ago.
        raise_errors: End the run with the first failure of a message, instead of recording it.
    """

    def __init__(
        self,
        run: Driven,
        sink: Sink,
        *,
        concurrency: int,
        commit_every_messages: int,
        commit_every_seconds: float,
        raise_errors: bool,
    ) -> None:
        self._run = run
        self._sink = sink
        self._writers = concurrency if getattr(sink, "parallel", False) else 1
        self._every_messages = commit_every_messages
        self._every_seconds = commit_every_seconds
        self._raise_errors = raise_errors
        self._written = 0
        self._due: float | None = None
        self._writing = 0
        self._no_writing = asyncio.Event()
        self._no_writing.set()
        self._no_commit = asyncio.Event()
        self._no_commit.set()
        self._is_open = False
        self._began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finished: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Drive the run to its end. Raises what ends it, or what the sink raised."""
        driver = asyncio.create_task(self._run.drive(self), name=f"imapipe run {self._run.mailbox}")
        driver.add_done_callback(lambda _: self._run.inbox.close())
        driver.add_done_callback(lambda _: self._began.cancel())
        self._finished = asyncio.create_task(self._write_all(), name="imapipe sink")
        tasks = [driver, self._finished]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await end_tasks(tasks)
        raise_outcome(driver, [self._finished], self._run.failure)

    async def begin(self, run: Run) -> None:
        """See `Consumer`."""
        try:
            await self._sink.open(run)
        except BaseException:
            await to_the_end(self._sink.close())
            raise
        self._is_open = True
        self._began.set_result(None)

    async def finish(self) -> None:
        """See `Consumer`: everything is written and committed, and the sink is closed."""
        assert self._finished is not None
        # Where the run never came to begin, there is nothing to write.
        self._began.cancel()
        # Not awaited itself: whoever cancels the run cancels the writing by its own way.
        await asyncio.wait([self._finished])
        self._finished.result()

    async def _write_all(self) -> None:
        try:
            await asyncio.wait([self._began])
            if self._began.cancelled():
                return
            # An acquire() in the sink must not wait for a lease that this very run holds.
            holder.set(self._run)
            async with asyncio.TaskGroup() as group:
                for _ in range(self._writers):
                    group.create_task(self._write())
            await self._commit()
        except BaseExceptionGroup as errors:
            raise_first(errors)
        finally:
            # Also where the cancellation came between the two: `begin` has opened it, and this had not seen it yet.
            if self._is_open:
                # A cancellation may come now, too, and would leave locks and files behind.
                await to_the_end(self._sink.close())

    async def _write(self) -> None:
        """One writer: write what is there, as one group, until nothing will come any more."""
        items = self._run.inbox.items
        while await self._has_more():
            while not self._no_commit.is_set():
                await self._no_commit.wait()
            group: list[Delivery] = []
            while items and self._written + len(group) < self._every_messages:
                group.append(items.popleft())
            if group:
                self._writing += 1
                self._no_writing.clear()
                try:
                    await self._write_group(group)
                finally:
                    self._writing -= 1
                    if not self._writing:
                        self._no_writing.set()
            if self._written >= self._every_messages or self._is_due:
                await self._commit()

    async def _has_more(self) -> bool:
        while True:
            try:
                async with asyncio.timeout_at(self._due):
                    return await self._run.inbox.wait()
            except TimeoutError:
                await self._commit()

    @property
    def _is_due(self) -> bool:
        return self._due is not None and asyncio.get_running_loop().time() >= self._due

    async def _write_group(self, group: list[Delivery]) -> None:
        if self._run.inbox.has_given_up:
            _abandon(group)
            return
        self._written += len(group)
        if self._due is None:
            self._due = asyncio.get_running_loop().time() + self._every_seconds
        try:
            failed = await self._sink.write([message for _, message in group])
        except BaseException:
            _abandon(group)
            raise
        self._run.ledger.await_commit(
            UidSet.from_numbers([message.uid for _, message in group if message.uid not in failed])
        )
        for carrier, message in group:
            error = failed.get(message.uid)
            if error is not None:
                carrier.fail(message, failure_of(message, error))
            carrier.release(message)
        for error in failed.values():
            if self._raise_errors:
                self._run.stop(error)
                raise error
            self._run.message_failed()

    async def _commit(self) -> None:
        """Make safe what is written; whoever finds it under way waits for it."""
        if not self._no_commit.is_set():
            await self._no_commit.wait()
            return
        if self._due is None:
            return
        self._no_commit.clear()
        try:
            await self._no_writing.wait()
            self._written = 0
            self._due = None
            await self._sink.commit()
            self._run.ledger.commit()
        finally:
            self._no_commit.set()


def _abandon(group: list[Delivery]) -> None:
    for carrier, message in group:
        carrier.abandon(message)
