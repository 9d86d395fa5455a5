"""Responses: one line of a server, with its literals, as a value (RFC 9051 §7 and §9, production `response`).

`parse_response` never guesses about content: what has no known form is `Unknown`, what has one and breaks it is a
`ProtocolError`. Tolerated are lower-case keywords, leading NULs, superfluous spaces, a missing text, an untagged
line without its `*`, and a response code without its `OK`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, cast
from typing import Literal as Choice

from imapipe.errors import ProtocolError
from imapipe.wire.response.code import (
    MAX_NUMBER,
    AppendUid,
    Code,
    CopyUid,
    InProgress,
    MessageLimit,
    parse_response_text,
)
from imapipe.wire.response.fetch import FetchScan, scan_fetch
from imapipe.wire.response.literal import Literal, literal_bytes
from imapipe.wire.response.mailbox import (
    ListItem,
    MailboxStatus,
    Namespace,
    NamespacePrefix,
    parse_list,
    parse_namespace,
    parse_status,
)
from imapipe.wire.response.quota import Quota, parse_quota
from imapipe.wire.response.search import (
    Esearch,
    Partial,
    Search,
    UidBatches,
    Vanished,
    parse_esearch,
    parse_search,
    parse_uid_batches,
    parse_vanished,
)
from imapipe.wire.response.token import Cursor, malformed, split_words

__all__ = [
    "AppendUid",
    "Capability",
    "Code",
    "Continuation",
    "CopyUid",
    "Enabled",
    "Esearch",
    "Exists",
    "Expunge",
    "FetchScan",
    "Flags",
    "Greeting",
    "Id",
    "InProgress",
    "ListItem",
    "MailboxStatus",
    "MessageLimit",
    "Namespace",
    "NamespacePrefix",
    "Partial",
    "Quota",
    "Recent",
    "Response",
    "Search",
    "Status",
    "StatusKind",
    "Tagged",
    "TaggedStatus",
    "UidBatches",
    "Unknown",
    "Vanished",
    "parse_greeting",
    "parse_response",
]

TaggedStatus: TypeAlias = Choice["OK", "NO", "BAD"]
StatusKind: TypeAlias = Choice["OK", "NO", "BAD", "BYE", "PREAUTH"]


class Greeting(NamedTuple):
    """The first line of a connection (RFC 9051 §7.1.4, §7.1.5).

    Attributes:
        kind: `OK`, `PREAUTH` (logged in already) or `BYE` (refused; NO and BAD count as that).
        code: The response code; CAPABILITY spares a round trip.
        text: For people.
    """

    kind: Choice["OK", "PREAUTH", "BYE"]
    code: Code | None
    text: str


class Tagged(NamedTuple):
    """The end of a command (production `response-tagged`)."""

    tag: str
    status: TaggedStatus
    code: Code | None
    text: str


class Status(NamedTuple):
    """An untagged status response (production `resp-cond-state`, `resp-cond-bye`, `resp-cond-auth`)."""

    kind: StatusKind
    code: Code | None
    text: str


class Continuation(NamedTuple):
    """`+`: the server waits for more of a command (production `continue-req`). The text may be empty."""

    text: str


class Capability(NamedTuple):
    """CAPABILITY: the names in capitals."""

    names: frozenset[str]


class Enabled(NamedTuple):
    """ENABLED: the extensions that are on now, in capitals (RFC 9051 §7.2.1)."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Exists:
    """EXISTS: how many messages the mailbox holds."""

    count: int


@dataclass(frozen=True, slots=True)
class Recent:
    """RECENT: how many messages no session has seen yet (RFC 3501)."""

    count: int


class Expunge(NamedTuple):
    """EXPUNGE: the message with this sequence number is gone; those behind it move up."""

    seq: int


class Flags(NamedTuple):
    """FLAGS: the flags in use in the mailbox."""

    flags: frozenset[str]


class Id(NamedTuple):
    """ID: what the server says about itself (RFC 2971 §3.2)."""

    fields: Mapping[str, str | None]


class Unknown(NamedTuple):
    """A response of a kind not known here, as it came, literals cut out."""

    text: bytes


Response: TypeAlias = (
    Tagged
    | Status
    | Continuation
    | Capability
    | Enabled
    | Exists
    | Recent
    | Expunge
    | FetchScan
    | Flags
    | Id
    | ListItem
    | MailboxStatus
    | Namespace
    | Quota
    | Search
    | Esearch
    | Vanished
    | UidBatches
    | Unknown
)

