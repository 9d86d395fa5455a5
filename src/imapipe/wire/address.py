"""Mail addresses as ENVELOPE carries them (RFC 9051 §9, `address` and `env-from` …)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from imapipe.wire.encoded_word import decode_header

Pieces: TypeAlias = tuple[bytes | None, bytes | None, bytes | None]
"""Name, mailbox and host, not yet decoded; None for NIL."""


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
        return f"{self.name} <{self.email}>" if self.name else self.email


def decode_addresses(pieces: Iterable[Pieces]) -> tuple[Address, ...]:
    """Decode addresses; of a group only its members are left.

    A group begins with an address without host and ends with one without anything. A beginning without an end
    is an address whose host the server left out.
    """
    found: list[Address] = []
    group = -1
    for name, mailbox, host in pieces:
        if host is None and mailbox is None:
            if group >= 0:
                del found[group]
                group = -1
            continue
        if host is None:
            group = len(found)
        # An encoded word has no meaning in the mailbox and the host (RFC 2047 §5).
        found.append(Address(decode_header(name or b""), _plain(mailbox), _plain(host)))
    return tuple(found)


def _plain(raw: bytes | None) -> str:
    return raw.decode("utf-8", "replace") if raw else ""
