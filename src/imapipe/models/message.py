"""`Message`: one message as it came from the server, read field by field.

A hand-written slotted class, because a run makes one per message: the constructor stores seven references and
nothing is parsed until it is read; what was parsed is kept.

Invariants:

- A message holds the answer it came in (text and literals), so reading a field never does network I/O.
- A field that was not asked for raises `NotFetched`; a field that the server got wrong raises `ProtocolError`,
  for that field only.
- A spooled body lives as long as its message and every file `open()` gave, or until it is discarded: a run discards
  what it did not come to handle. It is read as bytes, so that the same bytes give the same parts however they are held.
- `email()` is the standard library's; text and attachments are ours (`models.content`).
"""

from __future__ import annotations

import io
import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Final

from imapipe.durable_file import save_file
from imapipe.errors import NotFetched
from imapipe.mime.filename import safe_name
from imapipe.mime.outline import StructurePart, parts_of
from imapipe.mime.part import Part
from imapipe.mime.selection import attachment_parts
from imapipe.mime.transfer import decode_transfer, decoded_size, estimated_size
from imapipe.models.attributes import Gmail
from imapipe.models.content import Content
from imapipe.models.fetched import FoundItem, MessageContext
from imapipe.models.headers import Headers
from imapipe.models.held import chunks_of
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.date import parse_message_date
from imapipe.wire.response.envelope import Address
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.token import ItemSpan

if TYPE_CHECKING:
    from email.message import EmailMessage

__all__ = ["Attachment", "FoundItem", "Gmail", "Message", "MessageContext"]

_WHOLE: Final = Fetch("full")
_LINE_END: Final = re.compile(rb"\r?\n|\r")


class Message(Content):
    """One message of a mailbox: identity, and whatever the job asked for.

    Attributes:
        uid: The UID (RFC 9051 §2.3.1.1).
        wire_size: The bytes its answer took on the wire, after decompression.
    """

    __slots__ = ("_email", "_headers")

    def __repr__(self) -> str:
        return f"<Message {self._context.mailbox!r} uid={self.uid}>"

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

    def save_to(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = True,
        mode: int = 0o600,
        mtime: datetime | None = None,
    ) -> None:
        """Write the body to a file, which appears whole or not at all.

        Blocks for the time of the write; in a handler wrap it with `imapipe.in_threads` for large bodies.

        Args:
            path: Where; a file of that name is replaced.
            durable: Whether the file survives a loss of power when this returns, so that the message may count as
                done. It costs two syncs; without, the death of the process is survived all the same.
            mode: The permissions of the file.
            mtime: When it counts as changed, such as `message.internal_date`; None is now.

        Raises:
            NotFetched: No body was asked for.
            OSError: The file could not be written; what was there before is there still.
        """
        save_file(os.fspath(path), chunks_of(self._body_literal()), durable=durable, mode=mode, mtime=mtime)

    def email(self) -> EmailMessage:
        """The whole message as the standard library's EmailMessage, parsed once. Raises NotFetched."""
        try:
            return self._email
        except AttributeError:
            pass
        if "BODY[]" not in self._names():
            raise NotFetched("email()", "ask for the whole message with fetch('full')")
        # The parser and its policies take longer to import than a small job to run, and most jobs do without.
        from email import message_from_bytes  # noqa: PLC0415
        from email.policy import default  # noqa: PLC0415

        # Not from the file: the library reads one as text, with other line ends.
        self._email: EmailMessage = message_from_bytes(literal_bytes(self._literal("BODY[]") or b""), policy=default)
        return self._email

    @property
    def subject(self) -> str:
        """The decoded subject, from the envelope or the header. Raises NotFetched, ProtocolError."""
        if "ENVELOPE" in self._names():
            return self.envelope.subject
        return self.headers.get("Subject", "")

    @property
    def sender(self) -> Address | None:
        """The first address of From (of Sender where there is none). Raises NotFetched, ProtocolError."""
        if "ENVELOPE" in self._names():
            addresses = self.envelope.from_ or self.envelope.sender
            return addresses[0] if addresses else None
        return self.headers.address("From") or self.headers.address("Sender")

    @property
    def date(self) -> datetime | None:
        """The Date header (aware), or when the server received it where that says nothing.

        Raises NotFetched, ProtocolError.
        """
        if "ENVELOPE" in self._names():
            written = self.envelope.date
        else:
            written = parse_message_date(_LINE_END.sub(b"", self.headers.get_raw("Date")))
        if written is None and "INTERNALDATE" in self._names():
            return self.internal_date
        return written

    @property
    def attachments(self) -> list[Attachment]:
        """What is attached, in order, with what an HTML text shows: every part that is no text, or has a name.

        Of a message of which only the structure was fetched they are described, and have no content.

        Raises NotFetched, ProtocolError.
        """
        if self._is_outlined():
            return [Attachment(self, part) for part in attachment_parts(parts_of(self.structure))]
        return [Attachment(self, part) for part in attachment_parts(self._parse())]

    def _attached(self, content: bytes) -> Message:
        """A message that is attached to this one."""
        context = MessageContext(self._context.mailbox, self._context.uidvalidity, _WHOLE)
        text = b"{%d}\r\n" % len(content)
        found = {"BODY[]": FoundItem(text, (content,), ItemSpan(0, len(text), 0))}
        return Message.from_items(context, self.uid, len(content), found, (content,))

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


