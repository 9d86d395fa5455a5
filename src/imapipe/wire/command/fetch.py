r"""UID FETCH, and what it asks for (RFC 9051 §6.4.5): `Fetch`, an ordered set of items, UID always first."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from imapipe.wire.command.encoder import Request, Word, number, sequence_set
from imapipe.wire.uid_set import UidSet

PRESETS: dict[str, tuple[str, ...]] = {
    "uid": (),
    "flags": ("FLAGS",),
    "size": ("RFC822.SIZE",),
    "internal_date": ("INTERNALDATE",),
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
_SECTION = re.compile(r"(?:\d+(?:\.\d+)*(?:\.(?:MIME|HEADER|TEXT))?|HEADER|TEXT)?\Z", re.ASCII)
# RFC 5322 §3.6.8 without what would have to be quoted, and would come back in a spelling of the server's own.
_FIELD_NAME = re.compile(r"[!#$&'+-9;-Z^-z|}~]+\Z")
# Small before large, so that the open-ended one comes last and memory is held for a short time.
_ORDER = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
_LARGE = ("ENVELOPE", "BODYSTRUCTURE", "BODY", "BINARY")


@dataclass(frozen=True, slots=True, init=False)
class Fetch:
    """The items that a job wants of each message.

    Args:
        presets: Names: `uid flags size internal_date envelope structure headers full modseq gmail email_id thread_id
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
    # Written once: every FETCH of a job sends it.
    _with_uid: bytes = field(compare=False, repr=False)

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
            if preset == "text":
                raise ValueError(
                    '"text" takes more than one FETCH: give it to a pipeline, as in fetch("text", Fetch(...))'
                )
            if preset not in PRESETS:
                known = ", ".join((*PRESETS, "text"))
                raise ValueError(f"unknown fetch preset {preset!r}; use one of {known}, or Fetch(...)")
            items.extend(PRESETS[preset])
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
        object.__setattr__(self, "_with_uid", f"({' '.join(('UID', *unique))})".encode())

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

    def rest(self, name: str, received: int, count: int, *, without: Collection[str] = ()) -> tuple[Fetch, str]:
        """What is still to be asked for of a message of which something has come, and its size to know it by.

        Args:
            name: The one of `names` of which only the beginning came, or "" where none is in the middle.
            received: How many bytes of it came.
            count: How many bytes are to be asked for behind these, at least one.
            without: Those of `names` that came whole.

        Returns:
            It, and the name under which the rest of `name` comes back.
        """
        rest_name = ""
        items = ["RFC822.SIZE"]
        for item, came in zip(self.items, self.names, strict=True):
            if came == name:
                whole, _, partial = item.partition("<")
                item = f"{whole}<{int(partial.partition('.')[0] or 0) + received}.{count}>"  # noqa: PLW2901
                rest_name = _name(item)
            if came not in without:
                items.append(item)
        rest = Fetch()
        rest._set(items, mark_seen=self.mark_seen)
        return rest, rest_name

    def command(self, *, with_uid: bool = True) -> bytes:
        """The parenthesised list of items as it is sent; `with_uid=False` for UIDONLY sessions (RFC 9586 §3)."""
        return self._with_uid if with_uid else f"({' '.join(self.items)})".encode()

    def describe(self) -> str:
        """Stable text for the fingerprint of a job."""
        return " ".join(("UID", *self.items))


def _field_names(names: Sequence[str]) -> str:
    for name in names:
        if not _FIELD_NAME.match(name):
            raise ValueError(
                f'{name!r} is not the name of a header field: use printable ASCII without : ( ) [ ] {{ % * " \\'
            )
    return " ".join(dict.fromkeys(name.upper() for name in names))


def _body_item(section: str, partial: tuple[int, int] | None, *, binary: bool) -> str:
    section = section.upper()
    if not _SECTION.match(section):
        raise ValueError(f"{section!r} is not a section: use '', HEADER, TEXT, or a part such as 1.2 or 1.MIME")
    if binary and not re.match(r"[0-9.]*\Z", section):
        raise ValueError(f"binary=True takes a part number such as '1.2', not {section!r}")
    item = f"{'BINARY' if binary else 'BODY'}.PEEK[{section}]"
    if partial is not None:
        offset, count = (number(value, "a part of partial=", low=low) for low, value in enumerate(partial))
        item += f"<{offset.decode()}.{count.decode()}>"
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


def uid_fetch(
    uids: UidSet,
    fetch: Fetch,
    *,
    with_uid: bool = True,
    changed_since: int | None = None,
    vanished: bool = False,
) -> Request:
    """UID FETCH.

    Args:
        uids: Which messages.
        fetch: What of them.
        with_uid: False for UIDONLY sessions.
        changed_since: Only messages whose mod-sequence is above this (RFC 7162 §3.1.4.1); needs CONDSTORE.
        vanished: Tell also which of `uids` were expunged since then (RFC 7162 §3.2.6); needs QRESYNC enabled.

    Raises:
        ValueError: An empty set, a number that is none, or `vanished` without `changed_since`.
    """
    words: list[Word] = [sequence_set(uids), fetch.command(with_uid=with_uid)]
    if changed_since is not None:
        since = b"(CHANGEDSINCE " + number(changed_since, "a mod-sequence")
        words.append(since + (b" VANISHED)" if vanished else b")"))
    elif vanished:
        raise ValueError("what vanished is told since a mod-sequence only")
    return Request("UID FETCH", *words)
