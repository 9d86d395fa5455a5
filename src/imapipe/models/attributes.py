"""What a server says of a message besides its bytes: flags, dates, envelope, structure and their like.

Invariants: a field that was not asked for raises `NotFetched`; a field that the server got wrong raises
`ProtocolError`, for that field only. What takes time to parse is kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.fetched import Fetched, FoundItem
from imapipe.wire.date import parse_internal_date
from imapipe.wire.response.body_structure import BodyStructure, parse_body_structure
from imapipe.wire.response.envelope import Envelope, parse_envelope
from imapipe.wire.response.item_value import (
    flags_of,
    parse_email_id,
    parse_gmail_labels,
    parse_modseq,
    parse_preview,
    parse_savedate,
    parse_size,
)
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.token import ItemSpan


class Gmail(NamedTuple):
    """What Gmail adds to a message (X-GM-EXT-1); the labels in its order."""

    message_id: int
    thread_id: int
    labels: tuple[str, ...]


# A value of which nothing came.
_LEFT_OUT: Final = FoundItem(b"", (), ItemSpan(0, 0, 0))


class Attributes(Fetched):
    """The attributes of one message."""

    __slots__ = ("_envelope", "_internal_date", "_structure")

    def read_ahead(self) -> None:
        """Read what is so long that it takes its time, so that nobody waits for it later; it may be done in a thread.

        What cannot be read counts as left out from then on.
        """
        self._locate()
        for name, read in (("ENVELOPE", lambda: hash(self.envelope)), ("BODYSTRUCTURE", lambda: self.structure)):
            found = self._found.get(name)
            if found is None or found.span.end - found.span.start <= LONG_BYTES:
                continue
            try:
                read()
            except ProtocolError:
                self._found[name] = _LEFT_OUT

    @property
    def mailbox(self) -> str:
        """The name of its mailbox."""
        return self._context.mailbox

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of its mailbox when it was fetched."""
        return self._context.uidvalidity

    @property
    def flags(self) -> frozenset[str]:
        r"""Its flags, such as `\Seen`. Raises NotFetched."""
        raw = self._group("FLAGS")
        if raw is None:
            text, _, span = self._find("FLAGS", "flags")
            raw = text[span.start : span.end]
        # Equal sets are one object there, so nothing needs to be kept here.
        return flags_of(raw)

    @property
    def size(self) -> int:
        """RFC822.SIZE in bytes: what the server says, which need not be what `body` holds. Raises NotFetched."""
        raw = self._group("RFC822.SIZE")
        if raw is not None:
            return int(raw)
        text, _, span = self._find("RFC822.SIZE", "size")
        return parse_size(text, span)

    @property
    def internal_date(self) -> datetime | None:
        """When the server received it (aware), or None where it sent no date that means anything. Raises NotFetched."""
        try:
            return self._internal_date
        except AttributeError:
            pass
        raw = self._group("INTERNALDATE")
        if raw is None:
            text, _, span = self._find("INTERNALDATE", "internal_date")
            raw = text[span.start : span.end]
        self._internal_date: datetime | None = parse_internal_date(raw)
        return self._internal_date

    @property
    def envelope(self) -> Envelope:
        """Its ENVELOPE (RFC 9051 §7.5.2), each field decoded on first access. Raises NotFetched, ProtocolError."""
        try:
            return self._envelope
        except AttributeError:
            pass
        self._envelope: Envelope = self.read_envelope()
        return self._envelope

    def read_envelope(self) -> Envelope:
        """The same, and not kept: for those who hold many messages, and read each field once.

        What a thousand messages keep is what the collector of garbage goes through, again and again.

        Raises NotFetched, ProtocolError.
        """
        try:
            return self._envelope
        except AttributeError:
            pass
        try:
            text, literals, span = self._find("ENVELOPE", "envelope")
            envelope = parse_envelope(text, literals, span, self._context.notes)
        except ProtocolError:
            if self._match is None:
                raise
            # A shape ends where its last item begins; this server put something behind it.
            self._locate()
            text, literals, span = self._find("ENVELOPE", "envelope")
            envelope = parse_envelope(text, literals, span, self._context.notes)
        if envelope.notes:
            # What was passed over counts once.
            self._envelope = envelope
        return envelope

    @property
    def structure(self) -> BodyStructure:
        """Its BODYSTRUCTURE (RFC 9051 §7.5.2). Raises NotFetched, ProtocolError."""
        try:
            return self._structure
        except AttributeError:
            pass
        try:
            self._structure: BodyStructure = parse_body_structure(*self._find("BODYSTRUCTURE", "structure"))
        except ProtocolError:
            if self._match is None:
                raise
            self._locate()
            self._structure = parse_body_structure(*self._find("BODYSTRUCTURE", "structure"))
        return self._structure

    @property
    def modseq(self) -> int:
        """Its mod-sequence (RFC 7162). Raises NotFetched."""
        text, _, span = self._find("MODSEQ", "modseq")
        return parse_modseq(text, span)

    @property
    def email_id(self) -> str:
        """Its EMAILID (RFC 8474): the same in every mailbox that holds this very message. Raises NotFetched."""
        text, _, span = self._find("EMAILID", "email_id")
        return parse_email_id(text, span) or ""

    @property
    def thread_id(self) -> str | None:
        """Its THREADID (RFC 8474), or None where the server keeps no threads. Raises NotFetched."""
        text, _, span = self._find("THREADID", "thread_id")
        return parse_email_id(text, span)

    @property
    def saved_date(self) -> datetime | None:
        """When it came into this mailbox (RFC 8514), or None. Raises NotFetched."""
        text, _, span = self._find("SAVEDATE", "saved_date")
        return parse_savedate(text, span)

    @property
    def preview(self) -> str | None:
        """The server's short text of it (RFC 8970), or None. Raises NotFetched, ProtocolError."""
        return parse_preview(*self._find("PREVIEW", "preview"))

    @property
    def gmail(self) -> Gmail:
        """Gmail's identifiers and labels. Raises NotFetched, ProtocolError."""
        text, _, span = self._find("X-GM-MSGID", "gmail")
        message_id = parse_size(text, span)
        text, _, span = self._find("X-GM-THRID", "gmail")
        thread_id = parse_size(text, span)
        return Gmail(message_id, thread_id, parse_gmail_labels(*self._find("X-GM-LABELS", "gmail")))


def arrival_of(message: Attributes) -> datetime | None:
    """When a message arrived, for whoever can do without it: None also where that was left out (seen at Exchange)."""
    try:
        return message.internal_date
    except NotFetched:
        return None
