"""APPEND (RFC 9051 §6.3.12), several messages with MULTIAPPEND (RFC 3502). The answer: APPENDUID."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from imapipe.wire.command.encoder import Dialect, Request, Word, date_time, flag_list
from imapipe.wire.literal_argument import Body


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be put into a mailbox.

    Attributes:
        body: All of it, header included, lines ending in CRLF; a `Body` is read while it is sent.
        flags: The flags it is to have.
        internal_date: When it arrived, with a zone; None is now.
    """

    body: bytes | Body
    flags: Collection[str] = ()
    internal_date: datetime | None = None


def append(mailbox: str, messages: Iterable[NewMessage], dialect: Dialect) -> Request:
    """APPEND; more than one message needs MULTIAPPEND.

    Raises:
        ValueError: CR, LF or NUL in the name, no message, or what `described` does not take.
    """
    words: list[Word] = [dialect.mailbox(mailbox)]
    for message in messages:
        words += described(message)
        words.append(dialect.literal(message.body))
    if len(words) == 1:
        raise ValueError("APPEND needs at least one message")
    return Request("APPEND", *words)


def described(message: NewMessage) -> list[Word]:
    """What stands before the body of a message: its flags and its date.

    Raises:
        ValueError: An empty message (which cancels the command, RFC 3502 §6.3.11), a flag that cannot be set, or a date
            without zone.
    """
    words: list[Word] = []
    if message.flags:
        words.append(flag_list(message.flags))
    if message.internal_date is not None:
        words.append(date_time(message.internal_date))
    if not (message.body.size if isinstance(message.body, Body) else len(message.body)):
        raise ValueError("a message to append has no bytes")
    return words
