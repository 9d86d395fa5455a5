"""From an exception to one sentence that says what to do, and to an exit status.

Invariants:

- A sentence is one line of printable characters, whatever a server sent; it holds no credential.
- Every exception has a status; what nobody thought of is told as such, with the advice to use `--debug`.
"""

from __future__ import annotations

from enum import IntEnum
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
        "check the user name and the password; some providers want an app password, or a token (`imapipe login`)",
    ),
    (imapipe.Throttled, "wait a while, then use fewer --connections or a lower --rate"),
    (imapipe.ServerBye, "try again later"),
    (imapipe.CheckpointCorrupt, "put a copy back, or move it away to begin anew"),
    (imapipe.CheckpointVersion, "use the imapipe that wrote it, or move it away to begin anew"),
    (imapipe.CheckpointLocked, "wait until that run has ended, or use another file"),
    (imapipe.CheckpointMismatch, ""),
    (imapipe.CheckpointError, "name a file that can be read and written"),
    (imapipe.CommandTimeout, "try again, or be more patient with --timeout"),
    (imapipe.PoolTimeout, "try again, or use fewer --connections"),
    (imapipe.ConnectionLost, "try again"),
    (imapipe.ProtocolError, "please report it, with the name of the server"),
    (imapipe.SinkError, "what was written before is safe, and the same command goes on there"),
    (imapipe.SpoolError, "make room, or set TMPDIR to a folder that has some"),
)


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
            return printable(_as_options(str(error))), Status.USAGE
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
        case imapipe.CommandNo(code="SAME" | "TRASH"):
            # Ours: said before anything was sent.
            return printable(_as_options(error.text)), Status.FAILED
        case imapipe.CommandNo(command="UID SEARCH") | imapipe.CommandBad(command="UID SEARCH"):
            return printable(f"the server refused the search: {error.text}; try a simpler one"), Status.FAILED
        case imapipe.TooManyMessages():
            return printable(_as_options(str(error))), Status.USAGE
        case imapipe.ImapipeError():
            return _advised(error, str(error)), Status.FAILED
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return printable(f"{where}{error.strerror or error}"), Status.FAILED
        case _:
            reason = f"something imapipe did not expect: {type(error).__name__}: {error}"
            return printable(f"{reason}; run it again with --debug to see where, and please report it"), Status.FAILED


def _as_options(text: str) -> str:
    for phrase, option in PHRASES:
        text = text.replace(phrase, option)
    return text


def _advised(error: BaseException, text: str) -> str:
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
    return printable(f"{_as_options(text)}; {advice}" if advice else _as_options(text))
