r"""What a FETCH asks for, and the shape of the answers to it (RFC 9051 §6.4.5, §7.5.2).

`Fetch` is the request: an ordered set of items, UID always first. `Shape` recognises, with one regular
expression, an answer that holds exactly these items in one order: it gives the UID and the place of every item
without scanning the rest. Servers keep to an order, so the shape of the first answer fits those that follow;
an answer that does not fit is scanned item by item instead (`wire.response.fetch.scan_fetch`), with the same result.

Invariant: a shape never matches an answer that lacks an item or holds another one. Items before the last are
matched whole; the last one may be open-ended (ENVELOPE, BODYSTRUCTURE), because framing has made sure that the
text ends where the response does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_PRESETS: dict[str, tuple[str, ...]] = {
    "uid": (),
    "flags": ("FLAGS",),
    "size": ("RFC822.SIZE",),
    "envelope": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "structure": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE"),
    "headers": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[HEADER]"),
    "full": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]"),
    "modseq": ("MODSEQ",),
    "gmail": ("X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS"),
    "email_id": ("EMAILID",),
    "thread_id": ("THREADID",),
    "saved_date": ("SAVEDATE",),
    "preview": ("PREVIEW",),
}
_NEEDS = {
    "MODSEQ": "CONDSTORE",
    "X-GM-MSGID": "X-GM-EXT-1",
    "X-GM-THRID": "X-GM-EXT-1",
    "X-GM-LABELS": "X-GM-EXT-1",
    "EMAILID": "OBJECTID",
    "THREADID": "OBJECTID",
    "SAVEDATE": "SAVEDATE",
    "PREVIEW": "PREVIEW",
}
_SECTION = re.compile(r"(?:\d+(?:\.\d+)*(?:\.(?:MIME|HEADER|TEXT))?|HEADER|TEXT)?\Z")
_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
# Small before large, so that the open-ended one comes last and memory is held for a short time.
_ORDER = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
_LARGE = ("ENVELOPE", "BODYSTRUCTURE", "BODY", "BINARY")


@dataclass(frozen=True, slots=True, init=False)
class Fetch:
    """The items that a job wants of each message.

    Args:
        presets: Names: `uid flags size envelope structure headers full modseq gmail email_id thread_id
            saved_date preview`.
        header_fields: Names of header fields, fetched alone instead of the whole header.
        section: A section of the body (RFC 9051 §6.4.5.1), such as "TEXT", "1.2", "1.MIME"; "" is the whole message.
        partial: `(offset, count)` in bytes: only that range of `section` (or of the whole message).
        binary: Ask for `section` decoded from its transfer encoding (RFC 3516); needs BINARY.
        mark_seen: Fetch without PEEK: the server sets \\Seen, and the mailbox is opened for writing.

    Raises:
        ValueError: An unknown preset, or a section, field name or range that the grammar does not allow.

    Attributes:
        items: The items as they are sent, without UID.
        names: The items as they come back, without UID.
        header_name: The one of `names` that brings the header, or fields of it, whole; "" where none does.
        mark_seen: Whether fetching changes flags.
    """

    items: tuple[str, ...]
    names: tuple[str, ...]
    header_name: str
    mark_seen: bool

    def __init__(
        self,
        *presets: str,
        header_fields: Sequence[str] = (),
        section: str | None = None,
        partial: tuple[int, int] | None = None,
        binary: bool = False,
        mark_seen: bool = False,
    ) -> None:
        items: list[str] = []
        for preset in presets:
            if preset not in _PRESETS:
                raise ValueError(f"unknown fetch preset {preset!r}; use one of {', '.join(_PRESETS)}, or Fetch(...)")
            items.extend(_PRESETS[preset])
        if header_fields:
            items.append(f"BODY.PEEK[HEADER.FIELDS ({_field_names(header_fields)})]")
        if section is not None or partial is not None:
            items.append(_body_item(section or "", partial, binary=binary))
        elif binary:
            raise ValueError("binary=True needs section=, the number of a part such as '1.2'")
        if mark_seen:
            items = [item.replace(".PEEK[", "[") for item in items]
        self._set(items, mark_seen=mark_seen)

    def _set(self, items: Iterable[str], *, mark_seen: bool) -> None:
        unique = sorted(dict.fromkeys(items), key=_rank)
        object.__setattr__(self, "items", tuple(unique))
        names = tuple(_name(item) for item in unique)
        object.__setattr__(self, "names", names)
        header_name = next((n for n in names if n.startswith("BODY[HEADER") and not n.endswith(">")), "")
        object.__setattr__(self, "header_name", header_name)
        object.__setattr__(self, "mark_seen", mark_seen)

    def __or__(self, other: Fetch) -> Fetch:
        """Ask for the items of both."""
        both = Fetch()
        both._set((*self.items, *other.items), mark_seen=self.mark_seen or other.mark_seen)
        return both

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that the server must offer."""
        needs = {_NEEDS[item] for item in self.items if item in _NEEDS}
        if any(item.startswith("BINARY") for item in self.items):
            needs.add("BINARY")
        return frozenset(needs)

    @property
    def body_names(self) -> tuple[str, ...]:
        """The names of the items that every message has, so that NIL is no answer: all but numbered parts."""
        return tuple(name for name in self.names if name.startswith("BODY[") and not name[5].isdigit())

    @property
    def has_body(self) -> bool:
        """Whether a part of the message itself is asked for, so that sizes matter."""
        return any(item.startswith(("BODY[", "BODY.", "BINARY")) for item in self.items)

    def command(self, *, with_uid: bool = True) -> bytes:
        """The parenthesised list of items as it is sent; `with_uid=False` for UIDONLY sessions (RFC 9586 §3)."""
        items = ("UID", *self.items) if with_uid else self.items
        return f"({' '.join(items)})".encode()

    def describe(self) -> str:
        """Stable text for the fingerprint of a job."""
        return " ".join(("UID", *self.items))


