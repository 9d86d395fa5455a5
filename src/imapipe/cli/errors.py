"""From an exception to one sentence that says what to do, and to an exit status.

Invariants:

- A sentence is one line of printable characters, whatever a server sent; it holds no credential.
- Every exception has a status; what nobody thought of is told as such, with the advice to use `--debug`.
"""

from __future__ import annotations

import errno
import sqlite3
from datetime import datetime
from enum import IntEnum
from types import TracebackType
from typing import Final

import imapipe
from imapipe.cli.terminal import printable


class Status(IntEnum):
    """Exit statuses of the command line."""

    COMPLETE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    AUTHENTICATION = 4
    INTERRUPTED = 130
    TERMINATED = 143


class AsMistake:
    """`with AsMistake():` tells what the block refuses (ValueError), such as a search or a URL, as a `Mistake`."""

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ValueError):
            raise Mistake(str(error)) from error


class Mistake(Exception):
    """The command was called in a way that cannot work; the text says what to change."""


# The library speaks of its arguments; here they are options. A test holds that it still says each of these.
PHRASES: Final = (
    ("allow_plaintext=True", "--allow-plaintext"),
    ("starttls=True", "--starttls"),
    ("give an ssl_context that knows the certificate", "name a file that holds it with --ca-file"),
    ("(connect_timeout_seconds)", "(--timeout)"),
    ('on_uidvalidity="restart"', "--on-uidvalidity restart"),
    ('name="…"', "--name"),
    ('on_mismatch="accept"', "--on-mismatch accept"),
    ("make one with MessageIndex.update", "make one with `imapipe index`"),
    ("max_deletions=", "--max-deletions "),
    ("max_deletions takes", "--max-deletions takes"),
    ("proxy= takes", "--proxy takes"),
    ("give its client_id", "give its --client-id"),
    ("give token_url and authorize_url", "give --token-url and --authorize-url"),
    ("give authorize_url", "give --authorize-url"),
    ("tenant takes", "--tenant takes"),
    ("with its client_secret", "with its secret: set IMAPIPE_CLIENT_SECRET, or name a file with --client-secret-file"),
    ("by itself: give scopes", "by itself: give --scope"),
    ("delete(permanently=True)", "`imapipe delete --permanently`"),
    ("move_to()", "`imapipe move`"),
    ("max_messages=", "--max-messages "),
    (" or as user=", ""),
    (", or Fetch(...)", ""),
)

_FOLDERS: Final = "`imapipe folders` lists those there are"

_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (
        imapipe.AuthenticationFailed,
        (
            "check the user name and the password, or log in anew with `imapipe login` for another token; "
            "some providers want an app password, or a token"
        ),
    ),
    (imapipe.Throttled, "wait a while, then use fewer --connections or a lower --rate"),
    (imapipe.ServerBye, "try again later"),
    (imapipe.CheckpointCorrupt, "put a copy back, or move it away to begin anew"),
    # Their texts say it.
    (imapipe.CheckpointVersion, ""),
    (imapipe.CheckpointMismatch, ""),
    (imapipe.CheckpointLocked, "wait until that run has ended, or use another file"),
    (imapipe.CheckpointError, "name a file that can be read and written"),
    (imapipe.CommandTimeout, "try again, or be more patient with --timeout"),
    (imapipe.PoolTimeout, "try again, or use fewer --connections"),
    (imapipe.ConnectionLost, "try again"),
    (imapipe.ProtocolError, "please report it, with the name of the server"),
    (imapipe.SpoolError, "make room, or set TMPDIR to a folder that has some"),
)

# Those of connections are errors of the system, too.
_ABOUT_FILES: Final = (
    imapipe.CheckpointError,
    imapipe.JournalError,
    imapipe.MessageIndexError,
    imapipe.SinkError,
)
_FULL: Final = "make room, and run it again: what was written before is safe"
_NOT_OURS: Final = "name another place, or see that it may be written to"
_BY_ERRNO: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _NOT_OURS),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a folder is wanted where a file is: name another place"),
    errno.EISDIR: "name a file: this is a folder",
    errno.ENOENT: "check the path: its folder has to be there",
}
_BY_SQLITE: Final = {
    sqlite3.SQLITE_FULL: _FULL,
    **dict.fromkeys((sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY), _NOT_OURS),
}


