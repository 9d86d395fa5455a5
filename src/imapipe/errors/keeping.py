"""What is kept on disk, in databases and in other processes."""

from __future__ import annotations

from imapipe.errors.base import ImapipeError
from imapipe.errors.said import cut, written_out


class WorkerDied(ImapipeError):
    """A worker process ended without an answer: a crash in C code, or the system was out of memory."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        super().__init__(f"the worker process ended with exit code {exit_code} while it had the message")


class SpoolError(ImapipeError, OSError):
    """The temporary file of a large body could not be written or read."""


class SinkError(ImapipeError, OSError):
    """What a sink writes to cannot be written or used. What was not made safe before does not count as done.

    Attributes:
        reason: What is wrong.
        path: The file or folder.
    """

    def __init__(self, reason: str, *, path: str) -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}")


class MessageIndexError(ImapipeError):
    """The file of a local index cannot be used.

    Attributes:
        reason: What is wrong with it.
        path: The file.
    """

    def __init__(self, reason: str, *, path: str = "") -> None:
        # Some of it may be of a file that somebody made.
        self.reason = cut(reason)
        self.path = path
        where = f" {path}" if path else ""
        super().__init__(f"index{where}: {written_out(self.reason)}")


class JournalError(ImapipeError):
    """The journal of a change cannot be used. What was not written down in it was not sent.

    Attributes:
        path: The file.
    """

    def __init__(self, reason: str, *, path: str = "") -> None:
        # Some of it may be of a file that somebody made.
        self.reason = cut(reason)
        self.path = path
        where = f" {path}" if path else ""
        super().__init__(f"journal{where}: {written_out(self.reason)}")


class DatabaseError(ImapipeError):
    """The database that several processes share cannot be used.

    Attributes:
        reason: What is wrong with it.
        database: Its address without its password, or its file.
        is_transient: Whether it may pass: the same can be tried again later.
        is_lost: Whether the connection is gone; whether the last transaction was committed is not known then.
    """

    def __init__(self, reason: str, *, database: str = "", is_transient: bool = False, is_lost: bool = False) -> None:
        self.reason = reason
        self.database = database
        self.is_transient = is_transient
        self.is_lost = is_lost
        super().__init__(f"database {database}: {reason}" if database else f"database: {reason}")


class CheckpointError(ImapipeError):
    """The checkpoint cannot be used. Nothing was changed in it.

    Attributes:
        path: The file, or whatever names the checkpoint in its store.
    """

    def __init__(self, reason: str, *, path: str = "") -> None:
        # Some of it may be of a file that somebody made.
        self.reason = cut(reason)
        self.path = path
        where = f" {path}" if path else ""
        super().__init__(f"checkpoint{where}: {written_out(self.reason)}")


class CheckpointCorrupt(CheckpointError):
    """The file is not a whole checkpoint."""


class CheckpointVersion(CheckpointError):
    """The file was written in another version of the format."""


class CheckpointMismatch(CheckpointError):
    """The checkpoint belongs to another job: another search, fetch or name."""


class CheckpointLocked(CheckpointError):
    """Another run holds this job of the checkpoint, or another process its file."""


class CheckpointLost(CheckpointError):
    """The checkpoint was ours and is another's now, in the middle of the run; nothing more is written to it."""
