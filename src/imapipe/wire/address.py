"""Mail addresses: as ENVELOPE carries them (RFC 9051 §9, `address`), and as a header does (RFC 5322 §3.4, §4.4).

A header is read as its writers meant it: a name with a comma or brackets that are not quoted, a missing `>`, an
address without brackets behind a name, encoded words in quotes. Names are split off before they are decoded, because
a decoded name may hold commas and brackets.

Invariants:

- No function raises; nothing that comes out holds a surrogate, or is an address without name, mailbox and host.
- Time is linear in the length of the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from imapipe.wire.charset import decode_plain
from imapipe.wire.encoded_word import decode_header

Pieces: TypeAlias = tuple[bytes | None, bytes | None, bytes | None]
"""Name, mailbox and host, not yet decoded; None for NIL."""

# What servers put where a part is missing: Dovecot; Cyrus; UW-IMAP and its heirs.
_MISSING_MAILBOX: Final = frozenset({b"MISSING_MAILBOX", b"INVALID_ADDRESS"})
_MISSING_HOST: Final = frozenset({b"MISSING_DOMAIN", b"unspecified-domain", b".MISSING-HOST-NAME.", b".SYNTAX-ERROR."})

# One token of a header. An encoded word may hold commas and brackets although it must not (RFC 2047 §5), a domain
# literal colons. A quotation mark without its other half, and a lone backslash, are nothing.
_TOKEN: Final = re.compile(
    rb"""
      (?P<space>[ \t\r\n]++)
    | (?P<quoted>"(?:[^"\\]++|\\.)*+")
    | (?P<word>(?:=\?[^?\s]*+\?[BbQq]\?[^?]*+\?=|@\[[^\]<>\s]{0,80}\]|[^\s"(),:;<>\\]|\\.)++)
    | (?P<special>[(),:;<>])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
# The addresses that are nearly all: `ann@example.org`, `Ann Smith <ann@example.org>`.
_EASY: Final = re.compile(
    rb"[ \t\r\n]*+(?:([A-Za-z0-9][A-Za-z0-9 '_-]*+)?<([A-Za-z0-9._+=/-]++)@([A-Za-z0-9.-]++)>"
    rb"|([A-Za-z0-9._+=/-]++)@([A-Za-z0-9.-]++))[ \t\r\n]*+(?:,|\Z)"
)
_SPEC: Final = re.compile(rb"[^\s@()<>]++@[^\s@()<>]++")
# How many commas a name without quotes may hold: `Smith, John, Jr. <john@example.org>`.
_MAX_COMMAS: Final = 3


class Address(NamedTuple):
    """One address (RFC 9051 §9, `address`), decoded.

    Attributes:
        name: The display name, "" when there is none.
        mailbox: What stands before the `@`.
        host: What stands behind it, "" when the sender left it out.
    """

    name: str
    mailbox: str
    host: str

    @property
    def email(self) -> str:
        """`mailbox@host`, or the mailbox alone."""
        return f"{self.mailbox}@{self.host}" if self.host else self.mailbox

    def __str__(self) -> str:
        email = self.email
        return f"{self.name} <{email}>" if self.name and email else self.name or email


def decode_addresses(pieces: Iterable[Pieces]) -> tuple[Address, ...]:
    """Decode the addresses of an ENVELOPE; of a group only its members are left.

    A group begins with an address without host and ends with one without anything. A beginning without an end
    is an address whose host the server left out. What servers write for a missing part is "" here.
    """
    found: list[Address] = []
    group = -1
    # Whether the last one is a word of which Dovecot made an address: `Smith` of `Smith, John <john@example.org>`.
    is_word = False
    for name, mailbox, host in pieces:
        if host is None and mailbox is None:
            if group >= 0:
                del found[group]
                group = -1
            if name:
                found.append(Address(decode_header(name), "", ""))
            continue
        if host is None:
            group = len(found)
        # An encoded word has no meaning in the mailbox and the host (RFC 2047 §5).
        shown = decode_header(name) if name else ""
        if is_word and name:
            shown = f"{found.pop().mailbox}, {shown}"
        is_word = False
        if host in _MISSING_HOST:
            host = None  # noqa: PLW2901
            is_word = not name and bool(mailbox)
        if mailbox in _MISSING_MAILBOX:
            mailbox = None  # noqa: PLW2901
            is_word = False
        if shown or mailbox or host:
            found.append(Address(shown, decode_plain(mailbox) if mailbox else "", decode_plain(host) if host else ""))
    return tuple(found)


def parse_addresses(raw: bytes) -> tuple[Address, ...]:
    """Read the addresses of a header field such as From (RFC 5322 §3.4, `address-list`); of groups their members.

    Args:
        raw: The value as it is in the message.
    """
    return tuple(iter_addresses(raw))


def iter_addresses(raw: bytes) -> Iterator[Address]:
    """The same, one by one: who needs the first of a million reads no further."""
    at, end = 0, len(raw)
    while at < end:
        match = _EASY.match(raw, at)
        if match is None:
            yield from _read(raw[at:] if at else raw, may_decode=True)
            return
        name, mailbox, host, bare_mailbox, bare_host = match.groups()
        yield Address(
            name.decode("ascii").rstrip() if name else "",
            (mailbox or bare_mailbox).decode("ascii"),
            (host or bare_host).decode("ascii"),
        )
        at = match.end()


def _read(raw: bytes, *, may_decode: bool) -> Iterator[Address]:
    """Read addresses; `may_decode` says whether encoded words can hold addresses, which broken senders do."""
    entry = _Entry()
    # The words before a comma that are no address: the beginning of a name that should be in quotes, perhaps.
    waiting: list[_Entry] = []
    for kind, text in _tokens(raw, comments=True):
        if kind == "<":
            # The innermost counts.
            entry.angle = []
        elif kind == ":":
            if entry.angle is None:
                # The name of a group.
                entry, waiting = _Entry(), []
            else:
                # A route (RFC 5322 §4.4, `obs-route`), or `mailto`.
                entry.angle.clear()
            entry.is_closed = False
        elif kind == ">":
            entry.is_closed = True
        elif kind == "," and entry.is_in_route:
            entry.add(b",")
        elif kind in {",", ";"}:
            if kind == "," and not entry.has_address:
                if entry.runs:
                    waiting.append(entry)
                if len(waiting) > _MAX_COMMAS:
                    yield from waiting.pop(0).addresses(may_decode=may_decode)
            else:
                yield from _finish(entry, waiting, may_decode=may_decode)
                waiting = []
            entry = _Entry()
        elif kind == "comment":
            entry.comments.append(text)
        elif kind == "space":
            entry.has_space = True
        else:
            entry.add(text)
    yield from _finish(entry, waiting, may_decode=may_decode)


def _finish(entry: _Entry, waiting: list[_Entry], *, may_decode: bool) -> Iterator[Address]:
    """The addresses of an entry and of what waits before it, which is part of its name where it has brackets."""
    if entry.angle is not None and waiting:
        pieces = [b" ".join(each.runs) for each in waiting]
        if entry.runs:
            pieces.append(b" ".join(entry.runs))
        entry.runs = [bytearray(b", ".join(pieces))]
        entry.comments = [comment for each in (*waiting, entry) for comment in each.comments]
    else:
        for each in waiting:
            yield from each.addresses(may_decode=may_decode)
    yield from entry.addresses(may_decode=may_decode)


class _Entry:
    """What stands between two commas."""

    __slots__ = ("_has_at", "angle", "comments", "has_space", "is_closed", "runs")

    def __init__(self) -> None:
        # Words, each of what stands together without space; of the name, or of an address without brackets.
        self.runs: list[bytearray] = []
        self.comments: list[bytes] = []
        # What stands behind the last `<`; None without one.
        self.angle: list[bytes] | None = None
        self.is_closed = False
        self.has_space = True
        # Whether the last of the runs has an `@` in it.
        self._has_at = False

    @property
    def is_in_route(self) -> bool:
        """Whether a comma here separates the hosts of a route, `<@a,@b:ann@c>`."""
        return self.angle is not None and not self.is_closed and bool(self.angle) and self.angle[0][:1] == b"@"

    @property
    def has_address(self) -> bool:
        """Whether it is more than words."""
        return self.angle is not None or any(b"@" in run or b"=?" in run for run in self.runs)

    def add(self, text: bytes) -> None:
        """Take a word."""
        if self.angle is not None and not self.is_closed:
            self.angle.append(text)
        elif self.runs and (not self.has_space or self._is_glued(text)):
            self.runs[-1] += text
            self._has_at = self._has_at or b"@" in text
        else:
            self.runs.append(bytearray(text))
            self._has_at = b"@" in text
        self.has_space = False

    def _is_glued(self, text: bytes) -> bool:
        """Whether a word belongs to the one before in spite of space: around `@` and dots (RFC 5322 §4.4)."""
        last = self.runs[-1][-1:]
        return text[:1] == b"@" or last == b"@" or (self._has_at and (text[:1] == b"." or last == b"."))

    def addresses(self, *, may_decode: bool) -> Iterator[Address]:
        """The address that it is, if it is one."""
        runs, comments = self.runs, self.comments
        if self.angle is not None:
            spec = b"".join(self.angle)
            if b"=?" in spec:
                spec = decode_header(spec).encode()
        else:
            text = b" ".join(runs)
            if may_decode and b"=?" in text:
                decoded = decode_header(text)
                if "@" in decoded:
                    yield from _read(decoded.encode(), may_decode=False)
                    return
            # The last word with an `@`: `Ann Smith ann@example.org`.
            at = next((index for index in range(len(runs) - 1, -1, -1) if b"@" in runs[index]), -1)
            if at < 0 and comments and runs and _SPEC.fullmatch(comments[-1]) is not None:
                # The comment is the address, not the name: `Ann Smith (ann@example.org)`.
                runs, comments, at = [*runs, bytearray(comments[-1])], comments[:-1], len(runs)
            if at < 0:
                if len(runs) == 1 and b"=?" not in text:
                    at = 0
                elif text.endswith((b":", b":;")):
                    return
            spec = bytes(runs[at]) if at >= 0 else b""
            runs = runs[:at] if at >= 0 else runs
            if spec.endswith((b":", b":;")):
                return
        mailbox, host = _split(spec)
        name = b" ".join(runs)
        if comments:
            comment = b" ".join(comments)
            name = name + b" (" + comment + b")" if name else comment
        address = Address(decode_header(name).strip(), mailbox, host)
        if any(address):
            yield address


def _split(spec: bytes) -> tuple[str, str]:
    """Mailbox and host of `ann@example.org`."""
    mailbox, at, host = spec.rpartition(b"@")
    if not at:
        mailbox, host = host, b""
    return decode_plain(mailbox), decode_plain(host)


def _tokens(raw: bytes, *, comments: bool) -> Iterator[tuple[str, bytes]]:
    """The tokens of a header: kind and text without quotes. A comment is one token, whatever it nests."""
    depth = start = 0
    for match in _TOKEN.finditer(raw):
        kind, text = match.lastgroup, match[0]
        if text == b"(" or text == b")":
            if not comments:
                yield "space", b" "
            elif text == b"(":
                if not depth:
                    start = match.end()
                depth += 1
            elif depth:
                depth -= 1
                if not depth:
                    yield "comment", raw[start : match.start()]
        elif depth or kind == "other":
            continue
        elif kind == "quoted":
            yield kind, _PAIR.sub(rb"\1", text[1:-1]) if b"\\" in text else text[1:-1]
        elif kind == "special":
            yield text.decode("ascii"), text
        else:
            yield kind or "", _PAIR.sub(rb"\1", text) if b"\\" in text else text
    if depth:
        # A parenthesis that is never closed hides nothing.
        yield from _tokens(raw[start:], comments=False)