# A status without its `*` is no tag: `OK no such mailbox`.
_TAGGED = re.compile(
    rb"(?!(?:OK|NO|BAD|BYE|PREAUTH) )([^ ()\[\]{}\"*+%\\\r\n]+) +(OK|NO|BAD)(?: +|\Z|(?=\[))", re.IGNORECASE
)
_STATUS = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: +|\Z|(?=\[))", re.IGNORECASE)
_KEYWORD = re.compile(rb"(?:(\d{1,20}) +)?([A-Za-z][A-Za-z0-9-]*)(?: +|\Z|(?=\())")
_START = re.compile(rb"[\0 ]*(\*?) *")


def parse_greeting(text: bytes) -> Greeting:
    """Parse the first line of a connection.

    Raises:
        ProtocolError: It is no greeting: the port belongs to something else.
    """
    position = _skip_start(text)[0]
    match = _STATUS.match(text, position)
    if match is None:
        raise malformed("the greeting of an IMAP server was expected", text, position)
    kind = match[1].decode("ascii").upper()
    code, rest = parse_response_text(text[match.end() :])
    return Greeting("OK" if kind == "OK" else "PREAUTH" if kind == "PREAUTH" else "BYE", code, rest)


def parse_response(text: bytes, literals: Sequence[Literal] = ()) -> Response:
    """Parse one response.

    Args:
        text: The response without its final CRLF, its literals cut out.
        literals: Its literals.

    Raises:
        ProtocolError: Its kind is known, and it is malformed.
    """
    position, starred = _skip_start(text)
    if not starred:
        if text.startswith(b"+", position):
            return Continuation(text[position + 1 :].strip(b" ").decode("utf-8", "replace"))
        match = _TAGGED.match(text, position)
        if match is not None:
            code, rest = parse_response_text(text[match.end() :])
            # The expression lets no other status through.
            status = cast(TaggedStatus, match[2].decode("ascii").upper())
            return Tagged(match[1].decode("ascii", "replace"), status, code, rest)
    match = _STATUS.match(text, position)
    if match is not None:
        code, rest = parse_response_text(text[match.end() :])
        return Status(cast(StatusKind, match[1].decode("ascii").upper()), code, rest)
    if starred and text.startswith(b"[", position):
        code, rest = parse_response_text(text[position:])
        if code is not None:
            return Status("OK", code, rest)
    match = _KEYWORD.match(text, position)
    if match is None:
        return Unknown(text)
    keyword = match[2].upper()
    if keyword == b"FETCH" or keyword == b"UIDFETCH":
        return scan_fetch(text, literals, position)
    if match[1] is not None:
        count = _COUNTED.get(keyword)
        if count is None:
            return Unknown(text)
        if int(match[1]) > MAX_NUMBER:
            raise malformed("a number of 32 bits was expected", text, match.start(1))
        return count(int(match[1]))
    parse = _KEYED.get(keyword)
    return Unknown(text) if parse is None else parse(Cursor(text, match.end(), literals))


def _skip_start(text: bytes) -> tuple[int, bool]:
    """Where a response begins behind its `*`, and whether it has one."""
    match = _START.match(text)
    if match is None:
        raise ProtocolError("a response was expected")
    return match.end(), match[1] == b"*"


def _names(cursor: Cursor) -> frozenset[str]:
    return frozenset([word.decode("ascii", "replace").upper() for word in split_words(cursor.text[cursor.pos :])])


def _flags(cursor: Cursor) -> Flags:
    return Flags(frozenset(flag.decode("utf-8", "replace") for flag in cursor.atoms()))


def _id(cursor: Cursor) -> Id:
    value = None if cursor.at_end() else cursor.parse_value()
    words = [
        None if word is None or isinstance(word, list) else literal_bytes(word).decode("utf-8", "replace")
        for word in (value if isinstance(value, list) else [])
    ]
    return Id({key: word for key, word in zip(words[::2], words[1::2], strict=False) if key is not None})


_COUNTED: Final[dict[bytes, Callable[[int], Response]]] = {b"EXISTS": Exists, b"RECENT": Recent, b"EXPUNGE": Expunge}
_KEYED: Final[dict[bytes, Callable[[Cursor], Response]]] = {
    b"CAPABILITY": lambda cursor: Capability(_names(cursor)),
    b"ENABLED": lambda cursor: Enabled(_names(cursor)),
    b"ESEARCH": parse_esearch,
    b"FLAGS": _flags,
    b"ID": _id,
    b"LIST": parse_list,
    b"LSUB": parse_list,
    b"NAMESPACE": parse_namespace,
    b"QUOTA": parse_quota,
    b"SEARCH": parse_search,
    b"STATUS": parse_status,
    b"UIDBATCHES": parse_uid_batches,
    b"VANISHED": parse_vanished,
    b"XLIST": parse_list,
}
