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
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.fetched import Fetched, FoundItem, MessageContext
from imapipe.models.headers import Headers
from imapipe.wire.date import parse_internal_date, parse_message_date
from imapipe.wire.response.body_structure import BodyStructure, parse_body_structure
from imapipe.wire.response.envelope import Address, Envelope, parse_envelope
from imapipe.wire.response.fetch import (
    flags_of,
    parse_email_id,
    parse_gmail_labels,
    parse_modseq,
    parse_preview,
    parse_savedate,
    parse_size,
)
from imapipe.wire.response.literal import Literal, literal_bytes

if TYPE_CHECKING:
    from email.message import EmailMessage

__all__ = ["FoundItem", "Gmail", "Message", "MessageContext"]


class Gmail(NamedTuple):
    """What Gmail adds to a message (X-GM-EXT-1)."""

    message_id: int
    thread_id: int
    labels: tuple[str, ...]


class Message(Fetched):
    """One message of a mailbox: identity, and whatever the job asked for.

    Attributes:
        uid: The UID (RFC 9051 §2.3.1.1).
        wire_size: The bytes its answer took on the wire, after decompression.
    """

    __slots__ = ("_email", "_envelope", "_headers", "_internal_date", "_structure")

    def __repr__(self) -> str:
        return f"<Message {self._context.mailbox!r} uid={self.uid}>"

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
        """The whole message, or the one section asked for, in memory; b"" where it has no such part. Raises NotFetched.

        A spooled body is read in each time; `open()` and `save_to()` do without that.
        """
        literal = self._body_literal()
        data = literal_bytes(literal)
        if isinstance(literal, bytearray):
            # It came into a buffer of its own; whoever asks again gets the same bytes.
            self._literals = tuple(data if item is literal else item for item in self._literals)
        return data

    @property
    def is_spooled(self) -> bool:
        """Whether the body sits in a temporary file instead of memory. Raises NotFetched."""
        return not isinstance(self._body_literal(), bytes | bytearray)

    def section(self, section: str = "", *, origin: int | None = None) -> bytes:
        """One section of the body as it was asked for, such as "1.2" or "TEXT"; b"" where it has no such part.

        Raises:
            NotFetched: It was not asked for.
        """
        name = section.upper() + ("]" if origin is None else f"]<{origin}>")
        for candidate in (f"BODY[{name}", f"BINARY[{name}"):
            if candidate in self._names():
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
        with self.open() as source:
            try:
                with partial.open("wb") as file:
                    shutil.copyfileobj(source, file, 1024 * 1024)
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def email(self) -> EmailMessage:
        """The whole message as the standard library's EmailMessage, parsed once. Raises NotFetched."""
        try:
            return self._email
        except AttributeError:
            pass
        if "BODY[]" not in self._names():
            raise NotFetched("email()", "ask for the whole message with fetch('full')")
        # The parser and its policies take longer to import than a small job to run, and most jobs do without.
        from email import message_from_binary_file, message_from_bytes  # noqa: PLC0415
        from email.policy import default  # noqa: PLC0415

        literal = self._literal("BODY[]") or b""
        if isinstance(literal, bytes | bytearray):
            self._email: EmailMessage = message_from_bytes(bytes(literal), policy=default)
        else:
            with literal.open() as file:
                self._email = message_from_binary_file(file, policy=default)
        return self._email

    @property
    def subject(self) -> str:
        """The decoded subject, from the envelope or the header. Raises NotFetched."""
        if "ENVELOPE" in self._names():
            return self.envelope.subject
        return self.headers.get("Subject", "")

    @property
    def sender(self) -> Address | None:
        """The first address of From (of Sender where there is none). Raises NotFetched."""
        if "ENVELOPE" in self._names():
            addresses = self.envelope.from_ or self.envelope.sender
            return addresses[0] if addresses else None
        return self.headers.address("From") or self.headers.address("Sender")

    @property
    def date(self) -> datetime | None:
        """The Date header (aware), or when the server received it where that says nothing. Raises NotFetched."""
        if "ENVELOPE" in self._names():
            written = self.envelope.date
        else:
            written = parse_message_date(self.headers.get("Date", "").encode("utf-8", "replace"))
        if written is None and "INTERNALDATE" in self._names():
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
            part
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

    def _body_literal(self) -> Literal:
        name = self._body_name()
        if name is None:
            raise NotFetched("body", "ask for it with fetch('full') or Fetch(section=...)")
        # NIL is how a server says that a message has no such part; for the whole message it never comes this far.
        return self._literal(name) or b""

    def _body_name(self) -> str | None:
        """The whole message, else the first section asked for that is more than header fields."""
        names = self._names()
        if "BODY[]" in names:
            return "BODY[]"
        sections = self._context.fetch.names
        return next(
            (n for n in sections if n.startswith(("BODY[", "BINARY[")) and not n.startswith("BODY[HEADER")), None
        )

    def _header_bytes(self) -> bytes | None:
        name = self._context.fetch.header_name
        if name:
            return literal_bytes(self._literal(name) or b"")
        if "BODY[]" not in self._names():
            return None
        lines = []
        with self.open() as file:
            for line in file:
                if line in (b"\r\n", b"\n"):
                    break
                lines.append(line)
        return b"".join(lines)