def explain(error: BaseException, *, mailbox: str = "") -> tuple[str, Status]:
    """Say what happened and what to do about it.

    Args:
        error: What ended the command.
        mailbox: The mailbox that the command was for.

    Returns:
        One sentence, without a line end, and the exit status.
    """
    match error:
        case Mistake() | imapipe.InvalidURL() | imapipe.InvalidSearch() | imapipe.AccountsError():
            return printable(as_options(str(error))), Status.USAGE
        case imapipe.TokenRefused():
            return printable(f"{error.text}; log in (again) with `imapipe login`"), Status.AUTHENTICATION
        case imapipe.AutodiscoverFailed():
            return printable(str(error)), Status.FAILED
        case imapipe.AuthenticationFailed():
            return _advised(error, f"the server refused the login: {error.text}"), Status.AUTHENTICATION
        case imapipe.CommandNo(command="SELECT" | "EXAMINE") | imapipe.CommandBad(command="SELECT" | "EXAMINE"):
            name = f"the mailbox {mailbox!r}" if mailbox else "a mailbox"
            return printable(f"{name} cannot be opened: {error.text}; {_FOLDERS}"), Status.FAILED
        case imapipe.CommandNo(code="NONEXISTENT"):
            return printable(f"{error.text}; {_FOLDERS}"), Status.FAILED
        case imapipe.CommandNo(command="STATUS"):
            # The target of a change is looked at so; most servers give no code.
            return printable(f"{error.text}; make it first, or name another: {_FOLDERS}"), Status.FAILED
        case imapipe.CommandNo(code="SAME" | "TRASH"):
            # Ours: said before anything was sent.
            return printable(as_options(error.text)), Status.FAILED
        case imapipe.CommandNo(command="UID SEARCH") | imapipe.CommandBad(command="UID SEARCH"):
            return printable(f"the server refused the search: {error.text}; try a simpler one"), Status.FAILED
        case imapipe.Throttled(retry_at=datetime() as at):
            return _advised(error, f"{error}, until {at.astimezone():%Y-%m-%d %H:%M} at the latest"), Status.FAILED
        case imapipe.DatabaseError(is_lost=True):
            return printable(f"{error}; see that it runs and lets you in"), Status.FAILED
        case imapipe.TooManyMessages():
            return printable(as_options(str(error))), Status.USAGE
        case imapipe.ImapipeError():
            return _advised(error, str(error)), Status.FAILED
        case OSError():
            where = f"{error.filename}: " if isinstance(error.filename, str) else ""
            return _advised(error, f"{where}{error.strerror or error}"), Status.FAILED
        case _:
            reason = f"something imapipe did not expect: {type(error).__name__}: {error}"
            return printable(f"{reason}; run it again with --debug to see where, and please report it"), Status.FAILED


def _of_the_disk(error: BaseException) -> str:
    """What to do about a disk, where the system said what is wrong with it."""
    if isinstance(error, imapipe.ImapipeError) and not isinstance(error, _ABOUT_FILES):
        return ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _BY_ERRNO:
            return _BY_ERRNO[cause.errno]
        if isinstance(cause, sqlite3.Error):
            # Above eight bits is a closer description.
            return _BY_SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "")
        cause = cause.__cause__
    return ""


def as_options(text: str) -> str:
    """What the library says, with options in place of its arguments."""
    for phrase, option in PHRASES:
        text = text.replace(phrase, option)
    return text


def _advised(error: BaseException, text: str) -> str:
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
    disk = _of_the_disk(error)
    # A checkpoint that may not be written is no news: its own advice says so.
    if disk == _FULL or not advice:
        advice = disk or advice
    return printable(f"{as_options(text)}; {advice}" if advice else as_options(text))