def _field_names(names: Sequence[str]) -> str:
    for name in names:
        if not _FIELD_NAME.match(name):
            raise ValueError(f"{name!r} is not the name of a header field: use printable ASCII without ':'")
    return " ".join(dict.fromkeys(name.upper() for name in names))


def _body_item(section: str, partial: tuple[int, int] | None, *, binary: bool) -> str:
    section = section.upper()
    if not _SECTION.match(section):
        raise ValueError(f"{section!r} is not a section: use '', HEADER, TEXT, or a part such as 1.2 or 1.MIME")
    if binary and not re.match(r"[\d.]*\Z", section):
        raise ValueError(f"binary=True takes a part number such as '1.2', not {section!r}")
    item = f"{'BINARY' if binary else 'BODY'}.PEEK[{section}]"
    if partial is not None:
        offset, count = partial
        if offset < 0 or count < 1:
            raise ValueError(f"partial={partial!r}: use an offset of 0 or more and a count of 1 or more")
        item += f"<{offset}.{count}>"
    return item


def _rank(item: str) -> tuple[int, int]:
    if item in _ORDER:
        return 0, _ORDER.index(item)
    for index, large in enumerate(_LARGE):
        if item.startswith(large):
            return 2, index
    return 1, 0


def _name(item: str) -> str:
    """The name under which the answer to an item comes back: no PEEK, a range gives only its origin."""
    return re.sub(r"<(\d+)\.\d+>\Z", r"<\1>", item.replace(".PEEK[", "[", 1))


_SIMPLE = {
    "UID": r"(\d{1,10})",
    "FLAGS": r'(\([^()"{]*\))',
    "INTERNALDATE": r'("[^"\\]*")',
    "RFC822.SIZE": r"(\d{1,19})",
    "MODSEQ": r"(\(\d{1,19}\))",
    "EMAILID": r'(\([^()" ]+\))',
    "THREADID": r'(\([^()" ]+\))',
    "X-GM-MSGID": r"(\d{1,20})",
    "X-GM-THRID": r"(\d{1,20})",
}
_OPEN = ("ENVELOPE", "BODYSTRUCTURE")


class Shape:
    """One order of the items in an answer, as a regular expression.

    Attributes:
        match: Bound method: `match(text)` gives a match or None.
        groups: Item name to the number of its group. An open-ended item's group begins where its value does.
        uid_group: The number of the group that holds the UID.
        literal_items: Names of the items whose values are literals, in order.
        names: The names of all items.
        open_item: The name of the item that stretches to the end of the answer, or "".
    """

    __slots__ = ("groups", "literal_items", "match", "names", "open_item", "uid_group")

    def __init__(
        self, pattern: re.Pattern[bytes], groups: dict[str, int], literal_items: tuple[str, ...], open_item: str
    ) -> None:
        self.match = pattern.match
        self.groups = groups
        self.uid_group = groups["UID"]
        self.literal_items = literal_items
        self.names = frozenset((*groups, *literal_items))
        self.open_item = open_item


@lru_cache(maxsize=256)
def compile_shape(order: tuple[str, ...], *, uidfetch: bool = False) -> Shape | None:
    """The shape of answers whose items come in this order, UID among them, or None where one must be scanned.

    Args:
        order: Item names as they come back. For `uidfetch` without UID, which stands in front.
        uidfetch: The answers are UIDFETCH responses (RFC 9586 §3.3).
    """
    groups: dict[str, int] = {}
    literal_items: list[str] = []
    if uidfetch:
        groups["UID"] = 1
    patterns: list[str] = []
    for position, name in enumerate(order):
        last = position == len(order) - 1
        if name in _SIMPLE:
            value = _SIMPLE[name]
            groups[name] = len(groups) + 1
        elif name in _OPEN and last:
            value = r"(\()"
            groups[name] = len(groups) + 1
        elif name.startswith(("BODY[", "BINARY[")):
            value = r"~?\{\d+\+?\}\r\n"
            literal_items.append(name)
        else:
            return None
        patterns.append(re.escape(name) + " " + value)
    if "UID" not in groups:
        return None
    head = r"\* (\d{1,10}) UIDFETCH \(" if uidfetch else r"\* \d+ FETCH \("
    open_item = order[-1] if order and order[-1] in _OPEN else ""
    tail = "" if open_item else r"\)\Z"
    return Shape(re.compile((head + " ".join(patterns) + tail).encode()), groups, tuple(literal_items), open_item)
