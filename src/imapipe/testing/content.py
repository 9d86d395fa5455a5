"""What a message says, and the pieces of it that FETCH asks for, rendered once and kept.

Invariant: everything here depends on the message's bytes alone (never on UID, flags or session), so it
may be shared by copies of the message in other mailboxes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from .mime import Part, find_part, parse_message
from .structure import StringStyle, render_envelope, render_structure

UID_MARK = b"@@@@@@@@@@"
"""Ten bytes that a template holds where the ten digits of the UID shall stand."""


@dataclass(frozen=True, slots=True)
class Section:
    """The section of ``BODY[...]`` or ``BINARY[...]`` (RFC 3501 ``section``).

    Attributes:
        numbers: Part numbers, empty for the whole message.
        kind: ``""``, ``HEADER``, ``HEADER.FIELDS``, ``HEADER.FIELDS.NOT``, ``TEXT`` or ``MIME``.
        fields: Lower-case field names for ``HEADER.FIELDS`` and ``HEADER.FIELDS.NOT``.
    """

    numbers: tuple[int, ...] = ()
    kind: str = ""
    fields: frozenset[bytes] = frozenset()


class Content(Protocol):
    """What a mailbox needs to know of a message's content."""

    @property
    def raw(self) -> bytes:
        """The whole message."""

    @property
    def size(self) -> int:
        """RFC822.SIZE in bytes."""

    @property
    def root(self) -> Part:
        """The MIME tree, offsets into ``raw``."""

    def envelope(self, style: StringStyle, utf8: bool) -> bytes:
        """ENVELOPE in the given style."""

    def structure(self, extended: bool, style: StringStyle, utf8: bool) -> bytes:
        """BODYSTRUCTURE or BODY in the given style."""

    def section(self, section: Section) -> bytes | None:
        """The bytes of a section, None when there is no such part."""

    def binary(self, numbers: tuple[int, ...]) -> bytes | None:
        """The decoded body of a part, None when there is no such part."""


class ParsedContent:
    """Content of a message held as bytes; the parse is lazy, its results are kept."""

    __slots__ = ("_rendered", "_root", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._root: Part | None = None
        self._rendered: dict[object, bytes] = {}

    @property
    def size(self) -> int:
        """RFC822.SIZE in bytes."""
        return len(self.raw)

    @property
    def root(self) -> Part:
        """The MIME tree, parsed on first use."""
        if self._root is None:
            self._root = parse_message(self.raw)
        return self._root

    def envelope(self, style: StringStyle, utf8: bool) -> bytes:
        """ENVELOPE in the given style, rendered once."""
        key = ("envelope", style, utf8)
        found = self._rendered.get(key)
        if found is None:
            found = self._rendered[key] = render_envelope(self.root, style, utf8)
        return found

    def structure(self, extended: bool, style: StringStyle, utf8: bool) -> bytes:
        """BODYSTRUCTURE or BODY in the given style, rendered once."""
        key = ("structure", extended, style, utf8)
        found = self._rendered.get(key)
        if found is None:
            found = self._rendered[key] = render_structure(self.raw, self.root, extended, style, utf8)
        return found

    def section(self, section: Section) -> bytes | None:
        """The bytes of a section; header selections are kept, bodies are sliced anew."""
        if not section.numbers and not section.kind:
            return self.raw
        if section.kind.startswith("HEADER."):
            found = self._rendered.get(section)
            if found is None:
                header = self.section(Section(section.numbers, "HEADER"))
                if header is None:
                    return None
                found = self._rendered[section] = select_fields(
                    header, section.fields, keep=section.kind == "HEADER.FIELDS"
                )
            return found
        part: Part | None = self.root
        if section.numbers:
            part = find_part(self.root, section.numbers)
            if part is not None and section.kind in ("HEADER", "TEXT"):
                part = part.children[0] if part.is_message else None
        if part is None:
            return None
        if section.kind in ("HEADER", "MIME"):
            return self.raw[part.header_start : part.body_start]
        return self.raw[part.body_start : part.end]

    def binary(self, numbers: tuple[int, ...]) -> bytes | None:
        """The decoded body of a part (RFC 3516)."""
        if not numbers:
            return self.raw
        part = find_part(self.root, numbers)
        return None if part is None else part.decoded(self.raw)


class TemplateContent:
    """Content made of a shared template by writing the UID over its marks.

    The mark and the digits have one length, so every offset, size and literal of the template holds.
    """

    __slots__ = ("_digits", "_template")

    def __init__(self, template: ParsedContent, uid: int) -> None:
        self._template = template
        self._digits = b"%010d" % uid

    @property
    def raw(self) -> bytes:
        """The whole message, made on demand."""
        return self._template.raw.replace(UID_MARK, self._digits)

    @property
    def size(self) -> int:
        """RFC822.SIZE in bytes."""
        return len(self._template.raw)

    @property
    def root(self) -> Part:
        """The MIME tree; its header values have the UID in place."""
        return parse_message(self.raw)

    def envelope(self, style: StringStyle, utf8: bool) -> bytes:
        """ENVELOPE in the given style."""
        return self._template.envelope(style, utf8).replace(UID_MARK, self._digits)

    def structure(self, extended: bool, style: StringStyle, utf8: bool) -> bytes:
        """BODYSTRUCTURE or BODY in the given style."""
        return self._template.structure(extended, style, utf8).replace(UID_MARK, self._digits)

    def section(self, section: Section) -> bytes | None:
        """The bytes of a section."""
        found = self._template.section(section)
        return None if found is None else found.replace(UID_MARK, self._digits)

    def binary(self, numbers: tuple[int, ...]) -> bytes | None:
        """The decoded body of a part."""
        found = self._template.binary(numbers)
        return None if found is None else found.replace(UID_MARK, self._digits)


def select_fields(header: bytes, names: frozenset[bytes], keep: bool) -> bytes:
    """Header fields of (or, with ``keep`` false, all but) the given names, with the empty line after them."""
    out: list[bytes] = []
    taking = False
    for line in re.findall(rb"[^\n]*\n|[^\n]+", header):
        if line in (b"\r\n", b"\n"):
            break
        if line[:1] not in (b" ", b"\t"):
            taking = (line.partition(b":")[0].strip().lower() in names) is keep
        if taking:
            out.append(line)
    return b"".join(out) + b"\r\n"
