"""The journal of a change: a file of JSON lines, which is on the disk before a command is sent.

Invariants:

- An intent is durable when `intend` returns. At most one of them has no result; the next is refused until it has.
- A result need not be durable: without it the next run looks for itself what came of the intent.
- A last line that was cut off by a crash is dropped: nothing was sent for it.
- One run has the file at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Final

import orjson

from imapipe.durable_file import (
    check_line,
    check_name,
    close,
    open_in_place,
    read_lines,
    sync_folder,
    write_all,
)
from imapipe.errors import JournalError, UidValidityChanged
from imapipe.journal.entry import ELSEWHERE, Intent, Job, Result, Story
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.lock_file import LockFile
from imapipe.wire.uid_set import UidSet

HEAD: Final = b'{"journal":"imapipe",'
"""What a journal begins with."""
UNDO_SUFFIX: Final = ".undo"
"""What the name of the journal of an undo ends in, with a number or a word behind it where there are several."""


class Journal:
    """The journal of one run.

    Args:
        path: The file; None keeps it in memory, so that a run can go on after a lost connection and no further.

    Raises:
        ValueError: The name of the file is empty.

    Attributes:
        done: What is done by it.
        story: What it tells.
    """

    __slots__ = ("_fd", "_lock", "_path", "done", "story")

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = os.fsdecode(path) if path is not None else ""
        if path is not None and not self._path:
            raise ValueError("the name of a journal is empty")
        self._fd = -1
        self._lock: LockFile | None = None
        self.story = Story()
        self.done = UidSet()

    @property
    def is_kept(self) -> bool:
        """Whether there is a file, by which somebody may undo the change later."""
        return bool(self._path)

    @property
    def was_undone(self) -> bool:
        """Whether journals of an undo are beside its file."""
        path = Path(self._path)
        return any(path.parent.glob(f"{escape(path.name)}{UNDO_SUFFIX}*"))

    @property
    def highest_uid(self) -> int:
        """The highest UID that it knows, or 0."""
        intents = [intent for intent, _ in self.story.steps]
        if self.story.pending is not None:
            intents.append(self.story.pending)
        return max((intent.uids.max for intent in intents), default=0)

    def take(self) -> None:
        """Take the file, and read it; it is made where there is none.

        Raises:
            JournalError: It is no journal, cannot be read or written, or another run has it.
        """
        if not self._path:
            return
        lock = LockFile(f"{self._path}.lock")
        try:
            if not lock.acquire():
                raise JournalError("another run has it; wait for that, or name another file", path=self._path)
            self._lock = lock
            self._fd = open_in_place(self._path, os.O_APPEND)
            self.story, length = _read(self._path)
            os.ftruncate(self._fd, length)
        except OSError as error:
            self.close()
            raise self._failed(error) from error
        except BaseException:
            self.close()
            raise
        self.done = UidSet.union([result.done for _, result in self.story.steps])

    def begin(self, job: Job) -> None:
        """Say what it is of; one that was begun earlier must be of the same.

        Raises:
            JournalError: It is of another change, was undone, or cannot be written.
            UidValidityChanged: The UIDs in it mean other messages now.
        """
        # Messages that came elsewhere have other UIDs when they are back; others would pass for done, or for undone.
        if job.kind not in ELSEWHERE and self._path and self.was_undone:
            raise JournalError(
                "it was undone, as the journals of that beside it say; name another file", path=self._path
            )
        known = self.story.job
        if known is None:
            self.story.job = job
            # The first intent makes it durable, too.
            self._write(job.line())
            if self._path:
                sync_folder(self._path)
            return
        if (known.account, known.mailbox) == (job.account, job.mailbox) and known.uidvalidity != job.uidvalidity:
            raise UidValidityChanged(
                job.mailbox, expected=known.uidvalidity, found=job.uidvalidity, advice="begin another journal"
            )
        if known != job:
            raise JournalError(
                f"it is of another change ({known.kind} in {known.mailbox!r} of {known.account}); name another file",
                path=self._path,
            )

    async def intend(self, intent: Intent) -> None:
        """Write down what is about to be sent. Raises JournalError: then nothing is to be sent.

        When it is cancelled, it ends first.
        """
        assert self.story.pending is None
        await to_the_end(asyncio.to_thread(self._intend, intent))

    def _intend(self, intent: Intent) -> None:
        self._write(intent.line(), durable=True)
        # Here, because whoever waits for it may be cancelled, and the run go on.
        self.story.pending = intent

    def copied(self, result: Result) -> None:
        """What was copied, and is to be removed here next. Raises JournalError."""
        self._write(result.line("copied"))
        self.story.copied = result

    def answered(self, result: Result) -> None:
        """What came of the intent. Raises JournalError."""
        pending = self.story.pending
        assert pending is not None
        self._write(result.line())
        self.story.steps.append((pending, result))
        self.story.pending = self.story.copied = None
        self.done |= result.done

    def close(self) -> None:
        """Make all of it durable and give the file back."""
        fd, self._fd = self._fd, -1
        lock, self._lock = self._lock, None
        try:
            if fd >= 0:
                os.fsync(fd)
                check_name(os.fstat(fd), self._path)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            if fd >= 0:
                close(fd)
            if lock is not None:
                lock.release()

    def _write(self, line: dict[str, object], *, durable: bool = False) -> None:
        if self._fd < 0:
            return
        try:
            data = orjson.dumps(line) + b"\n"
            check_line(data, self._path)
            write_all(self._fd, data)
            if durable:
                os.fsync(self._fd)
                check_name(os.fstat(self._fd), self._path)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> JournalError:
        return JournalError(str(error.strerror or error), path=self._path)


@contextmanager
def reading(path: str) -> Iterator[Story]:
    """What a journal tells, while no run has it.

    Raises:
        JournalError: It is none, cannot be read, or a run has it.
    """
    read_journal(path)
    lock = LockFile(f"{path}.lock")
    try:
        if not lock.acquire():
            raise JournalError("a run has it; wait for that", path=path)
    except OSError as error:
        raise JournalError(str(error.strerror or error), path=path) from error
    try:
        yield read_journal(path)
    finally:
        lock.release()


def read_journal(path: str | os.PathLike[str]) -> Story:
    """What a journal tells.

    Raises:
        JournalError: It is none, or cannot be read.
    """
    try:
        story, _ = _read(os.fspath(path))
    except OSError as error:
        raise JournalError(str(error.strerror or error), path=os.fspath(path)) from error
    if story.job is None:
        raise JournalError("it is empty: nothing was changed by it", path=os.fspath(path))
    return story


def _read(path: str) -> tuple[Story, int]:
    """It, and the length of what is whole."""
    story, length = Story(), 0
    try:
        for line in read_lines(path):
            if not line.endswith(b"\n"):
                if not length and not (line.startswith(HEAD) or HEAD.startswith(line)):
                    # It would be taken for what a crash cut off.
                    raise ValueError("it begins otherwise")
                break
            entry = orjson.loads(line)
            if not isinstance(entry, dict):
                raise TypeError("a line is no object")
            story.add(entry)
            length += len(line)
    except (KeyError, TypeError, ValueError) as error:
        reason = "it is no journal of a change, or of another version; name another file"
        raise JournalError(reason, path=path) from error
    return story, length
