"""What is told of a message in a table: one value for each column.

Invariants:

- A row has a value for each column that the job asked for; what a message lacks, or its server got wrong, is None, and
  its name stands in the column `unreadable`, so that nothing is missing in silence.
- Times are aware, addresses are name and email, lists keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from imapipe.errors import NotFetched, ProtocolError
from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.wire.response.envelope import Address

Value = str | int | datetime | list[str] | list[dict[str, str]] | list[dict[str, str | int]] | None
Row = dict[str, Value]
_Read = Callable[[Message], Value]

UNREADABLE: Final = "unreadable"
IDENTITY: Final = ("account", "mailbox", "uidvalidity", "uid")


def _addresses(addresses: Sequence[Address]) -> list[dict[str, str]]:
    # `email` in place: a call for each would be a good part of the time of a row.
    return [{"name": name, "email": f"{box}@{host}" if host else box} for name, box, host in addresses]


def _add_envelope(row: Row, message: Message) -> None:
    """All columns of the envelope at once: this is most of the time of a row. Raises NotFetched, ProtocolError."""
    envelope = message.read_envelope()
    row["message_id"] = envelope.message_id
    row["date"] = envelope.date or message.date
    authors, sender, reply_to = envelope.from_, envelope.sender, envelope.reply_to
    row["from"] = from_ = _addresses(authors)
    # In nearly every message these are the authors once more.
    row["sender"] = from_ if sender is authors else _addresses(sender)
    row["reply_to"] = from_ if reply_to is authors else _addresses(reply_to)
    row["to"] = _addresses(envelope.to)
    row["cc"] = _addresses(cc) if (cc := envelope.cc) else []
    row["bcc"] = _addresses(bcc) if (bcc := envelope.bcc) else []
    row["subject"] = envelope.subject
    row["in_reply_to"] = envelope.in_reply_to


def _attachments(message: Message) -> list[dict[str, str | int]]:
    return [
        {
            "filename": attachment.filename,
            "content_type": attachment.content_type,
            "size": attachment.size,
            "content_id": attachment.content_id,
            "section": attachment.section,
        }
        for attachment in message.attachments
    ]


_OF_ENVELOPE: Final[dict[str, _Read]] = {
    "message_id": lambda message: message.envelope.message_id,
    "date": lambda message: message.date,
    "from": lambda message: _addresses(message.envelope.from_),
    "sender": lambda message: _addresses(message.envelope.sender),
    "reply_to": lambda message: _addresses(message.envelope.reply_to),
    "to": lambda message: _addresses(message.envelope.to),
    "cc": lambda message: _addresses(message.envelope.cc),
    "bcc": lambda message: _addresses(message.envelope.bcc),
    "subject": lambda message: message.envelope.subject,
    "in_reply_to": lambda message: message.envelope.in_reply_to,
}
_OF_HEADER: Final[dict[str, _Read]] = {
    "message_id": lambda message: message.headers.get("Message-ID", ""),
    "date": lambda message: message.date,
    "from": lambda message: _addresses(message.headers.addresses("From")),
    "sender": lambda message: _addresses(message.headers.addresses("Sender")),
    "reply_to": lambda message: _addresses(message.headers.addresses("Reply-To")),
    "to": lambda message: _addresses(message.headers.addresses("To")),
    "cc": lambda message: _addresses(message.headers.addresses("Cc")),
    "bcc": lambda message: _addresses(message.headers.addresses("Bcc")),
    "subject": lambda message: message.headers.get("Subject", ""),
    "in_reply_to": lambda message: message.headers.get("In-Reply-To", ""),
}
_OF_SERVER: Final[dict[str, tuple[str, _Read]]] = {
    "internal_date": ("INTERNALDATE", lambda message: message.internal_date),
    "flags": ("FLAGS", lambda message: sorted(message.flags)),
    "labels": ("X-GM-LABELS", lambda message: list(message.gmail.labels)),
    "size": ("RFC822.SIZE", lambda message: message.size),
}
_OF_TEXT: Final[dict[str, _Read]] = {
    "text": lambda message: message.read_text(),
    "html": lambda message: message.read_html(),
}

COLUMNS: Final = (*IDENTITY, *_OF_ENVELOPE, *_OF_SERVER, *_OF_TEXT, "attachments", UNREADABLE)
"""All names of columns, in order."""


class Rows:
    """Makes the rows of a run.

    Args:
        run: The run.
        columns: Those wanted; all that its job fetches, except `html`, unless given.

    Raises:
        ValueError: The job does not fetch what a column needs.

    Attributes:
        names: The columns that every row has; some have `unreadable`, too.
    """

    __slots__ = ("_has_envelope", "_identity", "_reads", "names")

    def __init__(self, run: Run, columns: Sequence[str] | None) -> None:
        there = _available(run.items)
        wanted = [name for name in there if name != "html"] if columns is None else columns
        for name in wanted:
            if name not in COLUMNS:
                raise ValueError(f"{name!r} is no column; there are {', '.join(COLUMNS)}")
            if name not in there and name not in IDENTITY and name != UNREADABLE:
                raise ValueError(f"the job fetches nothing that gives the column {name!r}; see fetch()")
        self._identity: Row = {"account": run.account, "mailbox": run.mailbox, "uidvalidity": run.uidvalidity}
        self._has_envelope = "ENVELOPE" in run.items and set(_OF_ENVELOPE) <= set(wanted)
        apart = _OF_ENVELOPE if self._has_envelope else {}
        self.names: Sequence[str] = (*IDENTITY, *(name for name in wanted if name in there))
        self._reads = [(name, there[name]) for name in wanted if name in there and name not in apart]

    def of(self, message: Message) -> Row:
        """The row of a message."""
        row: Row = {**self._identity, "uid": message.uid}
        reads: Iterable[tuple[str, _Read]] = self._reads
        if self._has_envelope:
            try:
                _add_envelope(row, message)
            except (NotFetched, ProtocolError):
                # One by one, for what can be read of it.
                reads = (*_OF_ENVELOPE.items(), *self._reads)
        unreadable: list[str] = []
        for name, read in reads:
            try:
                row[name] = read(message)
            except (NotFetched, ProtocolError):
                row[name] = None
                unreadable.append(name)
        if unreadable:
            row[UNREADABLE] = unreadable
        return row


def _available(items: frozenset[str]) -> dict[str, _Read]:
    """The columns that a job's items give, and how."""
    reads: dict[str, _Read] = {}
    if "ENVELOPE" in items:
        reads |= _OF_ENVELOPE
    elif items & {"BODY[]", "BODY[HEADER]"}:
        reads |= _OF_HEADER
    reads |= {name: read for name, (item, read) in _OF_SERVER.items() if item in items}
    if items & {"BODY[]", "TEXT"}:
        reads |= _OF_TEXT
    if items & {"BODY[]", "BODYSTRUCTURE"}:
        reads["attachments"] = _attachments
    return reads


def check_columns(columns: Sequence[str] | None) -> None:
    """Refuse names that are no columns. Raises ValueError, TypeError."""
    if isinstance(columns, str):
        raise TypeError("columns= takes a list of names")
    for name in columns or ():
        if name not in COLUMNS:
            raise ValueError(f"{name!r} is no column; there are {', '.join(COLUMNS)}")
