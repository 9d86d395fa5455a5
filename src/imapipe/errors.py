"""The exceptions of imapipe, one tree.

::

    ImapipeError
    ├ ProtocolError                          the server broke the grammar
    │  ├ ResponseTooLarge                    a line, literal or response past a limit
    │  └ NestedTooDeeply                     a value is well formed, and too deep to be taken apart
    ├ ConnectionFailed (ConnectionError)     no usable connection could be made
    │  └ ConnectionLost                      one that was made ended too early
    ├ CommandTimeout (TimeoutError)          no answer in time
    ├ PoolTimeout (TimeoutError)             no connection was free in time
    ├ PoolClosed                             the pool is closed or closing
    ├ LeaseEnded                             a leased connection was used after it was given back
    ├ CommandError                           the server answered, not with OK
    │  ├ CommandNo
    │  ├ CommandBad
    │  ├ ServerBye
    │  ├ AuthenticationFailed
    │  │  └ TokenRefused                     an OAuth server gives no access token
    │  └ Throttled
    ├ CapabilityMissing                      the server does not offer what is needed
    ├ UidValidityChanged                     the UIDs of the mailbox mean something else now
    ├ NotFetched (LookupError)               a field was read that was not asked for
    ├ Incomplete                             a run ended with messages that failed
    ├ BatchInterrupted                       a batch ended early; the cause is chained
    ├ WorkerDied                             a worker process ended without an answer
    ├ SpoolError (OSError)                   the temporary file of a large body failed
    ├ SinkError (OSError)                    what a sink writes to cannot be written
    ├ DeletionsRefused                       more is gone from a mailbox than may be removed from its mirror
    ├ InvalidURL (ValueError)
    ├ AccountsError (ValueError)             a file of accounts cannot be used
    ├ AutodiscoverFailed                     nobody says where the mailbox of an address is
    ├ InvalidSearch (ValueError)
    ├ MessageIndexError                      the file of a local index cannot be used
    ├ JournalError                           the journal of a change cannot be used
    ├ TooManyMessages                        a change would touch more messages than it may
    └ CheckpointError
       ├ CheckpointCorrupt
       ├ CheckpointVersion
       ├ CheckpointMismatch
       ├ CheckpointLocked
       └ CheckpointLost

`Incomplete` and `BatchInterrupted` carry values and stand beside them: in `models.report` and `models.batch`.

Every fact is an attribute as well as text, so a program never parses a message. No message holds a
credential or the content of a mail: excerpts of what a server sent are redacted by whoever makes them.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters, and those that turn the direction of text.
_ACTING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _escaped(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode()


class ImapipeError(Exception):
    """The root of everything imapipe raises on purpose. Every one can be pickled, with its attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception itself would call the class with the text as its arguments.
        arguments = OSError.__reduce__(self)[1] if isinstance(self, OSError) else self.args
        return _made_again, (type(self), arguments), self.__dict__


def _made_again(kind: type[ImapipeError], arguments: tuple[object, ...]) -> ImapipeError:
    """An error of a class with these arguments, without its own `__init__`."""
    error = kind.__new__(kind, *arguments)
    if isinstance(error, OSError):
        OSError.__init__(error, *arguments)
    else:
        error.args = arguments
    return error


class ProtocolError(ImapipeError):
    """The server sent what the grammar of RFC 9051 §9 does not allow.

    Attributes:
        offset: Byte offset in the response where parsing stopped.
        excerpt: A short redacted piece of the response: its structure, never mail content.
    """

    def __init__(self, reason: str, *, offset: int = 0, excerpt: str = "") -> None:
        self.reason = reason
        self.offset = offset
        self.excerpt = excerpt
        near = f" near {excerpt!r}" if excerpt else ""
        super().__init__(f"the server broke the IMAP grammar: {reason} (byte {offset}{near})")


class ResponseTooLarge(ProtocolError):
    """A line, a literal or a whole response is larger than the limit set for it."""

    def __init__(self, reason: str, *, size: int, limit: int, offset: int = 0) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{reason}: {size} bytes, the limit is {limit}", offset=offset)


