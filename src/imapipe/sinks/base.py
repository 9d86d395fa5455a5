"""What the sinks that write files have in common: the thread they work in, and how their troubles are told.

Invariants:

- All work on files is done in a worker thread, one call at a time; the event loop never waits for the disk.
- A call that is cancelled is finished in its thread before the next one begins, `close` among them, or never begins.
- A sink has one run at a time: what it holds is of that run.
- Messages that are there by their UID are believed to be these only while UIDNEXT is above them: else the run ends,
  since what is new would not be written.
- `OSError` of the files becomes `SinkError`, which ends the run; what a single message lacks costs that message.
"""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Self, TypeVar, TypeVarTuple

import anyio.to_thread

from imapipe.durable_file import named_in
from imapipe.errors import NotFetched, ProtocolError, SinkError
from imapipe.middleware.base import Run
from imapipe.models.batch import NO_UIDS
from imapipe.models.cursor import Cursor, reissued
from imapipe.models.identity import Renumbered
from imapipe.models.message import Message
from imapipe.wire.uid_set import UidSet

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


class FileSink(ABC):
    """A sink that writes below one path.

    Attributes:
        path: The file or the folder.
    """

    needs_body = True

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.path = Path(path)
        self._durable = durable
        self._busy = threading.Lock()
        self._runs = 0

    def _share(self, other: Self) -> None:
        """Do the work of two sinks one call at a time: they write to the same files."""
        self._busy = other._busy

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}>"

    async def open(self, run: Run) -> None:
        """See `Sink`.

        Raises:
            SinkError: The files cannot be used, or another run uses the sink.
            ValueError: The job does not fetch what is to be written.
            UidValidityChanged: What was written before has UIDs that mean other messages now.
        """
        self._begin_run()
        if self.needs_body and "BODY[]" not in run.items:
            raise ValueError(f'{type(self).__name__} writes whole messages: put .fetch("full") into the job')
        await self._in_thread(self._open, run)
        if run.renumbered is not None:
            await self._in_thread(self._renumber, run.renumbered)
        there = self._known()
        if there:
            met = Cursor(highest_uid=there.max)
            now = run.uidvalidity, await run.believable_cursor(met)
            advice = f"move away what was written to {os.fspath(self.path)!r}, or write to another place"
            changed = reissued(run.mailbox, (run.uidvalidity, met), now, advice)
            if changed is not None:
                raise changed

    def _begin_run(self) -> None:
        self._runs += 1
        if self._runs > 1:
            raise SinkError("another run has this sink; give each run one of its own", path=str(self.path))

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """See `Sink`. Raises SinkError."""
        return await self._in_thread(self._write, messages)

    async def commit(self) -> None:
        """See `Sink`. Raises SinkError."""
        await self._in_thread(self._commit)

    async def close(self) -> None:
        """See `Sink`."""
        self._runs -= 1
        if not self._runs:
            await self._in_thread(self._close)

    @abstractmethod
    def _open(self, run: Run) -> None:
        """A run begins."""

    def _renumber(self, renumbered: Renumbered) -> None:  # noqa: B027 - most can do nothing
        """Messages have other UIDs now. What is only appended to stays as it is; done again, this does nothing."""

    def _known(self) -> UidSet:
        """Messages of the run's mailbox that are taken for written by their UID alone."""
        return NO_UIDS

    def _write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        failed: dict[int, Exception] = {}
        for message in messages:
            try:
                self._write_one(message)
            except (NotFetched, OverflowError, ProtocolError) as error:
                failed[message.uid] = error
        return failed

    @abstractmethod
    def _write_one(self, message: Message) -> None:
        """Write one message. Raises NotFetched, ProtocolError, OverflowError: that message fails; OSError."""

    @abstractmethod
    def _commit(self) -> None:
        """Make safe what was written."""

    @abstractmethod
    def _close(self) -> None:
        """The run is over: leave nothing unfinished behind. `_open` may have failed, or never have been called."""

    async def _in_thread(self, work: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        is_wanted = True

        def alone() -> _Result:
            # One whose caller asyncio has cancelled works on, and the next call must wait for it.
            with self._busy:
                if not is_wanted:
                    # It comes too late: the next call may have been before it.
                    raise CancelledError
                return work(*arguments)

        try:
            return await anyio.to_thread.run_sync(alone)
        except asyncio.CancelledError:
            is_wanted = False
            raise
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise SinkError(error.strerror or str(error), path=str(named_in(error) or self.path)) from error
