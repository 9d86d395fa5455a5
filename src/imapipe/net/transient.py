"""Which errors pass if one waits, which come back however often one asks, and whose fault they may be.

One table for every moment: connecting, login, LIST, STATUS, opening a mailbox, SEARCH and FETCH. What servers say was
classified by its text before (`net.signals`: `Throttled`, `AuthenticationFailed`); here the class decides, then the
response code (RFC 5530), then the words of servers that send no code. Names of servers stand where a line is for them.

Invariants:

- Only a FETCH that the server answered, with data or with a refusal, can be the fault of one of its messages. What goes
  wrong before a FETCH, or where not a byte of its answer came, never is.
- An outage is what keeps everything from working, so that it says nothing of what was asked: it is a matter of
  patience, not of attempts. A server that asks for less works.
- What is no error of a server or a connection is permanent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

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
from imapipe.net.signals import is_full


class Verdict(NamedTuple):
    """What to do about an error.

    Attributes:
        transient: Asking again may help.
        wait_at_least: Seconds that must pass before, or None where the usual backoff will do.
        bisect: One message of the batch may be the cause: if asking again does not help, ask for less.
        split_now: Asking again for the same cannot help; asking for half of it can, at once.
        is_outage: The server, or the way to it, does not work.
        probe: The server may take no command of this kind, or none with one of these messages: one message alone tells.
    """

    transient: bool
    wait_at_least: float | None = None
    bisect: bool = False
    split_now: bool = False
    is_outage: bool = False
    probe: bool = False


PERMANENT: Final = Verdict(transient=False)
PASSING: Final = Verdict(transient=True)
OUTAGE: Final = Verdict(transient=True, is_outage=True)
PERHAPS_POISONED: Final = Verdict(transient=True, bisect=True)
PERHAPS_UNKNOWN: Final = Verdict(transient=False, probe=True)
TOO_MUCH: Final = Verdict(transient=True, bisect=True, split_now=True)

_FETCHES: Final = ("FETCH", "UID FETCH")

_THROTTLE_SECONDS: Final = 5.0
# Gmail counts bandwidth by the hour and by the day: asking again soon only makes it longer.
_QUOTA_SECONDS: Final = 60.0

# What is said of a FETCH, where one message may be the cause, and what the same means where none is asked for.
_BEFORE_FETCH: Final[Mapping[str, Verdict]] = MappingProxyType(
    {
        "UNAVAILABLE": OUTAGE,
        "SERVERBUG": OUTAGE,
        "TEMPFAIL": OUTAGE,
        # Another session has the mailbox: how long for, nobody knows.
        "INUSE": OUTAGE,
        "CORRUPTION": PASSING,
        "PARSE": PASSING,
        "UNKNOWN-CTE": PASSING,
        "TOOBIG": PERMANENT,
    }
)

_BY_CODE: Final[Mapping[str, Verdict]] = MappingProxyType(
    {
        # One message that cannot be read is enough for Yahoo to say this of a whole FETCH.
        "UNAVAILABLE": PERHAPS_POISONED,
        "SERVERBUG": PERHAPS_POISONED,
        # Yahoo, before it knew RFC 5530.
        "TEMPFAIL": PERHAPS_POISONED,
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

# RFC 5530 and the registry of IANA: also those that say nothing of whether to ask again.
_KNOWN_CODES: Final = frozenset((*_BEFORE_FETCH, *_BY_CODE)) | frozenset(
    """APPENDLIMIT BADEVENT CLOSED COMPRESSIONACTIVE CONVERSIONFAILED HASCHILDREN HIGHESTMODSEQ MAXCONVERTPARTS
    MESSAGELIMIT METADATA MODIFIED NOMODSEQ NOTIFICATIONOVERFLOW NOTSAVED READ-ONLY REFERRAL TEMPFAIL UIDNOTSTICKY
    UIDREQUIRED UNKNOWN-CTE USEATTR""".split()
)

_BY_WORDS: Final[tuple[tuple[str, Verdict], ...]] = (
    ("too long", TOO_MUCH),
    ("command line too large", TOO_MUCH),
    ("too many arguments", TOO_MUCH),
    # Exchange, after too many connections in a short time: the login was taken, the mailbox was not opened.
    ("authenticated but not connected", Verdict(transient=True, wait_at_least=10.0, is_outage=True)),
    # Exchange, with a number behind it.
    ("server unavailable", OUTAGE),
    ("server busy", OUTAGE),
    ("server is busy", OUTAGE),
    ("try again", OUTAGE),
    ("temporar", OUTAGE),
    ("timed out", OUTAGE),
    ("timeout", OUTAGE),
)

# Of a FETCH they may mean one message; of anything else they mean the server (Gmail: "System Error (Failure)").
_SERVER_WORDS: Final = ("system error", "internal error", "internal server error", "server error")

# Said of a login, they mean that the credentials were not even looked at. Not "try again": so say those who did look.
_LOGIN_CODES: Final = frozenset(("UNAVAILABLE", "SERVERBUG", "TEMPFAIL", "INUSE"))
_LOGIN_WORDS: Final = (
    *_SERVER_WORDS,
    "temporary failure",
    "temporary authentication failure",
    "temporarily unavailable",
    "service unavailable",
    "server unavailable",
    "server busy",
    "server is busy",
    "timed out",
)


def is_transient(
    error: BaseException, *, fetching: bool = True, bytes_came: bool = True, taken_before: bool = False
) -> Verdict:
    """Judge an error.

    Args:
        error: The error; of a batch that was interrupted, its cause.
        fetching: A FETCH was under way. An error that names its command knows better.
        bytes_came: Some of the answer to the FETCH had come, or its refusal.
        taken_before: The same server took a FETCH of this kind before: what it calls BAD now is no fault of grammar.
    """
    match error:
        case CommandTimeout():
            # A message that the server chokes on stalls it in the middle.
            is_fetch = error.command in _FETCHES and bytes_came
            return PERHAPS_POISONED if is_fetch else OUTAGE
        case ResponseTooLarge():
            return TOO_MUCH if fetching else PERMANENT
        case ProtocolError():
            return PERHAPS_POISONED if fetching else PASSING
        case ConnectionLost() if not error.host:
            return PERHAPS_POISONED if fetching and bytes_came else OUTAGE
        case ConnectionFailed():
            return PERMANENT if error.is_permanent else OUTAGE
        case PoolTimeout():
            # Those who hold the others may wait for the same server.
            cause = error.__cause__
            return OUTAGE if cause is not None and is_transient(cause, fetching=False).is_outage else PASSING
        case Throttled():
            return _throttled(error)
        case AuthenticationFailed():
            return OUTAGE if _was_not_looked_at(error) else PERMANENT
        case CommandError():
            verdict = _command(error, taken_before=taken_before)
            if isinstance(error, ServerBye) and verdict.transient and not (bytes_came and error.command in _FETCHES):
                # Nothing of what was asked for can be what it took leave at.
                return OUTAGE._replace(wait_at_least=verdict.wait_at_least)
            return verdict
        case _:
            return PERMANENT


def is_about_length(error: CommandError) -> bool:
    """Whether a refusal says that the command was too long, or asked for too much."""
    text = error.text.lower()
    has_words = any(words in text for words, verdict in _BY_WORDS if verdict is TOO_MUCH)
    return has_words or error.code.upper().partition(" ")[0] == "TOOBIG"


def reason(error: BaseException) -> str:
    """The short stable word under which an error is counted: a response code that is known, or the name of its class.

    So there are only so many of them, whatever codes a server makes up: they are kept for each message that failed.
    """
    code = error.code.partition(" ")[0].upper() if isinstance(error, CommandError) else ""
    return code if code in _KNOWN_CODES else type(error).__name__


def _throttled(error: Throttled) -> Verdict:
    hint = error.retry_after_seconds
    if hint is None:
        hint = _QUOTA_SECONDS if error.code.upper() == "OVERQUOTA" else _THROTTLE_SECONDS
    return Verdict(transient=True, wait_at_least=max(0.0, hint))


def _was_not_looked_at(error: AuthenticationFailed) -> bool:
    """Whether a login failed for reasons of the server (RFC 5530 §3: UNAVAILABLE), not for those of the credentials."""
    if error.code:
        return error.code.upper().partition(" ")[0] in _LOGIN_CODES
    return any(words in error.text.lower() for words in _LOGIN_WORDS)


def _command(error: CommandError, *, taken_before: bool) -> Verdict:
    is_fetch = error.command in _FETCHES
    # A code may have an argument: only its name counts.
    name = error.code.upper().partition(" ")[0]
    if is_full(error.command, error.code):
        return PERMANENT
    if not is_fetch and name in _BEFORE_FETCH:
        return _BEFORE_FETCH[name]
    if (verdict := _BY_CODE.get(name)) is not None:
        return verdict
    text = error.text.lower()
    for words, verdict in _BY_WORDS:
        if words in text:
            if is_fetch:
                # A FETCH that is refused says something of its messages, and the server speaks.
                return verdict._replace(is_outage=False)
            return PERMANENT if verdict.split_now else verdict
    if not is_fetch and any(words in text for words in _SERVER_WORDS):
        return OUTAGE
    match error:
        case ServerBye():
            # Sessions end for many reasons (age, idleness, maintenance), and some servers take leave at a bad message.
            return PERHAPS_POISONED
        case CommandNo() if is_fetch:
            # No code and no known words: servers say so of a single message they cannot read.
            return PERHAPS_POISONED
        case CommandBad() if is_fetch:
            return PERHAPS_POISONED if taken_before else PERHAPS_UNKNOWN
        case _:
            # There is no such thing, or the server does not understand us; it will not the next time.
            return PERMANENT
