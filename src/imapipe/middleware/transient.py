"""Which errors pass if one waits, and which come back however often one asks.

The data plane has classified what servers say by text already (`Throttled`, `AuthenticationFailed`); here the
class decides, then the response code (RFC 5530), then the words of servers that send no code. Names of servers stand
where a line is for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from imapipe.errors import (
    AuthenticationFailed,
    CommandBad,
    CommandError,
    CommandNo,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    PoolTimeout,
    ProtocolError,
    ResponseTooLarge,
    ServerBye,
    Throttled,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about an error.

    Attributes:
        transient: Asking again may help.
        wait_at_least: Seconds that must pass before, or None where the usual backoff will do.
        bisect: One message of the batch may be the cause: if asking again does not help, ask for less.
        split_now: Asking again for the same cannot help; asking for half of it can, at once.
    """

    transient: bool
    wait_at_least: float | None = None
    bisect: bool = False
    split_now: bool = False


PERMANENT: Final = Verdict(transient=False)
PASSING: Final = Verdict(transient=True)
PERHAPS_POISONED: Final = Verdict(transient=True, bisect=True)
TOO_MUCH: Final = Verdict(transient=True, bisect=True, split_now=True)

_THROTTLE_SECONDS: Final = 5.0
# Gmail counts bandwidth by the hour and by the day: asking again soon only makes it longer.
_QUOTA_SECONDS: Final = 60.0

_BY_CODE: Final[Mapping[str, Verdict]] = MappingProxyType(
    {
        # One message that cannot be read is enough for Yahoo to say this of a whole FETCH.
        "UNAVAILABLE": PERHAPS_POISONED,
        "SERVERBUG": PERHAPS_POISONED,
        "CORRUPTION": PERHAPS_POISONED,
        "PARSE": PERHAPS_POISONED,
        "UNKNOWN-CTE": PERHAPS_POISONED,
        "INUSE": PASSING,
        # RFC 5530: some of what was asked for has been expunged elsewhere. The second look finds out which.
        "EXPUNGEISSUED": PASSING,
        "LIMIT": Verdict(transient=True, wait_at_least=_THROTTLE_SECONDS),
        "THROTTLED": Verdict(transient=True, wait_at_least=_THROTTLE_SECONDS),
        "OVERQUOTA": Verdict(transient=True, wait_at_least=_QUOTA_SECONDS),
        "TOOBIG": TOO_MUCH,
        "ALREADYEXISTS": PERMANENT,
        "AUTHENTICATIONFAILED": PERMANENT,
        "AUTHORIZATIONFAILED": PERMANENT,
        "BADCHARSET": PERMANENT,
        "CANNOT": PERMANENT,
        "CLIENTBUG": PERMANENT,
        "CONTACTADMIN": PERMANENT,
        "EXPIRED": PERMANENT,
        "NONEXISTENT": PERMANENT,
        "NOPERM": PERMANENT,
        "PRIVACYREQUIRED": PERMANENT,
        "TRYCREATE": PERMANENT,
    }
)

_BY_WORDS: Final[tuple[tuple[str, Verdict], ...]] = (
    ("too long", TOO_MUCH),
    ("command line too large", TOO_MUCH),
    ("too many arguments", TOO_MUCH),
    # Exchange, after too many connections in a short time: the login was taken, the mailbox was not opened.
    ("authenticated but not connected", Verdict(transient=True, wait_at_least=10.0)),
    # Exchange, with a number behind it.
    ("server unavailable", PASSING),
    ("server busy", PASSING),
    ("try again", PASSING),
    ("temporar", PASSING),
    ("timed out", PASSING),
    ("timeout", PASSING),
)


def is_transient(error: BaseException) -> Verdict:
    """Judge the cause of an interrupted batch. What is no error of a server or a connection is permanent."""
    match error:
        case ResponseTooLarge():
            return TOO_MUCH
        case ProtocolError() | ConnectionLost() | CommandTimeout():
            # A message that the server chokes on ends connections, breaks the grammar or stalls.
            return PERHAPS_POISONED
        case ConnectionFailed() | PoolTimeout():
            return PASSING
        case Throttled():
            return _throttled(error)
        case AuthenticationFailed():
            # RFC 5530: the credentials were not even looked at.
            return PASSING if error.code.upper() == "UNAVAILABLE" else PERMANENT
        case CommandError():
            return _command(error)
        case _:
            return PERMANENT


def reason(error: BaseException) -> str:
    """The short stable word under which an error is counted: its response code, or the name of its class."""
    return (error.code if isinstance(error, CommandError) else "") or type(error).__name__


def _throttled(error: Throttled) -> Verdict:
    hint = error.retry_after_seconds
    if hint is None:
        hint = _QUOTA_SECONDS if error.code.upper() == "OVERQUOTA" else _THROTTLE_SECONDS
    return Verdict(transient=True, wait_at_least=max(0.0, hint))


def _command(error: CommandError) -> Verdict:
    # A code may have an argument: only its name counts.
    name = error.code.upper().partition(" ")[0]
    if (verdict := _BY_CODE.get(name)) is not None:
        return verdict
    text = error.text.lower()
    for words, verdict in _BY_WORDS:
        if words in text:
            return verdict
    match error:
        case ServerBye():
            # Sessions end for many reasons (age, idleness, maintenance), and some servers take leave at a bad message.
            return PERHAPS_POISONED
        case CommandNo():
            # No code and no known words: servers say so of a single message they cannot read.
            return PERHAPS_POISONED
        case CommandBad():
            # The server does not understand us; it will not the next time.
            return PERMANENT
        case _:
            return PERMANENT
