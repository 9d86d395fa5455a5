"""The items of a FETCH: reading them from a command, rendering them for a message (RFC 3501 6.4.5, 7.4.2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .arguments import Arguments, BadCommand
from .content import Section
from .mailboxes import encode_mailbox_name
from .mime import Part
from .stored import StoredMessage, format_internal_date
from .structure import StringStyle, nstring

_MACROS: dict[str, tuple[str, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_ITEM_NAME = re.compile(rb"[A-Za-z0-9.\-]+")
_EXTENSION_OF: dict[str, str] = {
    "MODSEQ": "CONDSTORE",
    "EMAILID": "OBJECTID",
    "THREADID": "OBJECTID",
    "SAVEDATE": "SAVEDATE",
    "PREVIEW": "PREVIEW",
    "X-GM-MSGID": "X-GM-EXT-1",
    "X-GM-THRID": "X-GM-EXT-1",
    "X-GM-LABELS": "X-GM-EXT-1",
    "BINARY": "BINARY",
    "BINARY.SIZE": "BINARY",
}
_PLAIN = {"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE"}
_RFC822: dict[str, Section] = {
    "RFC822": Section(),
    "RFC822.HEADER": Section((), "HEADER"),
    "RFC822.TEXT": Section((), "TEXT"),
}
_PREVIEW_LENGTH = 200
# What Dovecot 2.3 writes of a message whose file is gone.
_ABSENT: dict[str, bytes] = {
    "INTERNALDATE": b'INTERNALDATE "01-Jan-1970 00:00:00 +0000"',
    "RFC822.SIZE": b"RFC822.SIZE 0",
    "ENVELOPE": b"ENVELOPE (" + b" ".join([b"NIL"] * 10) + b")",
    "BODYSTRUCTURE": b'BODYSTRUCTURE ("text" "plain" NIL NIL NIL "7bit" 0 0 NIL NIL NIL NIL)',
    "SAVEDATE": b"SAVEDATE NIL",
    "PREVIEW": b"PREVIEW NIL",
}


@dataclass(frozen=True, slots=True)
class FetchItem:
    """One item as it was asked for.

    Attributes:
        name: ``FLAGS``, ``BODY`` (the structure), ``BODY[]`` (any section), ``BINARY[]`` and so on.
        label: How the response names it.
        section: The section of a ``BODY[]``, ``BINARY[]`` or RFC822 item.
        partial: ``(offset, count)`` in bytes, or None.
        sets_seen: Whether fetching it marks the message as read.
    """

    name: str
    label: bytes
    section: Section | None = None
    partial: tuple[int, int] | None = None
    sets_seen: bool = False


def parse_items(arguments: Arguments, extensions: frozenset[str]) -> list[FetchItem]:
    """Read one item, a macro, or a list of items in parentheses.

    Raises:
        BadCommand: The grammar is broken or an item belongs to an extension that is not offered.
    """
    if not arguments.take(b"("):
        start = arguments.at
        macro = arguments.atom().decode("latin-1").upper()
        if macro in _MACROS:
            return [FetchItem(name, name.encode("ascii")) for name in _MACROS[macro]]
        arguments.at = start
        return [_parse_item(arguments, extensions)]
    items = [_parse_item(arguments, extensions)]
    while not arguments.take(b")"):
        arguments.space()
        items.append(_parse_item(arguments, extensions))
    return items


def _parse_item(arguments: Arguments, extensions: frozenset[str]) -> FetchItem:
    match = _ITEM_NAME.match(arguments.text, arguments.at)
    if match is None:
        raise BadCommand("Expected a FETCH item")
    arguments.at = match.end()
    written = match.group().decode("ascii").upper()
    peek = written.endswith(".PEEK")
    name = written.removesuffix(".PEEK")
    extension = _EXTENSION_OF.get(name)
    if extension is not None and extension not in extensions:
        raise BadCommand(f"Unknown FETCH item {written}")
    if name in ("BODY", "BINARY", "BINARY.SIZE") and arguments.peek() == b"[":
        return _parse_section_item(arguments, name, peek)
    if peek or name in ("BINARY", "BINARY.SIZE"):
        raise BadCommand(f"Unknown FETCH item {written}")
    if name == "PREVIEW" and arguments.take(b" (LAZY)"):
        return FetchItem(name, b"PREVIEW")
    if name in _RFC822:
        return FetchItem("BODY[]", name.encode("ascii"), _RFC822[name], None, name != "RFC822.HEADER")
    if name in _PLAIN or name == "BODY" or extension is not None:
        return FetchItem(name, name.encode("ascii"))
    raise BadCommand(f"Unknown FETCH item {written}")


def _parse_section_item(arguments: Arguments, name: str, peek: bool) -> FetchItem:
    arguments.expect(b"[")
    numbers: list[int] = []
    while arguments.peek().isdigit():
        numbers.append(arguments.number())
        if not arguments.take(b"."):
            break
    kind, fields, shown = "", frozenset[bytes](), b""
    if name == "BODY":
        for candidate in ("HEADER.FIELDS.NOT", "HEADER.FIELDS", "HEADER", "TEXT", "MIME"):
            if arguments.take(candidate.encode("ascii")):
                kind = candidate
                break
    if kind.startswith("HEADER.FIELDS"):
        arguments.space()
        names = _parse_names(arguments)
        fields = frozenset(field.lower() for field in names)
        shown = b" (" + b" ".join(names) + b")"
    if (kind == "MIME" and not numbers) or arguments.text[arguments.at - 1 : arguments.at] == b".":
        raise BadCommand("Invalid section")
    arguments.expect(b"]")
    section_text = b".".join([*(b"%d" % number for number in numbers), *([kind.encode("ascii")] if kind else [])])
    label = name.encode("ascii") + b"[" + section_text + shown + b"]"
    partial = None
    if name != "BINARY.SIZE" and arguments.take(b"<"):
        offset = arguments.number()
        arguments.expect(b".")
        partial = (offset, arguments.number())
        arguments.expect(b">")
        label += b"<%d>" % offset
    return FetchItem(f"{name}[]", label, Section(tuple(numbers), kind, fields), partial, name == "BODY" and not peek)


def _parse_names(arguments: Arguments) -> list[bytes]:
    arguments.expect(b"(")
    names = [arguments.astring()]
    while not arguments.take(b")"):
        arguments.space()
        names.append(arguments.astring())
    return names


@dataclass(slots=True)
class RenderOptions:
    """How values are written, and lies about them.

    Attributes:
        style: Spelling of strings.
        utf8: Whether 8-bit may stand in quoted strings.
        nil_bodies: Write NIL for every body section.
        length_offset: Added to the announced length of body literals.
        partial_lie: How a partial section is answered wrongly (``WrongPartial.kind``), or "".
        partial_by: By how many bytes.
    """

    style: StringStyle
    utf8: bool
    nil_bodies: bool = False
    length_offset: int = 0
    partial_lie: str = ""
    partial_by: int = 0


Renderer = Callable[[StoredMessage], bytes]


def compile_item(item: FetchItem, options: RenderOptions) -> Renderer:
    """A function that writes an item, label and value, for a message."""
    label = item.label + b" "
    if item.section is not None:
        return _compile_section(item, options)
    style, utf8 = options.style, options.utf8
    if item.name == "UID":
        return lambda message: b"UID %d" % message.uid
    if item.name == "FLAGS":
        return lambda message: b"FLAGS " + message.flags_text
    if item.name == "INTERNALDATE":
        return lambda message: b"INTERNALDATE " + format_internal_date(message.internal_date)
    if item.name == "RFC822.SIZE":
        return lambda message: b"RFC822.SIZE %d" % message.content.size
    if item.name == "ENVELOPE":
        return lambda message: b"ENVELOPE " + message.content.envelope(style, utf8)
    if item.name in ("BODY", "BODYSTRUCTURE"):
        extended = item.name == "BODYSTRUCTURE"
        return lambda message: label + message.content.structure(extended, style, utf8)
    if item.name == "MODSEQ":
        return lambda message: b"MODSEQ (%d)" % message.modseq
    if item.name == "EMAILID":
        return lambda message: b"EMAILID (" + message.email_id.encode("ascii") + b")"
    if item.name == "THREADID":
        return lambda message: b"THREADID " + (b"(%s)" % message.thread_id.encode() if message.thread_id else b"NIL")
    if item.name == "SAVEDATE":
        return lambda message: b"SAVEDATE " + format_internal_date(message.save_date)
    if item.name == "PREVIEW":
        return lambda message: b"PREVIEW " + nstring(preview(message), style, utf8)
    if item.name == "X-GM-MSGID":
        return lambda message: b"X-GM-MSGID %d" % message.gmail_id
    if item.name == "X-GM-THRID":
        return lambda message: b"X-GM-THRID %d" % message.gmail_thread_id
    return lambda message: b"X-GM-LABELS (" + b" ".join(write_label(text, style) for text in message.labels) + b")"


def compile_absent(item: FetchItem, options: RenderOptions) -> Renderer | None:
    """What Dovecot writes of a message that is gone, None for nothing: the flags that it knows, and no value."""
    if item.name in ("UID", "FLAGS"):
        return compile_item(item, options)
    if item.section is not None:
        return lambda message: item.label + b" NIL"
    if item.name in _ABSENT:
        return lambda message: _ABSENT[item.name]
    return None


def write_label(text: str, style: StringStyle) -> bytes:
    """A Gmail label in modified UTF-7; system labels are quoted, as Gmail does."""
    name = encode_mailbox_name(text)
    if text.startswith("\\") and text[1:].isalnum():
        return b'"\\' + name + b'"'
    return nstring(name, style)


def _partial_as_told(item: FetchItem, options: RenderOptions) -> tuple[tuple[int, int] | None, bytes]:
    """The range of a section that is sent, and its label with a space behind it."""
    partial, label, by = item.partial, item.label + b" ", options.partial_by
    if partial is None or not options.partial_lie:
        return partial, label
    offset, count = partial
    bare = item.label[: item.label.rindex(b"<")]
    if options.partial_lie == "shifted":
        return (offset + by, count), label
    if options.partial_lie == "relabelled":
        return (offset + by, count), bare + b"<%d> " % (offset + by)
    if options.partial_lie == "longer":
        return (offset, count + by), label
    return None, label if options.partial_lie == "whole" else bare + b" "


def _compile_section(item: FetchItem, options: RenderOptions) -> Renderer:
    section, (partial, label) = item.section, _partial_as_told(item, options)
    assert section is not None
    binary = item.name.startswith("BINARY")
    offset = options.length_offset

    def read(message: StoredMessage) -> bytes | None:
        data = message.content.binary(section.numbers) if binary else message.content.section(section)
        if data is not None and partial is not None:
            return data[partial[0] : partial[0] + partial[1]]
        return data

    if item.name == "BINARY.SIZE[]":
        return lambda message: label + b"%d" % len(read(message) or b"")
    if options.nil_bodies:
        return lambda message: label + b"NIL"
    quotable = options.style == "quoted"

    def render(message: StoredMessage) -> bytes:
        data = read(message)
        if data is None:
            return label + b"NIL"
        if quotable and not offset and len(data) < 1000:
            return label + nstring(data, "quoted")
        kind = b"~" if binary and b"\0" in data else b""
        return b"%s%s{%d}\r\n%s" % (label, kind, max(len(data) + offset, 0), data)

    return render


def preview(message: StoredMessage) -> bytes:
    """The first characters of the first text part as UTF-8 (RFC 8970)."""
    raw = message.content.raw
    part = _first_text(message.content.root)
    if part is None:
        return b""
    charset = next((value for name, value in part.parameters if name.lower() == b"charset"), b"us-ascii")
    try:
        text = part.decoded(raw).decode(charset.decode("latin-1"), "replace")
    except LookupError:
        text = part.decoded(raw).decode("latin-1")
    if part.subtype == b"HTML":
        text = re.sub(r"<[^<>]*+>", " ", text)
    return " ".join(text.replace("\0", " ").split())[:_PREVIEW_LENGTH].encode("utf-8")


def _first_text(part: Part) -> Part | None:
    if part.children:
        return next((found for found in map(_first_text, part.children) if found is not None), None)
    return part if part.maintype == b"TEXT" else None
