"""`Message`: one message as it came from the server, read field by field.

A hand-written slotted class, because a run makes one per message: the constructor stores six references and
nothing is parsed until it is read; what was parsed is kept.

Invariants:

- A message holds the answer it came in (text and literals), so reading a field never does network I/O.
- A field that was not asked for raises `NotFetched`; a field that the server got wrong raises `ProtocolError`,
  for that field only.
- A spooled body lives as long as its message and every file `open()` gave.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from email import message_from_binary_file, message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from re import Match
from typing import BinaryIO, NamedTuple, cast

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.headers import Headers
from imapipe.wire.body_structure import BodyStructure, parse_body_structure
from imapipe.wire.date import parse_internal_date, parse_message_date
from imapipe.wire.envelope import Address, Envelope, parse_envelope
from imapipe.wire.fetch import (
    flags_of,
    parse_body,
    parse_email_id,
    parse_gmail_labels,
    parse_modseq,
    parse_preview,
    parse_savedate,
    parse_size,
    scan_fetch,
)
from imapipe.wire.fetch_request import Fetch, Shape
from imapipe.wire.literal import Literal, literal_bytes, spooled_bytes
from imapipe.wire.token import ItemSpan


class FoundItem(NamedTuple):
    """Where one item of a message stands: in which answer, and where in it."""

    text: bytes
    literals: tuple[Literal, ...]
    span: ItemSpan

    @property
    def is_nil(self) -> bool:
        """Whether the server sent no value."""
        return self.text[self.span.start : self.span.end].upper() in (b"", b"NIL")


class Gmail(NamedTuple):
    """What Gmail adds to a message (X-GM-EXT-1)."""

    message_id: int
    thread_id: int
    labels: tuple[str, ...]


class MessageContext:
    """What the messages of one FETCH have in common.

    Attributes:
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY; with the UID it names the message for ever (RFC 9051 §2.3.1.1).
        fetch: What was asked for.
    """

    __slots__ = ("fetch", "mailbox", "uidvalidity")

    def __init__(self, mailbox: str, uidvalidity: int, fetch: Fetch) -> None:
        self.mailbox = mailbox
        self.uidvalidity = uidvalidity
        self.fetch = fetch


class Message:
    """One message of a mailbox: identity, and whatever the job asked for.

    Attributes:
        uid: The UID (RFC 9051 §2.3.1.1).
        wire_size: The bytes its answer took on the wire, after decompression.
    """

    __slots__ = (
        "_context",
        "_email",
        "_envelope",
        "_found",
        "_headers",
        "_internal_date",
        "_literals",
        "_match",
        "_shape",
        "_structure",
        "uid",
        "wire_size",
    )

    _found: dict[str, FoundItem]

    def __init__(
        self,
        context: MessageContext,
        uid: int,
        wire_size: int,
        match: Match[bytes] | None,
        shape: Shape | None,
        literals: tuple[Literal, ...],
    ) -> None:
        self._context = context
        self.uid = uid
        self.wire_size = wire_size
        self._match = match
        self._shape = shape
        self._literals = literals

    @classmethod
    def from_items(cls, context: MessageContext, uid: int, wire_size: int, found: dict[str, FoundItem]) -> Message:
        """Make a message of items that were located one by one, perhaps in several responses."""
        message = cls(context, uid, wire_size, None, None, ())
        message._found = found
        return message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what was fetched, a spooled body as bytes: messages cross to worker processes."""
        self._scan_again()
        found = {name: FoundItem(i.text, _in_memory(i.literals), i.span) for name, i in self._found.items()}
        context = self._context
        return _restore, (context.mailbox, context.uidvalidity, context.fetch, self.uid, self.wire_size, found)

    def __repr__(self) -> str:
        return f"<Message {self._context.mailbox!r} uid={self.uid}>"

    @property
    def spooled_size(self) -> int:
        """How many bytes of `wire_size` sit in temporary files instead of memory."""
        if self._match is not None:
            return spooled_bytes(self._literals) if self._literals else 0
        # Several items may come from one answer.
        answers = {id(item.literals): item.literals for item in self._found.values()}
        return sum(map(spooled_bytes, answers.values()))

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
        try:
            self._envelope: Envelope = parse_envelope(*self._find("ENVELOPE", "envelope"))
        except ProtocolError:
            if self._match is None:
                raise
            # A shape ends where its last item begins; this server put something behind it.
            self._scan_again()
            self._envelope = parse_envelope(*self._find("ENVELOPE", "envelope"))
        return self._envelope

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
            self._scan_again()
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
        """The server's short text of it (RFC 8970), or None. Raises NotFetched."""
        return parse_preview(*self._find("PREVIEW", "preview"))

    @property
    def gmail(self) -> Gmail:
        """Gmail's identifiers and labels. Raises NotFetched."""
        text, _, span = self._find("X-GM-MSGID", "gmail")
        message_id = parse_size(text, span)
        text, _, span = self._find("X-GM-THRID", "gmail")
        thread_id = parse_size(text, span)
        return Gmail(message_id, thread_id, tuple(parse_gmail_labels(*self._find("X-GM-LABELS", "gmail"))))

    @property
    def headers(self) -> Headers:
        """Its header fields, decoded; `headers.raw` holds the bytes. Raises NotFetched."""
        try:
            return self._headers
        except AttributeError:
            pass
        raw = self._header_bytes()
        if raw is None:
            raise NotFetched("headers", "ask for it with fetch('headers') or fetch('full')")
        self._headers: Headers = Headers(raw)
        return self._headers

    @property
    def body(self) -> bytes:
        """The whole message, or the one section asked for, in memory. Raises NotFetched.

        A spooled body is read in; `open()` and `save_to()` do without that.
        """
        return literal_bytes(self._body_literal())

    @property
    def is_spooled(self) -> bool:
        """Whether the body sits in a temporary file instead of memory. Raises NotFetched."""
        return not isinstance(self._body_literal(), bytes | bytearray)

    def section(self, section: str = "", *, origin: int | None = None) -> bytes:
        """One section of the body as it was asked for, such as "1.2" or "TEXT". Raises NotFetched."""
        name = section.upper() + ("]" if origin is None else f"]<{origin}>")
        for candidate in (f"BODY[{name}", f"BINARY[{name}"):
            if candidate in self._items():
                return literal_bytes(self._literal(candidate) or b"")
        raise NotFetched(f"section {section!r}", f"ask for it with Fetch(section={section!r})")

    def open(self) -> BinaryIO:
        """The body as a binary file of its own, at its first byte, whatever its size. Raises NotFetched."""
        literal = self._body_literal()
        if isinstance(literal, bytes | bytearray):
            return io.BytesIO(literal)
        return literal.open()

    def save_to(self, path: str | os.PathLike[str]) -> None:
        """Write the body to a file, which appears whole or not at all.

        Blocks for the time of the write; in a handler wrap it with `imapipe.in_threads` for large bodies.

        Raises:
            NotFetched: No body was asked for.
            OSError: The file could not be written.
        """
        target = Path(path)
        partial = target.with_name(target.name + ".part")
        with self.open() as source, partial.open("wb") as file:
            shutil.copyfileobj(source, file, 1024 * 1024)
        partial.replace(target)

    def email(self) -> EmailMessage:
        """The whole message as the standard library's EmailMessage, parsed once. Raises NotFetched."""
        try:
            return self._email
        except AttributeError:
            pass
        if "BODY[]" not in self._items():
            raise NotFetched("email()", "ask for the whole message with fetch('full')")
        literal = self._literal("BODY[]") or b""
        if isinstance(literal, bytes | bytearray):
            parsed = message_from_bytes(bytes(literal), policy=default_policy)
        else:
            with literal.open() as file:
                parsed = message_from_binary_file(file, policy=default_policy)
        self._email: EmailMessage = cast(EmailMessage, parsed)
        return self._email

    @property
    def subject(self) -> str:
        """The decoded subject, from the envelope or the header. Raises NotFetched."""
        if "ENVELOPE" in self._items():
            return self.envelope.subject
        return self.headers.get("Subject", "")

    @property
    def sender(self) -> Address | None:
        """The first address of From (of Sender where there is none). Raises NotFetched."""
        if "ENVELOPE" in self._items():
            addresses = self.envelope.from_ or self.envelope.sender
            return addresses[0] if addresses else None
        return self.headers.address("From") or self.headers.address("Sender")

    @property
    def date(self) -> datetime | None:
        """The Date header (aware), or when the server received it where that says nothing. Raises NotFetched."""
        if "ENVELOPE" in self._items():
            written = self.envelope.date
        else:
            written = parse_message_date(self.headers.get("Date", "").encode("utf-8", "replace"))
        if written is None and "INTERNALDATE" in self._items():
            return self.internal_date
        return written

    @property
    def text(self) -> str:
        """The plain text of the whole message, "" where it has none. Raises NotFetched."""
        return self._text_of("plain")

    @property
    def html(self) -> str:
        """The HTML text of the whole message, "" where it has none. Raises NotFetched."""
        return self._text_of("html")

    @property
    def attachments(self) -> list[EmailMessage]:
        """The parts of the whole message that are attachments. Raises NotFetched."""
        return [
            cast(EmailMessage, part)
            for part in self.email().walk()
            if not part.is_multipart() and (part.get_content_disposition() == "attachment" or part.get_filename())
        ]

    def _text_of(self, subtype: str) -> str:
        part = self.email().get_body(preferencelist=(subtype,))
        if part is None:
            return ""
        try:
            return str(part.get_content())
        except (LookupError, UnicodeError):
            # An unknown or a wrong charset: the bytes are there, and most of them are readable.
            payload = part.get_payload(decode=True)
            return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""

    def _items(self) -> Mapping[str, object]:
        """What was found, by item name; cheap where only the presence counts."""
        return self._found if self._match is None else self._present()

    def _present(self) -> Mapping[str, object]:
        shape = self._shape
        return dict.fromkeys((*shape.groups, *shape.literal_items)) if shape is not None else {}

    def _group(self, name: str) -> bytes | None:
        """The value of an item that the shape has as a group, without a search for it; else None."""
        match = self._match
        if match is None:
            return None
        try:
            return match[self._shape.groups[name]]  # type: ignore[union-attr]  # a match comes with its shape
        except KeyError:
            return None

    def _find(self, name: str, field: str) -> FoundItem:
        if self._match is None:
            found = self._found.get(name)
        else:
            found = self._find_in_match(name)
        if found is None:
            raise NotFetched(field, "name it in fetch(...)")
        return found

    def _find_in_match(self, name: str) -> FoundItem | None:
        match, shape = self._match, self._shape
        if match is None or shape is None or name not in shape.groups:
            return None
        start, end = match.span(shape.groups[name])
        if name == shape.open_item:
            return FoundItem(
                match.string, self._literals, ItemSpan(start, len(match.string) - 1, len(shape.literal_items))
            )
        return FoundItem(match.string, self._literals, ItemSpan(start, end, 0))

    def _scan_again(self) -> None:
        """Locate the items one by one instead of by shape."""
        if self._match is not None:
            text, literals = self._match.string, self._literals
            self._found = {n: FoundItem(text, literals, s) for n, s in scan_fetch(text, literals).items.items()}
            self._match = None
            self._shape = None

    def _literal(self, name: str) -> Literal | None:
        shape = self._shape
        if shape is not None:
            return self._literals[shape.literal_items.index(name)]
        return parse_body(*self._found[name])

    def _body_literal(self) -> Literal:
        items = self._items()
        names = [name for name in items if name.startswith(("BODY[", "BINARY["))]
        name = "BODY[]" if "BODY[]" in items else names[0] if names else None
        if name is None:
            raise NotFetched("body", "ask for it with fetch('full') or Fetch(section=...)")
        literal = self._literal(name)
        if literal is None:
            raise ProtocolError("the server sent NIL for a body")
        return literal

    def _header_bytes(self) -> bytes | None:
        items = self._items()
        for name in items:
            if name.startswith("BODY[HEADER") and not name.endswith(">"):
                return literal_bytes(self._literal(name) or b"")
        if "BODY[]" not in items:
            return None
        literal = self._literal("BODY[]") or b""
        if isinstance(literal, bytes | bytearray):
            end = literal.find(b"\r\n\r\n")
            return bytes(literal if end < 0 else literal[: end + 2])
        with literal.open() as file:
            lines = []
            for line in file:
                if line in (b"\r\n", b"\n"):
                    break
                lines.append(line)
            return b"".join(lines)


def _in_memory(literals: tuple[Literal, ...]) -> tuple[Literal, ...]:
    return tuple(item if isinstance(item, bytes | bytearray) else literal_bytes(item) for item in literals)


def _restore(
    mailbox: str, uidvalidity: int, fetch: Fetch, uid: int, wire_size: int, found: dict[str, FoundItem]
) -> Message:
    return Message.from_items(MessageContext(mailbox, uidvalidity, fetch), uid, wire_size, found)