class NestedTooDeeply(ProtocolError):
    """A value has more levels of lists than are taken apart. The server may be right: such mail exists.

    Attributes:
        limit: How many levels may be.
    """

    def __init__(self, limit: int, offset: int = 0) -> None:
        super().__init__("lists are nested too deeply", offset=offset)
        self.limit = limit
        self.args = (f"lists are nested too deeply to be taken apart: more than {limit} levels",)


class ConnectionFailed(ImapipeError, ConnectionError):
    """A connection could not be made: name, port, TLS or greeting.

    Attributes:
        reason: What is wrong.
        host: Where it was to lead, or "".
        port: And at which port.
        is_permanent: Trying again cannot help: a setting or a certificate must change.
    """

    def __init__(self, reason: str, *, host: str = "", port: int = 0, is_permanent: bool = False) -> None:
        self.reason = reason
        self.host = host
        self.port = port
        self.is_permanent = is_permanent
        where = f" to {host}:{port}" if host else ""
        super().__init__(f"no connection{where}: {reason}")


class ConnectionLost(ConnectionFailed):
    """A connection that worked has ended before its commands did.

    `host` and `port` are named where it ended while it was being made ready: no command of the caller was sent.
    """

    def __init__(self, reason: str = "the server closed the connection", *, host: str = "", port: int = 0) -> None:
        super().__init__(reason, host=host, port=port)


class CommandTimeout(ImapipeError, TimeoutError):
    """The server did not answer, or stopped in the middle of an answer, for too long; or got on too slowly.

    Attributes:
        command: The command.
        timeout_seconds: What it took too long for.
        was_silent: Nothing came for so long; else it was the whole command that took longer.
    """

    def __init__(self, command: str, *, timeout_seconds: float, was_silent: bool = True) -> None:
        self.command = command
        self.timeout_seconds = timeout_seconds
        self.was_silent = was_silent
        super().__init__(
            f"{command}: nothing came from the server for {timeout_seconds:g} seconds"
            if was_silent
            else f"{command}: the server was not silent, but too slow: so much may take {timeout_seconds:.0f} seconds "
            "(command_timeout_seconds, minimum_bytes_per_second)"
        )


class PoolTimeout(ImapipeError, TimeoutError):
    """No connection of the pool became free in time."""

    def __init__(self, *, timeout_seconds: float, max_size: int, reason: str = "") -> None:
        self.timeout_seconds = timeout_seconds
        self.max_size = max_size
        super().__init__(
            reason
            or f"no connection became free in {timeout_seconds:g} seconds; all {max_size} are leased "
            "(release some, or raise max_size)"
        )


class PoolClosed(ImapipeError):
    """The pool is closed: open another one with `create_pool`."""

    def __init__(self) -> None:
        super().__init__("the pool is closed; make another one with create_pool()")


class LeaseEnded(ImapipeError):
    """A leased connection, or something that was kept of it, was used after it was given back to the pool."""

    def __init__(self) -> None:
        super().__init__("this lease has ended: the connection went back to the pool; acquire() another one")


MAX_TEXT = 1000


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


class CommandError(ImapipeError):
    """The server answered a command with something other than OK (RFC 9051 §7.1).

    Attributes:
        command: The name of the command, such as `UID FETCH`; never its arguments.
        status: `NO`, `BAD` or `BYE`.
        code: The response code without brackets, such as `UNAVAILABLE`, or "" when there is none.
        text: The human-readable text of the server, as it came; the text of the exception has control characters
            written out. Of it and of the code, no more than `MAX_TEXT` characters are kept: an error may be kept for
            each of many messages.
    """

    def __init__(self, command: str, status: str, code: str = "", text: str = "") -> None:
        code, text = _cut(code), _cut(text)
        self.command = command
        self.status = status
        self.code = code
        self.text = text
        bracketed = f" [{code}]" if code else ""
        # A traceback goes to a terminal, where what a server says must only be shown.
        super().__init__(_ACTING.sub(_escaped, f"{command}: {status}{bracketed} {text}".rstrip()))