class Attachment:
    """Something that a message carries: a file, a picture that its HTML shows, another message.

    It keeps the message it is in, and so its body, alive. Of a message that was fetched without it, it describes what
    `Mailbox.download` brings.
    """

    __slots__ = ("_filename", "_message", "_part", "_size")

    def __init__(self, message: Message, part: Part | StructurePart) -> None:
        self._message = message
        self._part = part

    def __repr__(self) -> str:
        return f"<Attachment {self.section} {self.content_type}>"

    @property
    def is_fetched(self) -> bool:
        """Whether its content is there."""
        return self._message._has(self._part)

    def is_of(self, message: Message) -> bool:
        """Whether it is in this message."""
        return self._message is message or self._message._is_same(message)

    def found_in(self, message: Message) -> Attachment:
        """The same attachment of a message that holds more."""
        return Attachment(message, self._part)

    @property
    def filename(self) -> str:
        """The name its sender gave it, decoded; "" when there is none.

        It may be anything, a path too: open a file as `safe_filename` says.
        """
        try:
            return self._filename
        except AttributeError:
            pass
        self._filename: str = self._part.filename
        return self._filename

    @property
    def safe_filename(self) -> str:
        """A name without folders and without what some system reserves, of at most 240 bytes; never empty."""
        return safe_name(self.filename, "message.eml" if self._part.is_message else "attachment")

    @property
    def content_type(self) -> str:
        """Such as `application/pdf`, in lower case, as its sender declared it."""
        return self._part.content_type

    @property
    def content_id(self) -> str:
        """The name by which an HTML text refers to it, without angle brackets; "" when there is none."""
        return self._part.content_id.strip("<>")

    @property
    def disposition(self) -> str:
        """`attachment`, `inline` or another word, in lower case; "" when its sender declared none."""
        return self._part.disposition

    @property
    def section(self) -> str:
        """Which part of the message it is (RFC 9051 §6.4.5.1), such as `1.2`: what to ask a server for."""
        return self._part.section

    @property
    def encoding(self) -> str:
        """How it is encoded in the message, such as `base64`; "" when it is not."""
        return self._part.encoding

    @property
    def size(self) -> int:
        """Bytes of its content; where it was not fetched, an estimate from what the server says of the encoded part."""
        try:
            return self._size
        except AttributeError:
            pass
        try:
            size = decoded_size(self.encoding, self._message._encoded(self._part))
        except NotFetched:
            if not isinstance(self._part, StructurePart):
                raise
            size = estimated_size(self.encoding, self._part.structure.size)
        self._size: int = size
        return size

    @property
    def content(self) -> bytes:
        """Its bytes, decoded; decoded anew each time, as nothing keeps them. Raises NotFetched."""
        return decode_transfer(self.encoding, self._message._encoded(self._part))

    def open(self) -> BinaryIO:
        """Its bytes, decoded, as a file. Raises NotFetched."""
        return io.BytesIO(self.content)

    def save_to(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = True,
        mode: int = 0o600,
        mtime: datetime | None = None,
    ) -> None:
        """Write its bytes, decoded, to a file; see `Message.save_to`.

        Raises:
            NotFetched: Its message was not fetched as a whole.
            OSError: The file could not be written.
        """
        save_file(os.fspath(path), (self.content,), durable=durable, mode=mode, mtime=mtime)

    @property
    def message(self) -> Message | None:
        """The message that is attached; None where it is no message. Raises NotFetched.

        Its mailbox and its UID are those of the message that it is in.
        """
        return self._message._attached(self.content) if self._part.is_message else None
