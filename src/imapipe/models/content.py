"""What is in a message: its text and its parts, from the whole body, or from BODYSTRUCTURE and the sections that came.

Invariants:

- Both ways go by the same rules (`mime.selection`), so they give the same text; where the body is there, it counts.
- Nothing is raised but `NotFetched`, `ProtocolError` for a structure that is none, and what reading a file raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Self

from imapipe.errors import NotFetched, ProtocolError
from imapipe.mime.outline import StructurePart, parts_of
from imapipe.mime.part import Part, Raw, parse_parts
from imapipe.mime.selection import HTML, PLAIN, text_parts
from imapipe.mime.text import decode_text, join_texts, read_text
from imapipe.models.attributes import Attributes
from imapipe.models.fetched import FoundItem, MessageContext
from imapipe.models.held import Mapped
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.body_structure import parse_body_structure
from imapipe.wire.response.invented import may_be_invented
from imapipe.wire.response.item_value import parse_body
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.token import ItemSpan

# Characters; a group of messages keeps no more than a few bodies are.
_SMALL_TEXT: Final = 16 * 1024


class Content(Attributes):
    """The content of one message, as far as it came."""

    __slots__ = ("_html", "_parts", "_text")

    def text_sections(self, *, prefer_plain: bool = False) -> tuple[str, ...]:
        """The sections that `text` and `html` are made of, by BODYSTRUCTURE, in the order of the message.

        Nothing of what is parsed for it is kept. Raises NotFetched, and ProtocolError also where nothing is described.

        Args:
            prefer_plain: Only those of `text`, where they hold something.
        """
        self._locate()
        parts = parts_of(parse_body_structure(*self._find("BODYSTRUCTURE", "structure")))
        if not any(part.structure.size for part in parts if not part.is_multipart):
            # What Dovecot says of a multipart in which it finds no part, and of one without its boundary.
            raise ProtocolError("a BODYSTRUCTURE that describes nothing")
        chosen = text_parts(parts, PLAIN)
        if not prefer_plain or not any(part.structure.size for part in chosen):
            chosen += text_parts(parts, HTML)
        wanted = {part.section for part in chosen}
        return tuple([part.section for part in parts if part.section in wanted])

    def lacks(self, section: str) -> bool:
        """Whether the server said of a section that was asked for that there is none."""
        self._locate()
        found = self._found.get(f"BODY[{section}]")
        return found is None or found.is_nil

    def doubts_sections(self, other: Self, sections: Sequence[str]) -> bool:
        """Whether what came of text sections may be no answer: nothing, for a part that is said to hold something.

        So servers answer for a message that somebody else has expunged, or with a text that they make up for it.

        Args:
            other: The answer to a FETCH of the sections.
            sections: Those of `text_sections`.
        """
        other._locate()
        if may_be_invented({}, other._literals, other.wire_size):
            return True
        # One that is no string counts as nothing too.
        bare = {section for section in sections if not other._has_bytes(section)}
        return bool(bare) and any(part.section in bare and part.structure.size for part in parts_of(self.structure))

    def _has_bytes(self, section: str) -> bool:
        """Whether any bytes of a section came, whole or from its first byte on."""
        found = self._found.get(f"BODY[{section}]") or self._found.get(f"BODY[{section}]<0>")
        try:
            return found is not None and bool(parse_body(*found))
        except ProtocolError:
            return False

    def joined(self, other: Self) -> Self:
        """This message with the items of another answer about it; the bytes of both count, and are its own from now on.

        Raises ProtocolError.
        """
        self._locate()
        other._locate()
        whole = type(self).from_items(
            self._context,
            self.uid,
            self.wire_size + other.wire_size,
            {**self._found, **other._found},
            self._literals + other._literals,
        )
        whole.is_held = self.is_held and other.is_held
        if whole.is_held:
            self.is_held = other.is_held = False
        return whole

    def literal_of(self, name: str) -> Literal | None:
        """The bytes of an item, wherever they are held; None where the server says that there are none.

        Raises:
            NotFetched: It did not come.
            ProtocolError: It cannot be read.
        """
        self._locate()
        return parse_body(*self._find(name, name))

    def completed(self, fetch: Fetch, literals: Mapping[str, Literal], wire_size: int) -> Self:
        """This answer as one to another FETCH, with bytes that came in others.

        Args:
            fetch: What had been asked for; what it did not ask for is left out.
            literals: The bytes, by the names of its items.
            wire_size: The bytes of all answers.
        """
        self._locate()
        found = {name: item for name, item in self._found.items() if name in fetch.names}
        for name, literal in literals.items():
            marker = b"{%d}\r\n" % len(literal)
            found[name] = FoundItem(marker, (literal,), ItemSpan(0, len(marker), 0))
        held = {id(literal): literal for item in found.values() for literal in item.literals}
        context = MessageContext(self._context.mailbox, self._context.uidvalidity, fetch, self._context.notes)
        return type(self).from_items(context, self.uid, wire_size, found, tuple(held.values()))

    @property
    def text(self) -> str:
        """The plain text of the whole message: all its text/plain parts in order, "" where it has none.

        See `imapipe.mime.selection` for which parts these are, and `imapipe.mime.text` for charsets. Of parts that were
        fetched up to `max_text_bytes` it is what came of them. Raises NotFetched, ProtocolError.
        """
        self._text: str = self.read_text()
        return self._text

    @property
    def html(self) -> str:
        """The HTML of the whole message: all its text/html parts in order, "" where it has none.

        Raises NotFetched, ProtocolError.
        """
        self._html: str = self.read_html()
        return self._html

    def read_text(self) -> str:
        """`text`, which is kept only where it is small: for those who hold many messages, and read it once.

        Raises NotFetched, ProtocolError.
        """
        try:
            return self._text
        except AttributeError:
            pass
        text = self._text_of(PLAIN)
        if len(text) <= _SMALL_TEXT:
            self._text = text
        return text

    def read_html(self) -> str:
        """`html`, which is kept as `read_text` says. Raises NotFetched, ProtocolError."""
        try:
            return self._html
        except AttributeError:
            pass
        html = self._text_of(HTML)
        if len(html) <= _SMALL_TEXT:
            self._html = html
        return html

    def _text_of(self, kind: str) -> str:
        if self._is_outlined():
            return self._text_of_sections(kind)
        literal = self._whole()
        if isinstance(literal, bytes | bytearray):
            return read_text(literal, self._parts_in(literal), kind)
        with Mapped(literal) as raw:
            return read_text(raw, self._parts_in(raw), kind)

    def _text_of_sections(self, kind: str) -> str:
        texts: list[str] = []
        for part in text_parts(parts_of(self.structure), kind):
            data = self._encoded(part)
            # Only a range has an end that its sender did not make.
            cut = f"BODY[{part.section}]" not in self._names() and len(data) < part.structure.size
            texts.append(decode_text(part.charset, part.encoding, data, is_html=kind == HTML, is_cut=cut))
        return join_texts(texts)

    def _is_outlined(self) -> bool:
        """Whether the parts are known by what the server says of them, and not by the message itself."""
        names = self._names()
        return "BODY[]" not in names and "BODYSTRUCTURE" in names

    def _is_same(self, other: Content) -> bool:
        ours, theirs = self._context, other._context
        return (self.uid, ours.mailbox, ours.uidvalidity) == (other.uid, theirs.mailbox, theirs.uidvalidity)

    def _parse(self) -> list[Part]:
        literal = self._whole()
        if isinstance(literal, bytes | bytearray):
            return self._parts_in(literal)
        with Mapped(literal) as raw:
            return self._parts_in(raw)

    def _parts_in(self, raw: Raw) -> list[Part]:
        try:
            return self._parts
        except AttributeError:
            pass
        self._parts: list[Part] = parse_parts(raw)
        return self._parts

    def _whole(self) -> Literal:
        """The whole message; NotFetched without."""
        if "BODY[]" not in self._names():
            raise NotFetched("text", "ask for it with fetch('text') or fetch('full')")
        return self._literal("BODY[]") or b""

    def _encoded(self, part: Part | StructurePart) -> bytes:
        """The bytes of a part as they stand in the message; NotFetched where they did not come."""
        if isinstance(part, StructurePart):
            names = self._names()
            for name in _names_of(part):
                if name in names:
                    return literal_bytes(self._literal(name) or b"")
            raise NotFetched(
                f"content of section {part.section}",
                "ask for the text with fetch('text') and for an attachment with download()",
            )
        literal = self._whole()
        if isinstance(literal, bytes | bytearray):
            return bytes(literal[part.start : part.end])
        with literal.open() as file:
            file.seek(part.start)
            return file.read(part.end - part.start)

    def _has(self, part: Part | StructurePart) -> bool:
        """Whether the bytes of a part came."""
        return isinstance(part, Part) or any(name in self._names() for name in _names_of(part))


def _names_of(part: StructurePart) -> tuple[str, str]:
    """Under which names a part comes: whole, or from its first byte on."""
    return f"BODY[{part.section}]", f"BODY[{part.section}]<0>"