class CommandNo(CommandError):
    """The command failed: NO."""

    def __init__(self, command: str, code: str = "", text: str = "") -> None:
        super().__init__(command, "NO", code, text)


class CommandBad(CommandError):
    """The server did not understand the command: BAD."""

    def __init__(self, command: str, code: str = "", text: str = "") -> None:
        super().__init__(command, "BAD", code, text)


class ServerBye(CommandError):
    """The server said BYE while commands were pending."""

    def __init__(self, command: str, code: str = "", text: str = "") -> None:
        super().__init__(command, "BYE", code, text)


class AuthenticationFailed(CommandError):
    """The server refused the credentials."""


class TokenRefused(AuthenticationFailed):
    """An OAuth server gives no access token (RFC 6749 §4.1.2.1, §5.2; RFC 8628 §3.5).

    Attributes:
        error: Its word for the reason, such as `invalid_grant` or `access_denied`.
        description: What it says besides, or "".
    """

    def __init__(self, error: str, description: str = "") -> None:
        self.error = _cut(error)
        self.description = _cut(description)
        said = f"{self.error}: {self.description}" if self.description else self.error
        super().__init__("AUTHENTICATE", "NO", "", f"the OAuth server gives no token ({said})")


class Throttled(CommandError):
    """The server asks for less: too many connections, commands or bytes.

    Attributes:
        retry_after_seconds: The server's own hint, or None.
    """

    def __init__(
        self, command: str, status: str, code: str = "", text: str = "", *, retry_after_seconds: float | None = None
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(command, status, code, text)


class CapabilityMissing(ImapipeError):
    """The server does not offer a capability that the request cannot do without."""

    def __init__(self, capability: str, reason: str = "") -> None:
        self.capability = capability
        super().__init__(f"the server does not offer {capability}" + (f": {reason}" if reason else ""))


class UidValidityChanged(ImapipeError):
    """The UIDs kept name other messages now: another UIDVALIDITY, or UIDNEXT fell (RFC 9051 §2.3.1.1).

    Or the mailbox of that name is another one under the same UIDVALIDITY, as MAILBOXID shows (RFC 8474).

    Attributes:
        mailbox: The mailbox.
        expected: The UIDVALIDITY that is remembered.
        found: The UIDVALIDITY that the server tells; the same where something else shows it.
        expected_uidnext: What UIDNEXT cannot be below, where that is known; None where UIDVALIDITY shows it.
        found_uidnext: UIDNEXT as the server tells it; None where UIDVALIDITY shows it.
        expected_mailboxid: The MAILBOXID (RFC 8474) that is remembered; None where UIDVALIDITY shows it.
        found_mailboxid: The MAILBOXID that the server tells; None where UIDVALIDITY shows it.
        advice: What to do about it, which depends on what had kept the UIDs.
    """

    def __init__(
        self,
        mailbox: str,
        *,
        expected: int,
        found: int,
        expected_uidnext: int | None = None,
        found_uidnext: int | None = None,
        expected_mailboxid: str | None = None,
        found_mailboxid: str | None = None,
        advice: str = "search again",
    ) -> None:
        self.mailbox = mailbox
        self.expected = expected
        self.found = found
        self.expected_uidnext = expected_uidnext
        self.found_uidnext = found_uidnext
        self.expected_mailboxid = expected_mailboxid
        self.found_mailboxid = found_mailboxid
        self.advice = advice
        if expected != found:
            what = f"UIDVALIDITY of {mailbox!r} changed from {expected} to {found}"
        elif expected_mailboxid and found_mailboxid and expected_mailboxid != found_mailboxid:
            what = (
                f"{mailbox!r} is another mailbox with the same UIDVALIDITY {found}: MAILBOXID changed from "
                f"{expected_mailboxid} to {found_mailboxid}"
            )
        else:
            what = (
                f"UIDNEXT of {mailbox!r} fell from {expected_uidnext} to {found_uidnext} under the same UIDVALIDITY "
                f"{found}"
            )
        super().__init__(f"{what}: kept UIDs mean other messages now; {advice}")


class MessageVanished(ImapipeError, LookupError):
    """A message is no longer in its mailbox.

    Attributes:
        mailbox: The mailbox.
        uid: The UID that it had.
    """

    def __init__(self, mailbox: str, uid: int) -> None:
        self.mailbox = mailbox
        self.uid = uid
        super().__init__(f"message {uid} is no longer in {mailbox!r}")


class NotFetched(ImapipeError, LookupError):
    """A field of a message was read that was not asked for in `fetch(...)`."""

    def __init__(self, field: str, advice: str = "") -> None:
        self.field = field
        super().__init__(f"{field!r} was not fetched" + (f"; {advice}" if advice else ""))


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


class DeletionsRefused(ImapipeError):
    """More messages are gone from a mailbox than may be removed from its mirror; none was.

    Attributes:
        mailbox: The mailbox.
        deletions: How many are gone.
        held: How many messages of it the mirror has.
        allowed: The bound, as it was given.
    """

    def __init__(self, mailbox: str, *, deletions: int, held: int, allowed: str) -> None:
        self.mailbox = mailbox
        self.deletions = deletions
        self.held = held
        self.allowed = allowed
        super().__init__(
            f"{deletions:,} of {held:,} messages are gone from {mailbox!r} or have other UIDs, and no more than "
            f"{allowed} may be removed, so none was; where that is right, allow it once with max_deletions={deletions}"
        )


class InvalidURL(ImapipeError, ValueError):
    """The URL of an account cannot be used as it is."""


class AccountsError(ImapipeError, ValueError):
    """A file of accounts, or an account in it, cannot be used.

    Attributes:
        reason: What is wrong.
        path: The file, or "".
        account: The account in it, or "".
    """

    def __init__(self, reason: str, *, path: str = "", account: str = "") -> None:
        self.reason = reason
        self.path = path
        self.account = account
        where = " ".join(part for part in (path, f"[{account}]" if account else "") if part)
        super().__init__(f"{where}: {reason}" if where else reason)


class AutodiscoverFailed(ImapipeError):
    """Nobody says where the mailbox of an address is.

    Attributes:
        address: The address.
        tried: What was asked.
    """

    def __init__(self, address: str, tried: tuple[str, ...] = ()) -> None:
        self.address = address
        self.tried = tried
        asked = f" (asked: {', '.join(tried)})" if tried else ""
        super().__init__(f"nothing says where the mailbox of {address} is: give the URL of its server{asked}")


class InvalidSearch(ImapipeError, ValueError):
    """A search key, or the text of one, cannot be used as it is."""


class MessageIndexError(ImapipeError):
    """The file of a local index cannot be used.

    Attributes:
        reason: What is wrong with it.
        path: The file.
    """

    def __init__(self, reason: str, *, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"index {path}: {reason}" if path else f"index: {reason}")


class JournalError(ImapipeError):
    """The journal of a change cannot be used. What was not written down in it was not sent.

    Attributes:
        path: The file.
    """

    def __init__(self, reason: str, *, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"journal {path}: {reason}" if path else f"journal: {reason}")


class TooManyMessages(ImapipeError):
    """A change is for more messages than `max_messages=` allows; nothing was sent.

    Attributes:
        found: How many the search found.
        max_messages: How many there may be.
    """

    def __init__(self, found: int, max_messages: int) -> None:
        self.found = found
        self.max_messages = max_messages
        super().__init__(
            f"the search finds {found:,} messages and max_messages={max_messages} allows fewer: "
            "narrow the search, or raise it"
        )


class CheckpointError(ImapipeError):
    """The checkpoint cannot be used. Nothing was changed in it.

    Attributes:
        path: The file, or whatever names the checkpoint in its store.
    """

    def __init__(self, reason: str, *, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"checkpoint {path}: {reason}" if path else f"checkpoint: {reason}")


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
